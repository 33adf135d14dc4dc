"""An algorithm of Stable-Baselines3 as an agent of rlrep's loop: its policy, its replay buffer, its `train()`; steps,
evaluation, logs and checkpoints are rlrep's, so that it stands in the same report as rlrep's own agents."""

from contextlib import suppress
from copy import deepcopy
from operator import attrgetter
from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from torch import Tensor

from rlrep.contract.agent import AgentSpec
from rlrep.contrast import effective_rank, feature_std
from rlrep.replay.generators import restore

from .extractor import EncoderExtractor, MLPExtractor, OwnExtractor
from .joint import extractor_of
from .mixin import AuxMixin

Array = NDArray[Any]
NAMES = {
    "train/critic_loss": "loss/critic",
    "train/actor_loss": "loss/actor",
    "train/ent_coef_loss": "loss/alpha",
    "train/ent_coef": "sac/alpha",
    "train/loss": "loss/q",
    "rollout/exploration_rate": "dqn/epsilon",
}
"""SB3's metrics under the names that rlrep's agents have for them; others are left out."""
SMALLEST_FRAME = 36
"""Side, in pixels, that SB3's NatureCNN needs."""


class SB3Agent:
    """See `rlrep.contract.agent.Agent`. SB3 draws from the global streams, whose state the loop saves.

    hidden: layers behind the features extractor; None = SB3's own. agent_steps: of the run, for SB3's schedules.
    Raises ValueError on frames that are too small, and on a compiled update.
    """

    def __init__(
        self,
        title: str,
        algorithm: type[AuxMixin],
        arguments: dict[str, Any],
        spec: AgentSpec,
        *,
        hidden: list[int] | None,
        agent_steps: int | None = None,
    ) -> None:
        if spec.compile != "off":
            raise ValueError(f"compile={spec.compile}: Stable-Baselines3's update is not compiled, use compile=off")
        self.title, self._spec, self._agent_steps = title, spec, agent_steps or 0
        policy, options = _policy(spec, hidden)
        model = algorithm(
            policy,
            None,
            **arguments,
            policy_kwargs=options,
            aux=spec.aux,
            augment=spec.augment,
            seed=spec.seed,
            device=spec.device,
            _init_setup_model=False,
        )
        model.observation_space, model.action_space = _read_space(spec), deepcopy(spec.action_space)
        model.n_envs = spec.num_envs
        # Of observations before any view, which may be larger than what the policy reads.
        model.replay_buffer = self._replay = model._make_buffer(spec.observation_space)
        model._setup_model()  # as SB3's own load() does
        model.set_logger(Logger(None, []))
        self._model = model
        self.rings = {"replay": self._replay.ring}
        self._obs: Array | None = None
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._bad: list[str] = []
        self._meters_before: dict[str, float] = {}

    # Acting

    @property
    def updates(self) -> int:
        """Updates made."""
        return self._model._n_updates

    def act(self, obs: Array, *, explore: bool) -> Array:
        """Return the policy's actions `(N, ...)` for observations `(N, ...)`."""
        view = self._spec.augment.fixed(torch.as_tensor(obs)).numpy()
        action = np.asarray(self._model.predict(view, deterministic=not explore)[0])
        return self._rounded(action) if explore else action

    def random_actions(self, count: int) -> Array:
        """Return uniform actions `(count, ...)`."""
        return self._rounded(np.stack([self._model.action_space.sample() for _ in range(count)]))

    def _rounded(self, action: Array) -> Array:
        """Scale actions to [-1, 1] and back, as SB3 does on their way to the environment."""
        policy = self._model.policy
        if not isinstance(self._model.action_space, spaces.Box):
            return action
        return np.asarray(policy.unscale_action(policy.scale_action(action)))

    def begin(self, obs: Array) -> None:
        """Take the first observations `(N, ...)` of new episodes."""
        self._obs = np.array(obs)

    def observe(self, action: Array, step: Any) -> None:
        """Store one vector step (a `rlrep.contract.agent.Step`), and do what SB3 does after each."""
        model, space = self._model, self._model.action_space
        stored = model.policy.scale_action(action) if isinstance(space, spaces.Box) else action
        cut = step.truncated & ~step.terminated | step.died
        infos = [{"TimeLimit.truncated": bool(c), "died": bool(d)} for c, d in zip(cut, step.died, strict=True)]
        ended = step.terminated | step.truncated | step.died
        assert self._obs is not None, "begin() comes first"
        self._replay.add(self._obs, step.final_obs, stored, step.reward, ended, infos)
        self._replay.bury(step.died)
        self._obs = np.array(step.obs)
        model.num_timesteps += len(ended)
        model._update_current_progress_remaining(model.num_timesteps, max(self._agent_steps, model.num_timesteps))
        model._on_step()

    # Learning

    def ready(self) -> bool:
        """Whether an update has something to sample."""
        return self._replay.size() > 0

    def update(self) -> None:
        """Make one update, SB3's own."""
        with suppress(FloatingPointError):  # the loop asks nonfinite() and tells the user
            self._model.train(gradient_steps=1, batch_size=self._model.batch_size)
        logged = self._model.logger.name_to_value
        found = {NAMES.get(name, name): float(value) for name, value in logged.items() if _is_kept(name)}
        self._bad = [name for name, value in found.items() if not np.isfinite(value)]
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and meters of the last batch's encoding."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means | self._diagnose()

    def _diagnose(self) -> dict[str, float]:
        """Return meters of the encoding that learns values; before the first update of a session as they were."""
        network, drawn = self._model.aux_network(), self._replay.last
        if drawn is None:
            return self._meters_before
        if not list(extractor_of(network).parameters()):
            return {}
        with torch.no_grad():
            latent = network.extract_features(drawn.samples.observations, extractor_of(network))
        return {"rep/effective_rank": float(effective_rank(latent)), "rep/feature_std": float(feature_std(latent))}

    def nonfinite(self) -> list[str]:
        """Name the terms of the last update that are NaN or infinite."""
        return self._bad

    def last_batch(self) -> dict[str, Tensor]:
        """Return the tensors of the last update's batch."""
        drawn = self._replay.last
        named = {} if drawn is None else drawn.samples._asdict()
        return {name: value for name, value in named.items() if value is not None}

    # What is known of it

    def describe(self) -> list[str]:
        """Return start-up lines: parameter counts, and where the replay lives."""
        policy, heads = self._model.policy, getattr(self._model, "aux_modules", None)
        count = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        extra = 0 if heads is None else sum(p.numel() for p in heads.heads.parameters() if p.requires_grad)
        encoder = type(extractor_of(self._model.aux_network())).__name__
        rows, size = self._replay.buffer_size * self._replay.n_envs, self._replay.ring.nbytes
        return [
            f"agent: {self.title} of Stable-Baselines3 {stable_baselines3.__version__} with {encoder}, {count:,} "
            f"parameters (targets included) and {extra:,} in heads",
            f"replay: {rows:,} transitions in main memory, {size:,} bytes when full, {size // rows:,} per transition",
        ]

    def state(self) -> dict[str, Any]:
        """Return everything but the replay's ring and the global random streams."""
        model = self._model
        variables = model._get_torch_save_params()[1]
        draws = model._draws
        return {
            "parameters": model.get_parameters(),
            "variables": {name: attrgetter(name)(model) for name in variables},
            "numbers": {name: getattr(model, name) for name in self._numbers()},
            "actions": model.action_space.np_random.bit_generator.state,
            "draws": [draws.host.get_state(), draws.device.get_state()],
            "replay": self._replay.labels(),
            "obs": self._obs,
            "sums": [self._sums, self._counts],
            "logged": {name: float(value) for name, value in model.logger.name_to_value.items()},
            "meters": self._diagnose(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state()`; the ring is restored before."""
        model = self._model
        model.set_parameters(state["parameters"], exact_match=True)
        for name, value in state["variables"].items():
            attrgetter(name)(model).data.copy_(value)
        for name in self._numbers():
            setattr(model, name, state["numbers"][name])
        model.action_space.np_random.bit_generator.state = state["actions"]
        for generator, saved in zip((model._draws.host, model._draws.device), state["draws"], strict=True):
            restore(generator, saved)
        self._replay.load_labels(state["replay"])
        self._obs = None if state["obs"] is None else np.array(state["obs"])
        self._sums, self._counts = dict(state["sums"][0]), dict(state["sums"][1])
        model.logger.name_to_value.update(state["logged"])
        self._meters_before = state["meters"]

    def _numbers(self) -> list[str]:
        names = ("num_timesteps", "_n_updates", "_current_progress_remaining", "_n_calls", "exploration_rate")
        return [name for name in names if hasattr(self._model, name)]


def _is_kept(name: str) -> bool:
    return name in NAMES or name.startswith("aux/")


def _read_space(spec: AgentSpec) -> spaces.Box:
    """Return the space of what the policy reads: observations under the view."""
    space = spec.observation_space
    if spec.view_shape == space.shape:
        return space
    return spaces.Box(0, 255, spec.view_shape, np.uint8)


def _policy(spec: AgentSpec, hidden: list[int] | None) -> tuple[str, dict[str, Any]]:
    """Return the name of SB3's policy and its options. Raises ValueError on frames too small for its CNN."""
    shape, options = spec.view_shape, {} if hidden is None else {"net_arch": hidden}
    name = "CnnPolicy" if len(shape) == 3 else "MlpPolicy"
    if not isinstance(spec.encoder, OwnExtractor):
        chosen = {
            "features_extractor_class": EncoderExtractor,
            "features_extractor_kwargs": {"encoder": spec.encoder},
        }
        return name, options | chosen | {"normalize_images": False}
    if len(shape) == 3 and min(shape[1:]) < SMALLEST_FRAME:
        raise ValueError(
            f"encoder=sb3 (its NatureCNN) needs frames of {SMALLEST_FRAME} pixels or more, these are {shape[1:]}: "
            "choose another, as encoder=curl_small"
        )
    return name, options | ({"features_extractor_class": MLPExtractor} if spec.aux and len(shape) != 3 else {})
