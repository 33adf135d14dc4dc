"""A head, an environment and a view from outside the repository; CONTRIBUTING.md explains the contracts.

pip install examples/custom
python -m rlrep.train env=pendulum aux=inverse_model aux.inverse_model.weight=0.5 preset=cpu
python -m rlrep.pretrain data=digits method=simclr augment=rotation preset=cpu
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import RescaleAction, TimeLimit
from torch import Generator, Tensor, nn

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


@dataclass(frozen=True)
class Rotation:
    """Settings of `augment=rotation`: square images are turned by 0 to `most` quarters (Gidaris et al. 2018)."""

    most: int = 3

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        quarters = torch.randint(self.most + 1, (len(obs),), generator=generator, device=obs.device)
        turned = torch.stack([obs.rot90(k, (2, 3)) for k in range(self.most + 1)])
        return turned[quarters, torch.arange(len(obs), device=obs.device)]

    def fixed(self, obs: Tensor) -> Tensor:
        return obs
