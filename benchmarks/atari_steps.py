"""Times our Atari games against gymnasium's own stack (AtariPreprocessing + FrameStackObservation), in agent steps/s.

    python -m benchmarks.atari_steps [--blocks 15]

Random play of three games under the protocol of Atari-100k, one environment and eight. All take turns in blocks of
steps; rates are medians over blocks, so that a disturbance of the machine meets all alike. Writes
results/atari_steps.json.
"""

import argparse
import json
import time
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

from . import machine

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
    ways, random = Ways(game, count), np.random.default_rng(0)
    rates: dict[str, list[float]] = {name: [] for name in ways.steps}
    for _ in range(blocks + 1):
        actions = random.integers(ways.actions, size=(max(1, STEPS // count), count))
        for name, step in ways.steps.items():
            start = time.perf_counter()
            for row in actions:
                step(row)
            rates[name].append(actions.size / (time.perf_counter() - start))
    ways.close()
    found = {name: round(float(np.median(each[1:])), 1) for name, each in rates.items()}
    ratios = {name: round(found[name] / found[PEER], 2) for name in OURS}
    return {"game": game, "environments": count, "rates": found, "ratios": ratios}


def row(result: dict[str, Any]) -> list[object]:
    """Return the table's row of one measurement."""
    rates, ratios = result["rates"], result["ratios"]
    return [result["game"], result["environments"], *(rates[name] for name in (PEER, *OURS)), *ratios.values()]


def average(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean ratios over the games, by number of environments."""
    return {
        str(count): {
            name: round(float(np.mean([r["ratios"][name] for r in results if r["environments"] == count])), 2)
            for name in OURS
        }
        for count in COUNTS
    }


def _plain(game: str) -> gymnasium.Env[Any, Any]:
    base = gymnasium.make(f"ALE/{GAMES[game]}-v5", frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(base, noop_max=30, terminal_on_life_loss=False), 4)


def _step(vector: Any, actions: NDArray[np.int64]) -> object:
    vector.step_async(actions)
    return vector.step_wait()


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15)
    blocks = parser.parse_args().blocks
    gymnasium.register_envs(ale_py)
    results = []
    for game in GAMES:
        for count in COUNTS:
            results.append(measure(game, count, blocks))
            print(*row(results[-1]), sep="\t", flush=True)
    report = {
        "machine": machine.describe(),
        "average": average(results),
        "table": {"columns": COLUMNS, "rows": [row(result) for result in results]},
        "games": results,
        "limits": f"random play; {blocks} blocks of {STEPS} agent steps, taking turns; medians.",
    }
    print(report["average"])
    (machine.ROOT / "benchmarks" / "results" / "atari_steps.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
