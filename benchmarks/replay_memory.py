"""Measures what a stored transition costs, beside a buffer that keeps both stacked observations (CURL's).

    python -m benchmarks.replay_memory [--transitions 20000]

Fills a replay with return labels attached, in episodes of 250 agent steps (the shortest of CURL's tasks is 125), and
reads how much the process has grown. The last is Rainbow's, prioritised, and filled with its million (7.2 GB, minutes).
Writes results/replay_memory.json.
"""

import ctypes
import gc
from dataclasses import dataclass, field

import numpy as np
import torch

from rlrep.replay import Needs, Priority, Replay, ReplaySpec, ReturnLabels, SameReturn, SecondView
from rlrep.replay.ring import NUMPY

from . import result

EPISODE = 250
COLUMNS = [
    "frames",
    "stack",
    "environments",
    "transitions",
    "bytes per transition, counted",
    "of the process",
    "both stacks stored",
]
CURL = {"curl": Needs((SecondView(),))}
NEEDS = CURL | {
    "threshold": Needs((SameReturn(ReturnLabels("return_threshold")),)),
    "bin": Needs((SameReturn(ReturnLabels("return_bin")),)),
}


@dataclass(frozen=True)
class Case:
    """What is stored; `shape` of one frame. transitions: None = as many as the command line says."""

    shape: tuple[int, ...]
    stack: int
    num_envs: int
    transitions: int | None = None
    needs: dict[str, Needs] = field(default_factory=lambda: NEEDS)

    def spec(self, transitions: int) -> ReplaySpec:
        dtype = torch.uint8 if len(self.shape) == 3 else torch.float32
        return ReplaySpec(self.shape, dtype, self.stack, (6,), torch.float32, self.num_envs, transitions)


@dataclass(frozen=True)
class Rainbow(Case):
    """Discrete actions, 20-step returns, priorities, and the pairs of return contrast."""

    needs: dict[str, Needs] = field(
        default_factory=lambda: CURL | {"return_contrast": Needs((SameReturn(ReturnLabels("reward_event")),))}
    )

    def spec(self, transitions: int) -> ReplaySpec:
        return ReplaySpec(
            self.shape,
            torch.uint8,
            self.stack,
            (),
            torch.int64,
            self.num_envs,
            transitions,
            n_step=20,
            priority=Priority(),
        )


CASES = [
    Case((3, 100, 100), 3, 1),
    Case((3, 100, 100), 3, 8),
    Case((3, 84, 84), 3, 1),
    Case((1, 84, 84), 4, 1),
    Case((17,), 1, 1),
    Rainbow((1, 84, 84), 4, 1, 1_000_000),
]


def resident_bytes() -> int:
    """Return the memory that this process holds (Linux)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def fill(replay: Replay, transitions: int) -> None:
    """Write until every row of the replay has been written to, and over."""
    spec, rng = replay.spec, np.random.default_rng(0)
    shape = (spec.num_envs, *spec.frame_shape)
    frames = (rng.random(shape) * 255).astype(np.uint8 if spec.frame_dtype == torch.uint8 else np.float32)
    action = np.zeros((spec.num_envs, *spec.action_shape), NUMPY[spec.action_dtype])
    never = np.zeros(spec.num_envs, np.bool_)
    replay.begin(frames)
    for step in range(1, transitions // spec.num_envs * 5 // 4):
        ended = np.full(spec.num_envs, step % EPISODE == 0)
        replay.add(action, rng.random(spec.num_envs), never, ended, frames, frames, never)
    replay.sample(8)


def measure(case: Case, transitions: int) -> list[object]:
    """Return one row of the table."""
    transitions = case.transitions or transitions
    spec = case.spec(transitions)
    fill(Replay(spec, device=torch.device("cpu"), seed=0, needs=case.needs), 2 * EPISODE)  # one-time process costs
    before = resident_bytes()
    replay = Replay(spec, device=torch.device("cpu"), seed=0, needs=case.needs)
    fill(replay, transitions)
    grown = (resident_bytes() - before) / (spec.steps * spec.num_envs)
    both = 2 * case.stack * spec.frame_bytes
    kind = "×".join(map(str, case.shape)) + (" uint8" if spec.frame_dtype == torch.uint8 else " float32")
    return [kind, case.stack, case.num_envs, f"{transitions:,}", round(replay.bytes_per_transition), round(grown), both]


def main() -> None:
    """Measure every case and write the result."""
    parser = result.command_line(__doc__)
    parser.add_argument("--transitions", type=int, default=20_000, help="capacity of each replay that is filled")
    options = parser.parse_args()
    result.save(
        options.results / "replay_memory.json",
        COLUMNS,
        [measure(case, options.transitions) for case in CASES],
        limits="With two return-label trackers attached; the million with priorities and the labels of reward events. "
        "Frames of a few bytes pay for indices and labels.",
    )


if __name__ == "__main__":
    main()
