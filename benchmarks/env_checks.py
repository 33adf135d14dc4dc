"""Times a step of an environment as agents take it, held against its space, beside the same step taken bare.

    python -m benchmarks.env_checks [--rounds 2000]

The two step twins in turn, so that a disturbance of the machine meets both alike. Writes results/env_checks.json.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from rlrep.envs.atari import Atari
from rlrep.envs.checked import Checked
from rlrep.envs.dmc import DMC
from rlrep.envs.metaworld_single import MT1
from rlrep.envs.point_robot import PointRobot
from rlrep.envs.toy import ToyState

from . import machine

CASES: dict[str, Any] = {
    "toy_state": ToyState(),
    "point_robot": PointRobot(),
    "cheetah, states, repeat 4": DMC("cheetah", "run", "state", 4),
    "walker, states, repeat 2": DMC("walker", "walk", "state", 2),
    "cartpole, 84 pixels, repeat 8": DMC("cartpole", "swingup", "pixels", 8),
    "Pong, 4 frames of 84 pixels": Atari("pong"),
    "Meta-World reach, states": MT1("reach-v3"),
}


def timed(config: Any, rounds: int) -> tuple[float, float]:
    """Return the medians of microseconds of a bare step, and of what a checked one takes longer than its twin."""
    bare, checked = config.make(0), Checked(config.make(0))
    bare.reset(seed=0)
    checked.reset(seed=0)
    space = bare.action_space
    action = np.zeros(space.shape, space.dtype)
    times = np.empty((rounds, 2))
    for row in times:
        start = time.perf_counter()
        ended = any(bare.step(action)[2:4])
        middle = time.perf_counter()
        checked.step(action)
        row[:] = middle - start, time.perf_counter() - middle
        if ended:
            bare.reset()
            checked.reset()
    bare.close()
    checked.close()
    return float(np.median(times[:, 0])) * 1e6, float(np.median(times[:, 1] - times[:, 0])) * 1e6


def main() -> None:
    """Time every case and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    found = {name: timed(config, rounds) for name, config in CASES.items()}
    rows = [[name, f"{bare:,.1f}", f"{more:+.1f}", f"{more / bare:+.1%}"] for name, (bare, more) in found.items()]
    report = {
        "question": "What does it cost to hold what an environment hands over against its space?",
        "limits": f"medians of {rounds} steps.",
        "machine": machine.describe(),
        "table": {"columns": ["environment", "bare step, us", "checks, us", "share"], "rows": rows},
    }
    path = machine.ROOT / "benchmarks" / "results" / "env_checks.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join("  ".join(row) for row in rows))


if __name__ == "__main__":
    main()
