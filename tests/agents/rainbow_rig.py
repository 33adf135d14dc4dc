"""Small Rainbow agents with a filled replay, and what other agents are filled by, for the tests of agents and heads."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from rlrep.agents import OnlineAgent
from rlrep.agents.learner import Learner
from rlrep.agents.rainbow import Rainbow, RainbowConfig
from rlrep.contract.agent import AgentSpec
from rlrep.heads import HeadConfig
from rlrep.nn import EncoderConfig, MLPEncoderConfig, PixelEncoderConfig
from rlrep.views import AmplitudeScale, NoAugment, RandomCrop, View

PIXELS = spaces.Box(0, 255, (8, 25, 25), np.uint8)
STATE = spaces.Box(-np.inf, np.inf, (5,), np.float32)
ACTIONS = spaces.Discrete(3)
SMALL = RainbowConfig(hidden_dim=16, batch_size=8, capacity=200, n_step=3, atoms=7, v_min=-2.0, v_max=4.0, lr=1e-3)


def make_rainbow(
    *,
    pixels: bool = True,
    config: RainbowConfig = SMALL,
    aux: dict[str, HeadConfig] | None = None,
    encoder: EncoderConfig | None = None,
    augment: View | None = None,
    compile: Any = "off",
    seed: int = 0,
    actions: spaces.Discrete[Any] = ACTIONS,
) -> Rainbow:
    """A small agent with 80 random transitions of two environments in its replay."""
    space = PIXELS if pixels else STATE
    own = PixelEncoderConfig(strides=(5, 2), channels=4, kernels=(5, 2), trunk="none", init="torch")
    agent = config.make(
        AgentSpec(
            space,
            actions,
            frame_stack=2 if pixels else 1,
            num_envs=2,
            encoder=encoder or (own if pixels else MLPEncoderConfig(8, 6)),
            augment=augment or (RandomCrop(23) if pixels else AmplitudeScale()),
            aux=aux or {},
            seed=seed,
            compile=compile,
        )
    )
    fill(agent, space, action=lambda rng: rng.integers(0, int(actions.n), 2))
    return agent


def observations(space: spaces.Box, rng: np.random.Generator, rows: int = 2) -> np.ndarray[Any, Any]:
    shape = (rows, *space.shape)
    if space.dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape).astype(np.float32)


def fill(
    agent: OnlineAgent[Any],
    space: spaces.Box,
    steps: int = 40,
    *,
    reward: Callable[[np.random.Generator], Any] = lambda rng: rng.integers(-1, 2, 2),
    action: Callable[[np.random.Generator], Any] = lambda rng: rng.integers(0, 3, 2),
) -> None:
    """Let an agent store random steps of two environments."""
    rng = np.random.default_rng(0)
    agent.begin(observations(space, rng))
    for step in range(steps):
        ended = np.array([step % 10 == 9, step % 7 == 6])
        seen = observations(space, rng)
        outcome: Any = SimpleNamespace(
            obs=np.where(ended.reshape(2, *[1] * len(space.shape)), observations(space, rng), seen),
            final_obs=seen,
            reward=reward(rng).astype(np.float32),
            terminated=ended & [True, False],
            truncated=ended & [False, True],
            died=np.zeros(2, bool),
        )
        agent.observe(action(rng), outcome)


def parameters(agent: Learner[Any, Any]) -> dict[str, Tensor]:
    """Copies of everything learned or tracked."""
    named = {**agent.nets.state_dict(), **{f"heads.{k}": v for k, v in agent.heads.modules.state_dict().items()}}
    return {name: tensor.clone() for name, tensor in named.items()}


def unaugmented(pixels: bool = True) -> View:
    """A view that changes nothing of the rig's frames."""
    assert pixels
    return NoAugment(25)
