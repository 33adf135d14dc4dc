"""Are the labels of return contrast a matter of the state, or of the clock? Random play of two tasks, a minute.

    python -m benchmarks.label_quality [--episodes 40]

How good labels are while an agent learns, its metrics tell, and the report draws. Writes results/label_clock.json.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from rlrep.envs.dmc.env import DMC
from rlrep.replay.returns import discounted_returns

from . import result
from .random_play import Play, play

TASKS = {
    "cartpole_swingup": DMC("cartpole", "swingup", obs="state", action_repeat=8),
    "cheetah_run": DMC("cheetah", "run", obs="state", action_repeat=4),
}
RETURNS: dict[str, tuple[float, int | None]] = {
    "undiscounted, to the end": (1.0, None),
    "discount 0.9, to the end": (0.9, None),
    "discount 0.9, 10 steps": (0.9, 10),
    "discount 0.9, 20 steps": (0.9, 20),
}
NEIGHBOURS = 10
Array = NDArray[np.float64]


def explained(value: Array, predicted: Array) -> float:
    """Return the share of the variance of values `(n,)` that predictions `(n,)` explain (below 0: worse than none)."""
    return 1.0 - float(((value - predicted) ** 2).mean() / value.var())


def by_step(value: Array) -> Array:
    """Predict values `(E, T)` by the mean of the other episodes at the same step."""
    mean: Array = (value.sum(0) - value) / (len(value) - 1)
    return mean


def by_state(state: Array, value: Array) -> Array:
    """Predict values `(E, T)` by the mean of the most similar states `(E, T, D)` of other episodes."""
    scaled = (state - state.mean((0, 1))) / (state.std((0, 1)) + 1e-9)
    found = np.zeros_like(value)
    for episode, own in enumerate(scaled):
        others, values = (np.delete(part, episode, 0).reshape(-1, *part.shape[2:]) for part in (scaled, value))
        distance = (others**2).sum(1) - 2.0 * own @ others.T  # less the own square, the same for all
        found[episode] = values[np.argpartition(distance, NEIGHBOURS, 1)[:, :NEIGHBOURS]].mean(1)
    return found


def returns_of(reward: Array, discount: float, horizon: int | None) -> Array:
    """Return the known returns `(E, T')` of rewards `(E, T)` in episodes that a time limit ended."""
    found = np.stack([discounted_returns(torch.from_numpy(row), discount, horizon).numpy() for row in reward])
    return found if horizon is None else found[:, : reward.shape[1] - horizon + 1]


def clock(played: Play) -> dict[str, dict[str, float]]:
    """Return what explains every kind of return: the number of the step, the state."""
    found = {}
    for name, (discount, horizon) in RETURNS.items():
        value = returns_of(played.reward, discount, horizon)
        state = played.obs[:, : value.shape[1]].astype(np.float64)
        predictions = {"step": by_step(value), "state": by_state(state, value)}
        found[name] = {key: round(explained(value, guess), 4) for key, guess in predictions.items()}
    return found


def main() -> None:
    """Measure every task and write the result."""
    parser = result.command_line(__doc__)
    parser.add_argument("--episodes", type=int, default=40)
    options = parser.parse_args()
    tasks = {name: clock(play(task, options.episodes)) for name, task in TASKS.items()}
    rows = [
        [task, name, f"{max(0.0, share['step']):.1%}", f"{max(0.0, share['state']):.1%}"]
        for task, kinds in tasks.items()
        for name, share in kinds.items()
    ]
    limits = (
        f"Random play, {options.episodes} episodes; predicted from the other episodes, by the mean at the same step "
        f"and of the {NEIGHBOURS} nearest states. A trained policy's returns may differ."
    )
    columns = ["task", "return", "variance explained by the step number", "by the state"]
    result.save(options.results / "label_clock.json", columns, rows, limits=limits, more={"tasks": tasks})


if __name__ == "__main__":
    main()
