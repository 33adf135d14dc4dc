"""Times our Atari games against gymnasium's own stack (AtariPreprocessing + FrameStackObservation), in agent steps/s.

    python -m benchmarks.atari_steps [--blocks 15]

Random play of three games under the protocol of Atari-100k, one environment and eight. All take turns in blocks of
steps; rates are medians over blocks, so that a disturbance of the machine meets all alike. Writes
results/atari_steps.json.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from numpy.typing import NDArray

from rlrep.envs.atari.env import Atari
from rlrep.envs.vector import make_vector

from . import result
from .timing import rates_in_turn, ratios_to

GAMES = {"pong": "Pong", "breakout": "Breakout", "road_runner": "RoadRunner"}
COUNTS = (1, 8)
STEPS = 100  # of a block, all environments together
PEER = "gymnasium"
OURS = ("in this process", "in workers", "vector")
COLUMNS = ["game", "environments", f"{PEER}, agent steps/s", *OURS, *(f"{name} / {PEER}" for name in OURS)]

Step = Callable[[NDArray[np.int64]], object]


class Ways:
    """One game in every way: what to call to step N environments once, and what to close."""

    def __init__(self, game: str, count: int) -> None:
        config, seeds = Atari(game), list(range(count))
        ours: list[Any] = [make_vector(config, seeds, workers=flag) for flag in (False, True)]
        ours.append(replace(config, backend="vector").vector(seeds))
        peer = SyncVectorEnv([partial(_plain, game)] * count, autoreset_mode=AutoresetMode.SAME_STEP)
        peer.reset(seed=0)
        for vector in ours:
            vector.reset(seeds)
        self.steps: dict[str, Step] = {PEER: peer.step}
        self.steps |= {name: partial(_step, vector) for name, vector in zip(OURS, ours, strict=True)}
        self.actions: int = ours[0].single_action_space.n
        self._open = [peer, *ours]

    def close(self) -> None:
        """End every environment."""
        for each in self._open:
            each.close()


def measure(game: str, count: int, blocks: int) -> dict[str, Any]:
    """Return the median rates of one game, in agent steps of all environments per second."""
    ways, rows = Ways(game, count), max(1, STEPS // count)
    plays = {name: partial(_play, step, ways.actions, (rows, count)) for name, step in ways.steps.items()}
    rates = rates_in_turn(plays, rows * count, blocks)
    ways.close()
    return {"game": game, "environments": count, "rates": rates, "ratios": ratios_to(PEER, rates)}


def row(found: dict[str, Any]) -> list[object]:
    """Return the table's row of one measurement."""
    rates, ratios = found["rates"], found["ratios"]
    return [found["game"], found["environments"], *(rates[name] for name in (PEER, *OURS)), *ratios.values()]


def average(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean ratios over the games, by number of environments."""
    return {
        str(count): {
            name: round(float(np.mean([r["ratios"][name] for r in results if r["environments"] == count])), 2)
            for name in OURS
        }
        for count in COUNTS
    }


def _play(step: Step, actions: int, shape: tuple[int, int]) -> None:
    for row in np.random.default_rng(0).integers(actions, size=shape):
        step(row)


def _plain(game: str) -> gymnasium.Env[Any, Any]:
    base = gymnasium.make(f"ALE/{GAMES[game]}-v5", frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(base, noop_max=30, terminal_on_life_loss=False), 4)


def _step(vector: Any, actions: NDArray[np.int64]) -> object:
    vector.step_async(actions)
    return vector.step_wait()


def main() -> None:
    """Measure, print and save."""
    parser = result.command_line(__doc__)
    parser.add_argument("--blocks", type=int, default=15)
    options = parser.parse_args()
    gymnasium.register_envs(ale_py)
    results = [measure(game, count, options.blocks) for game in GAMES for count in COUNTS]
    result.save(
        options.results / "atari_steps.json",
        COLUMNS,
        map(row, results),
        limits=f"random play; {options.blocks} blocks of {STEPS} agent steps, taking turns; medians.",
        more={"average": average(results), "games": results},
    )


if __name__ == "__main__":
    main()
