"""What a replay stores: shapes, types, sizes, and the return it is asked for."""

from dataclasses import dataclass

import torch

from .ring import NUMPY, Layout

SMALL_FRAME_BYTES = 1024
"""Frames up to this size get room for a reset frame after every step."""
LARGE_FRAME_EPISODE = 100
"""Larger frames get room for one in so many steps; where episodes are shorter, the oldest steps give way."""

LEAST_EPS = 1e-12
"""So that no transition's float32 weight becomes 0, which would bar it for ever."""


@dataclass(frozen=True)
class Priority:
    """Proportional prioritised sampling (Schaul et al. 2016, arXiv 1511.05952).

    A transition of priority p is drawn in proportion to (p + eps)**alpha; alpha 0 is uniform, and stratified.
    beta, beta_final: exponent of the importance weights at the start, and `beta_steps` stored transitions later, rising
        in between; beta_steps None = it stays.
    fade, least_fade: chances shrink by this factor with every transition stored since, down to that share (DR.Q, 2026);
        1 = not at all.
    """

    alpha: float = 0.5
    beta: float = 0.4
    beta_final: float = 1.0
    eps: float = 1e-6
    beta_steps: int | None = None
    fade: float = 1.0
    least_fade: float = 0.1

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "beta_final", "fade", "least_fade"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"Priority: {name} must lie in [0, 1], not {getattr(self, name)}.")
        if self.fade < 1 and (self.beta > 0 or self.beta_final > 0 or self.least_fade == 0):
            raise ValueError("Priority: what fades needs a least_fade above 0, and has no importance weights (beta 0).")
        if not self.eps >= LEAST_EPS:
            raise ValueError(f"Priority: eps must be at least {LEAST_EPS}, not {self.eps}.")

    def beta_after(self, stored: int) -> float:
        """Return beta after so many transitions."""
        progress = 0.0 if self.beta_steps is None else min(stored / self.beta_steps, 1.0)
        return self.beta + (self.beta_final - self.beta) * progress


@dataclass(frozen=True)
class ReplaySpec:
    """Layout of a replay.

    frame_shape: one frame, `(C, H, W)` or `(D,)`; an observation is `frame_stack` of them joined along the first axis,
        oldest first.
    frame_dtype: torch.uint8 or torch.float32.
    action_shape, action_dtype: `(A,)` float32, or `()` int64 for discrete actions.
    capacity: transitions of all environments together (rounded down to whole vector steps).
    n_step, discount: rewards summed and discount per agent step; `Replay.sum_rewards` may ask for others, and fewer.
    priority: how transitions are prioritised; None = they are drawn uniformly.
    """

    frame_shape: tuple[int, ...]
    frame_dtype: torch.dtype
    frame_stack: int
    action_shape: tuple[int, ...]
    action_dtype: torch.dtype
    num_envs: int
    capacity: int
    n_step: int = 1
    discount: float = 0.99
    priority: Priority | None = None

    def __post_init__(self) -> None:
        for name in ("frame_stack", "num_envs", "n_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"Replay: {name} must be at least 1, not {getattr(self, name)}.")
        least = self.num_envs * self.n_step
        if self.capacity < least:
            raise ValueError(f"Replay: capacity {self.capacity} is below num_envs x n_step = {least}.")
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"Replay: discount must lie in [0, 1], not {self.discount}.")
        if not self.frame_shape:
            raise ValueError("Replay: a frame needs at least one axis.")

    @property
    def steps(self) -> int:
        """Vector steps stored."""
        return self.capacity // self.num_envs

    @property
    def frame_bytes(self) -> int:
        size = NUMPY[self.frame_dtype].itemsize
        for length in self.frame_shape:
            size *= length
        return size

    @property
    def frames(self) -> int:
        """Frames stored: one per transition, one per episode begun, and what the newest stacks hold on to."""
        transitions = self.steps * self.num_envs
        resets = transitions if self.frame_bytes <= SMALL_FRAME_BYTES else transitions // LARGE_FRAME_EPISODE
        return transitions + resets + 2 * self.num_envs * (self.frame_stack + self.n_step + 1)

    def layout(self) -> dict[str, Layout]:
        """Columns of the rings `frames` (one row per frame) and `steps` (one row per vector step).

        `stack` holds the slots of the observation's frames and, last, of the frame the action led to; `first` the
        first step of the episode.
        """
        n = self.num_envs
        return {
            "frames": {"frame": (self.frame_shape, self.frame_dtype)},
            "steps": {
                "stack": ((n, self.frame_stack + 1), torch.int32),
                "action": ((n, *self.action_shape), self.action_dtype),
                "reward": ((n,), torch.float32),
                "terminated": ((n,), torch.bool),
                "truncated": ((n,), torch.bool),
                "first": ((n,), torch.int32),
            },
        }
