"""How an agent of one task draws from its replay."""

from typing import Literal

from rlrep.replay import Priority

Sampling = Literal["uniform", "lap", "faded"]
"""uniform: every stored transition alike. lap: in proportion to max(|TD error|, 1) ** alpha, with a Huber loss and no
importance weights, which it makes needless (Fujimoto et al. 2020, arXiv 2007.06049). faded: the same, times 0.9999 for
every transition stored since, down to a tenth (DR.Q, 2026, its code)."""
FADE, LEAST_FADE = 0.9999, 0.1
LEAST_PRIORITY = 1.0
"""Where the Huber loss turns from square to linear."""


def priority(sampling: Sampling, alpha: float) -> Priority | None:
    """Return the priorities of a way of drawing, None where it has none. Raises ValueError if alpha leaves none."""
    if sampling == "uniform":
        return None
    if alpha <= 0:
        raise ValueError(
            f"replay={sampling} draws by priorities, which priority_alpha={alpha:g} makes all alike: "
            "give a larger one, or replay=uniform"
        )
    fade = FADE if sampling == "faded" else 1.0
    return Priority(alpha, beta=0.0, beta_final=0.0, eps=1e-12, fade=fade, least_fade=LEAST_FADE)
