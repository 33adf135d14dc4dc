"""An agent whose observations an adversary moves: what its return is worth under the worst small disturbance."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from rlrep.contract.agent import Agent
from rlrep.contract.env import Array
from rlrep.contrast import pgd
from rlrep.settings import UserError

PIXELS = (0.0, 255.0)


class Attackable(Agent, Protocol):
    """An agent that says how far its policy is moved.

    divergence: of the policy at other observations `(N, ...)` from the one at these, `(N,)`, differentiable by them.
    """

    device: torch.device

    def divergence(self, obs: Tensor) -> Callable[[Tensor], Tensor]: ...


class Disturbed:
    """An agent in the hands of an adversary: projected gradient ascent of the policy's divergence (on states: Zhang et
    al. 2020, arXiv 2003.08938).

    steps: of the ascent, each a quarter of the adversary's reach. seed: of its random starts.
    Raises UserError if the agent does not say how far its policy is moved.
    """

    def __init__(self, agent: Any, steps: int, seed: int) -> None:
        if getattr(agent, "divergence", None) is None:
            raise UserError("attack= is for agents of one task whose policy says how far it is moved, not this one")
        self._agent: Attackable = agent
        self._steps, self._seed = steps, seed
        self.epsilon, self._moments = 0.0, Moments()
        self._draws = Generator(agent.device)

    def begin(self, epsilon: float) -> None:
        """Set the adversary's reach for the next episodes; 0: it rests, and learns the scale of states.

        epsilon: of a pixel, as a share of the pixels' range, of a state's number, in standard deviations of it over the
        undisturbed episodes.
        """
        self.epsilon = epsilon
        self._draws.manual_seed(self._seed)

    def act(self, obs: Array, *, explore: bool) -> Array:
        """Return what the agent does at the moved observations."""
        if not self.epsilon:
            self._moments.add(obs)
            return self._agent.act(obs, explore=explore)
        return self._agent.act(self._moved(obs), explore=explore)

    def _moved(self, obs: Array) -> Any:
        x = torch.as_tensor(obs, device=self._agent.device)
        pixels = x.dtype == torch.uint8
        scale = 255.0 if pixels else torch.as_tensor(self._moments.deviation(), dtype=x.dtype, device=x.device)
        return pgd(
            self._agent.divergence(x),
            x.float() if pixels else x,
            epsilon=self.epsilon * scale,
            step=self.epsilon * scale / 4,
            steps=self._steps,
            bounds=PIXELS if pixels else None,
            generator=self._draws,
        )


class Moments:
    """Mean and variance of observations as they come in."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, np.zeros(()), np.zeros(())

    def add(self, obs: Array) -> None:
        """Take observations `(N, ...)`; frames have no use for it."""
        if obs.dtype == np.uint8:
            return
        wide = obs.astype(np.float64)
        self._count += len(wide)
        self._sum, self._squares = self._sum + wide.sum(0), self._squares + np.square(wide).sum(0)

    def deviation(self) -> Array:
        """Return the standard deviation of each number."""
        mean = self._sum / self._count
        deviation: Array = np.sqrt(np.maximum(self._squares / self._count - np.square(mean), 0.0))
        return deviation
