"""Measures what a stored transition costs, beside a buffer that keeps both stacked observations (CURL's).

    python -m benchmarks.replay_memory [--transitions 20000]

Fills a replay with every kind of return label attached, in episodes of 250 agent steps (the shortest of CURL's tasks is
125), and reads how much the process has grown. Writes results/replay_memory.json.
"""

import argparse
import ctypes
import gc
import json
from dataclasses import dataclass

import numpy as np
import torch

from rlrep.replay import Needs, Replay, ReplaySpec, ReturnLabels

from . import machine

EPISODE = 250
COLUMNS = ["frames", "stack", "environments", "bytes per transition, counted", "of the process", "both stacks stored"]
NEEDS = {
    "curl": Needs(second_view=True),
    "threshold": Needs(pairs=ReturnLabels("return_threshold")),
    "bin": Needs(pairs=ReturnLabels("return_bin")),
}


@dataclass(frozen=True)
class Case:
    """What is stored; `shape` of one frame."""

    shape: tuple[int, ...]
    stack: int
    num_envs: int

    def spec(self, transitions: int) -> ReplaySpec:
        dtype = torch.uint8 if len(self.shape) == 3 else torch.float32
        return ReplaySpec(self.shape, dtype, self.stack, (6,), torch.float32, self.num_envs, transitions)


CASES = [
    Case((3, 100, 100), 3, 1),
    Case((3, 100, 100), 3, 8),
    Case((3, 84, 84), 3, 1),
    Case((1, 84, 84), 4, 1),
    Case((17,), 1, 1),
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
    action = np.zeros((spec.num_envs, *spec.action_shape), np.float32)
    never = np.zeros(spec.num_envs, np.bool_)
    replay.begin(frames)
    for step in range(1, transitions // spec.num_envs * 5 // 4):
        ended = np.full(spec.num_envs, step % EPISODE == 0)
        replay.add(action, rng.random(spec.num_envs), never, ended, frames, frames, never)
    replay.sample(8)


def measure(case: Case, transitions: int) -> list[object]:
    """Return one row of the table."""
    spec = case.spec(transitions)
    fill(Replay(spec, device=torch.device("cpu"), seed=0, needs=NEEDS), 2 * EPISODE)  # one-time costs of the process
    before = resident_bytes()
    replay = Replay(spec, device=torch.device("cpu"), seed=0, needs=NEEDS)
    fill(replay, transitions)
    grown = (resident_bytes() - before) / (spec.steps * spec.num_envs)
    both = 2 * case.stack * spec.frame_bytes
    kind = "×".join(map(str, case.shape)) + (" uint8" if spec.frame_dtype == torch.uint8 else " float32")
    return [kind, case.stack, case.num_envs, round(replay.bytes_per_transition), round(grown), both]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", type=int, default=20_000, help="capacity of each replay that is filled")
    rows = [measure(case, parser.parse_args().transitions) for case in CASES]
    limits = "With two return-label trackers attached. Frames of a few bytes pay for indices and labels."
    report = {"machine": machine.describe(), "table": {"columns": COLUMNS, "rows": rows}, "limits": limits}
    path = machine.ROOT / "benchmarks" / "results" / "replay_memory.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(" | ".join(COLUMNS))
    for row in rows:
        print(" | ".join(str(cell) for cell in row))


if __name__ == "__main__":
    main()
