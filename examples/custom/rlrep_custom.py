"""A head and an environment from outside the repository; CONTRIBUTING.md explains both contracts.

pip install examples/custom
python -m rlrep.train env=pendulum aux=inverse_model aux.inverse_model.weight=0.5 preset=cpu
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import RescaleAction, TimeLimit
from torch import Tensor, nn

from rlrep.heads import Encoded, Encoders, Head, HeadConfig, Metrics
from rlrep.replay import Batch, Pairs


@dataclass(frozen=True)
class InverseModel(HeadConfig):
    """Settings of `aux=inverse_model` (Pathak et al. 2017, arXiv 1705.05363): which action led from here to there?"""

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "InverseModelHead":
        return InverseModelHead(latent_dim, spaces.flatdim(action_space))


class InverseModelHead(Head):
    """Squared error of continuous actions, told from both latents."""

    def __init__(self, latent_dim: int, actions: int) -> None:
        super().__init__()
        self.predict = nn.Linear(2 * latent_dim, actions)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        both = torch.cat([encoded.latent, encoders.online(batch.next_obs)], 1)
        return nn.functional.mse_loss(self.predict(both), batch.action), {}


@dataclass(frozen=True)
class Pendulum:
    """Settings of `env=pendulum`: gymnasium's, with actions in [-1, 1]."""

    num_envs: int = 1
    obs: str = "state"

    def make(self, seed: int) -> "SwingUp":
        return SwingUp(seed)


class SwingUp(TimeLimit[Any, Any]):
    """Episodes of 200 steps, and a state that runs resume from."""

    frame_stack = action_repeat = 1

    def __init__(self, seed: int) -> None:
        super().__init__(RescaleAction(PendulumEnv(render_mode="rgb_array"), np.float32(-1), np.float32(1)), 200)
        self.reset(seed=seed)

    def state(self) -> dict[str, Any]:
        inner: Any = self.unwrapped
        return {"random": inner.np_random.bit_generator.state, "angles": inner.state, "steps": self._elapsed_steps}

    def load_state(self, state: dict[str, Any]) -> Any:
        inner: Any = self.unwrapped
        inner.np_random.bit_generator.state = state["random"]
        inner.state, self._elapsed_steps = state["angles"], state["steps"]
        return inner._get_obs()
