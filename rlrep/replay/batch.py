"""What replay hands to an update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from .pairs import Pairs


@dataclass(frozen=True)
class Transitions:
    """R windows of W transitions: obs, next_obs `(R, W, ...)`, action `(R, W, A)` or int64 `(R, W)`, reward
    `(R, W)`. next_obs has a last axis of length 0 where nobody asked for it."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor

    def viewed(self, view: Callable[[Tensor], Tensor]) -> "Transitions":
        """Return the same with every observation `(R * W, ...)` under `view`."""
        obs, following = (
            view(part.flatten(0, 1)).unflatten(0, part.shape[:2]) if part.numel() else part
            for part in (self.obs, self.next_obs)
        )
        return replace(self, obs=obs, next_obs=following)


@dataclass(frozen=True)
class Batch:
    """B transitions on the training device.

    obs, next_obs: uint8 `(B, S*C, H, W)`, oldest frame first, or float32 `(B, S*D)`. `next_obs` is n steps on, or the
        episode's last.
    action: float32 `(B, A)` or int64 `(B,)`. reward `(B,)`: n-step discounted sum.
    discount `(B,)`: gamma**n, or 0 where the episode *terminated* within n steps; a truncated episode still bootstraps
        (gamma**k for the k <= n steps summed).
    pairs: what each head asked for, by its name.
    weight: float32 `(B,)`, importance weights of a prioritised draw, the largest 1; else None.
    rows: int64 `(B,)`, numbers of the transitions of a prioritised draw, for `Replay.update_priorities`; else None.
    tasks: int64 `(T,)`, the tasks of a meta-batch, whose B / T rows each follow each other; else None.
    context: `(T, W)` transitions of these tasks; else None.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    pairs: Mapping[str, Pairs] = field(default_factory=dict)
    weight: Tensor | None = None
    rows: Tensor | None = None
    tasks: Tensor | None = None
    context: Transitions | None = None
