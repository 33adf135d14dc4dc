"""Times a step of an environment as agents take it, held against its space, beside the same step taken bare.

    python -m benchmarks.env_checks [--rounds 2000]

The two step twins in turn, so that a disturbance of the machine meets both alike. Writes results/env_checks.json.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from rlrep.envs.atari.env import Atari
from rlrep.envs.dmc.env import DMC
from rlrep.envs.families.point_robot import PointRobot
from rlrep.envs.metaworld.single import MT1
from rlrep.envs.toy import ToyState
from rlrep.envs.vector.checked import Checked

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
    """Return microseconds: the median of a bare step, and by how much that of a checked one is longer."""
    bare, checked = config.make(0), Checked(config.make(0))
    bare.reset(seed=0)
    checked.reset(seed=0)
    space = bare.action_space
    action = np.zeros(space.shape, space.dtype)
    times = np.empty((rounds, 2))
    twins = [bare, checked]
    for number, row in enumerate(times):
        ended = False
        for which in (number % 2, 1 - number % 2):  # whoever comes second finds warm caches
            start = time.perf_counter()
            answer = twins[which].step(action)
            row[which] = time.perf_counter() - start
            ended = answer[2] or answer[3]
        if ended:
            bare.reset()
            checked.reset()
    bare.close()
    checked.close()
    plain, more = np.median(times[:, 0]), np.median(times[:, 1]) - np.median(times[:, 0])
    return float(plain) * 1e6, float(more) * 1e6


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
