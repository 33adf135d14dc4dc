"""Times a step of an environment as agents take it, held against its space, beside the same step taken bare.

    python -m benchmarks.env_checks [--rounds 1000] [--blocks 5]

A second bare one says how large the noise is. All three step in turn, so that a disturbance of the machine meets all
alike. Writes results/env_checks.json.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrep.envs.atari.env import Atari
from rlrep.envs.dmc.env import DMC
from rlrep.envs.families.point_robot import PointRobot
from rlrep.envs.metaworld.single import MT1
from rlrep.envs.toy import ToyState
from rlrep.envs.vector.checked import Checked

from . import result

CASES: dict[str, Any] = {
    "toy_state": ToyState(),
    "point_robot": PointRobot(),
    "cheetah, states, repeat 4": DMC("cheetah", "run", "state", 4),
    "walker, states, repeat 2": DMC("walker", "walk", "state", 2),
    "cartpole, 84 pixels, repeat 8": DMC("cartpole", "swingup", "pixels", 8),
    "Pong, 4 frames of 84 pixels": Atari("pong"),
    "Meta-World reach, states": MT1("reach-v3"),
}


def timed(config: Any, rounds: int) -> NDArray[np.float64]:
    """Return microseconds: medians of a bare step, of another bare one, and of a checked one."""
    twins = [config.make(0), config.make(0), Checked(config.make(0))]
    space = twins[0].action_space
    action = np.zeros(space.shape, space.dtype)
    times = np.empty((rounds, len(twins)))
    ended = True
    for number, row in enumerate(times):
        if ended:
            for twin in twins:
                twin.reset(seed=number)
        for turn in range(len(twins)):
            which = (number + turn) % len(twins)  # whoever comes later finds warmer caches
            start = time.perf_counter()
            answer = twins[which].step(action)
            row[which] = time.perf_counter() - start
        ended = answer[2] or answer[3]
    for twin in twins:
        twin.close()
    return np.asarray(np.median(times, 0) * 1e6)


def row(name: str, blocks: list[NDArray[np.float64]]) -> list[str]:
    """Return a row of the table: medians over blocks, and their range."""
    bare, again, checked = np.array(blocks).T
    more, noise = checked - (bare + again) / 2, again - bare
    base = float(np.median(bare))
    return [
        name,
        f"{base:,.1f}",
        f"{np.median(more):+.1f} ({more.min():+.1f} to {more.max():+.1f})",
        f"{np.median(more) / base:+.1%}",
        f"{noise.min():+.1f} to {noise.max():+.1f}",
    ]


def main() -> None:
    """Time every case and write the result file."""
    parser = result.command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=5)
    asked = parser.parse_args()
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in CASES}
    for _ in range(asked.blocks):
        for name, config in CASES.items():
            found[name].append(timed(config, asked.rounds))
    result.save(
        asked.results / "env_checks.json",
        ["environment", "bare step, us", "checks, us (blocks)", "share", "two bare ones differ by, us (blocks)"],
        [row(name, blocks) for name, blocks in found.items()],
        limits=f"medians of {asked.blocks} blocks of {asked.rounds} steps; what two bare twins differ by is noise.",
    )


if __name__ == "__main__":
    main()
