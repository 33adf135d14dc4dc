"""Updates of public agents on synthetic data, by their own code: MishaLaskin/curl and Kaixhin/Rainbow (checkouts given
by path) and Stable-Baselines3."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

Update = Callable[[], object]
ACTIONS = 6


def curl_update(checkout: Path, batch: int, device: str) -> Update:
    """Return one CURL update with the paper's networks on 100-pixel frames cropped to 84.

    The modules that its imports name but an update does not use (gym, skimage) are stood in for by empty ones.
    Raises FileNotFoundError if the checkout lacks curl_sac.py.
    """
    if not (checkout / "curl_sac.py").exists():
        raise FileNotFoundError(f"{checkout} is no checkout of MishaLaskin/curl: curl_sac.py is missing")
    for name in ("gym", "skimage", "skimage.util", "skimage.util.shape"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["gym"].Wrapper = object  # type: ignore[attr-defined]
    sys.modules["skimage.util.shape"].view_as_windows = np.lib.stride_tricks.sliding_window_view  # type: ignore[attr-defined]
    sys.path.insert(0, str(checkout))
    import curl_sac  # type: ignore[import-not-found]
    import utils  # type: ignore[import-not-found]

    where = torch.device(device)
    sizes = {"hidden_dim": 1024, "critic_tau": 0.01, "encoder_tau": 0.05, "init_temperature": 0.1}
    agent = curl_sac.CurlSacAgent((9, 84, 84), (ACTIONS,), where, **sizes)
    memory = utils.ReplayBuffer((9, 100, 100), (ACTIONS,), 1000, batch, where, image_size=84)
    rng = np.random.default_rng(0)
    for _ in range(300):
        frame = rng.integers(0, 256, (9, 100, 100), dtype=np.uint8)
        memory.add(frame, rng.uniform(-1, 1, ACTIONS), 1.0, frame, False)
    logger = types.SimpleNamespace(log=_ignore, log_histogram=_ignore, log_param=_ignore)
    steps = iter(range(1, 10**9))
    return lambda: agent.update(memory, logger, next(steps))


def sb3_update(batch: int, device: str, states: int) -> Update:
    """Return one update of Stable-Baselines3's SAC with its default networks (2 x 256) on `states`-dimensional
    observations."""
    import gymnasium
    from gymnasium import spaces
    from stable_baselines3 import SAC

    class Still(gymnasium.Env[np.ndarray, np.ndarray]):
        observation_space = spaces.Box(-np.inf, np.inf, (states,), np.float32)
        action_space = spaces.Box(-1, 1, (ACTIONS,), np.float32)

        def reset(self, *, seed: int | None = None, options: object = None):  # type: ignore[no-untyped-def]
            super().reset(seed=seed)
            return self.np_random.standard_normal(states, np.float32), {}

        def step(self, action):  # type: ignore[no-untyped-def]
            return self.np_random.standard_normal(states, np.float32), 1.0, False, False, {}

    model = SAC("MlpPolicy", Still(), device=device, batch_size=batch, buffer_size=10_000, learning_starts=1000)
    model.learn(1001)
    return lambda: model.train(gradient_steps=1, batch_size=batch)


def rainbow(checkout: Path, device: str, replay: int) -> tuple[Update, Update]:
    """Return one update of Kaixhin's Rainbow with its data-efficient settings, new noise included, and one action.

    replay: transitions stored, which is all that its memory holds. Raises FileNotFoundError if the checkout lacks
    agent.py.
    """
    if not (checkout / "agent.py").exists():
        raise FileNotFoundError(f"{checkout} is no checkout of Kaixhin/Rainbow: agent.py is missing")
    sys.modules.setdefault("atari_py", types.ModuleType("atari_py"))
    sys.path.insert(0, str(checkout))
    import agent as code  # type: ignore[import-not-found]
    import memory  # type: ignore[import-not-found]

    where = torch.device(device)
    settings = types.SimpleNamespace(
        **{"architecture": "data-efficient", "history_length": 4, "hidden_size": 256, "noisy_std": 0.1, "model": None},
        **{"atoms": 51, "V_min": -10.0, "V_max": 10.0, "multi_step": 20, "discount": 0.99, "batch_size": 32},
        **{"learning_rate": 1e-4, "adam_eps": 1.5e-4, "norm_clip": 10, "device": where},
        **{"priority_exponent": 0.5, "priority_weight": 0.4},
    )
    learner = code.Agent(settings, types.SimpleNamespace(action_space=lambda: ACTIONS))
    store = memory.ReplayMemory(settings, replay)
    frames = torch.rand(64, 4, 84, 84)
    for step in range(replay):
        store.append(frames[step % 64], step % ACTIONS, float(step % 50 == 0), step % 300 == 299)
    state = frames[0].to(where)

    def update() -> None:
        learner.reset_noise()
        learner.learn(store)

    def act() -> None:
        learner.reset_noise()
        learner.act(state)

    return update, act


def _ignore(*_: object) -> None: ...
