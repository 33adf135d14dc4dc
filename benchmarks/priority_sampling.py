"""Times draws in proportion to priorities, and their write-back, in the structures one could keep them in.

    python -m benchmarks.priority_sampling [--device cuda] [--rounds 300]

Every round, each structure draws a batch of 32 by the same random numbers and takes new weights for it, in an order
drawn anew; ratios of medians, so that a disturbance of the machine meets all alike. Structures in NumPy keep their sums
on the host; beside a GPU they would make every update wait. Then a whole replay of Atari's shape, uniform beside
prioritised. Writes results/priority_sampling_DEVICE.json.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.process.machine import keep_large_blocks
from rlrep.replay import Batch, Priority, Replay, ReplaySpec
from rlrep.replay.weights import LEVELS, WeightTree

from . import result

BATCH = 32
SIZES = (100_000, 1_000_000)
OURS = f"tree of {LEVELS} levels, tensors (ours)"
EPISODE = 200
OTHER_BYTES = 8_000_000  # memory written between two calls
T = TypeVar("T")


class Structure(Protocol):
    """Weights of `size` rows. draw: `(B,)` numbers from U[0, 1) to rows, one from each stratum; write: new weights."""

    def draw(self, uniform: Tensor) -> Tensor: ...

    def write(self, rows: Tensor, weights: Tensor) -> None: ...


class Tree:
    """What the replay uses, or the same with another number of levels."""

    def __init__(self, size: int, device: torch.device, levels: int) -> None:
        self._tree = WeightTree(size, device, levels=levels)
        rows = torch.arange(size, device=device)
        self._tree.move(rows[:0], rows, torch.ones((), device=device))
        self._all = torch.ones(BATCH, dtype=torch.bool, device=device)

    def draw(self, uniform: Tensor) -> Tensor:
        return self._tree.draw(uniform, 0)

    def write(self, rows: Tensor, weights: Tensor) -> None:
        self._tree.write(rows, weights, self._all)


class Scan:
    """One prefix sum over all weights at every draw; nothing to keep up to date."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._weights = torch.ones(size, device=device)

    def draw(self, uniform: Tensor) -> Tensor:
        prefix = self._weights.cumsum(0, dtype=torch.float64)
        return torch.searchsorted(prefix, _targets(uniform, prefix[-1]), right=True).clamp_max_(len(prefix) - 1)

    def write(self, rows: Tensor, weights: Tensor) -> None:
        self._weights.index_copy_(0, rows, weights)


class BinaryTree:
    """The usual sum-tree on the host, a level at a time for the whole batch, as in Kaixhin/Rainbow."""

    def __init__(self, size: int) -> None:
        self._depth = (size - 1).bit_length()
        self._leaf = 1 << self._depth
        self._tree = np.zeros(2 * self._leaf)
        self._tree[self._leaf : self._leaf + size] = 1.0
        for k in reversed(range(self._depth)):
            self._tree[1 << k : 2 << k] = self._tree[2 << k : 4 << k].reshape(-1, 2).sum(1)

    def draw(self, uniform: Tensor) -> Tensor:
        target = (np.arange(len(uniform)) + uniform.numpy()) * (self._tree[1] / len(uniform))
        node = np.ones(len(uniform), np.int64)
        for _ in range(self._depth):
            node *= 2
            left = self._tree[node]
            right = target >= left
            target = np.where(right, target - left, target)
            node += right
        return torch.from_numpy(node - self._leaf)

    def write(self, rows: Tensor, weights: Tensor) -> None:
        node = rows.numpy() + self._leaf
        self._tree[node] = weights.numpy()
        for _ in range(self._depth):
            node = np.unique(node // 2)
            self._tree[node] = self._tree[2 * node] + self._tree[2 * node + 1]


class Blocks:
    """Two levels, in NumPy."""

    def __init__(self, size: int) -> None:
        width = int(size**0.5) + 1
        self._blocks = (np.arange(width * width) < size).astype(np.float32).reshape(width, width)
        self._sums: NDArray[np.float64] = self._blocks.sum(1, dtype=np.float64)

    def draw(self, uniform: Tensor) -> Tensor:
        prefix = self._sums.cumsum()
        target = (np.arange(len(uniform)) + uniform.numpy()) * (prefix[-1] / len(uniform))
        block = prefix.searchsorted(target, "right")
        rest = target - (prefix[block] - self._sums[block])
        place = (self._blocks[block].cumsum(1, dtype=np.float64) <= rest[:, None]).sum(1)
        return torch.from_numpy(block * self._blocks.shape[1] + place)

    def write(self, rows: Tensor, weights: Tensor) -> None:
        block, place = np.divmod(rows.numpy(), self._blocks.shape[1])
        self._blocks[block, place] = weights.numpy()
        self._sums[block] = self._blocks[block].sum(1, dtype=np.float64)


def _targets(uniform: Tensor, total: Tensor) -> Tensor:
    strata = torch.arange(len(uniform), device=uniform.device)
    return (strata + uniform) * (total / len(uniform))


def structures(size: int, device: torch.device) -> dict[str, Structure]:
    """Return every structure that makes sense on a device, all weights 1."""
    found: dict[str, Structure] = {
        OURS: Tree(size, device, LEVELS),
        "tree of 2 levels, tensors": Tree(size, device, 2),
        "binary tree, tensors": Tree(size, device, size.bit_length()),
        "scan, tensors": Scan(size, device),
    }
    if device.type == "cpu":
        found |= {"binary tree, NumPy": BinaryTree(size), "tree of 2 levels, NumPy": Blocks(size)}
    return found


class Clock:
    """Wall microseconds per call, by name, each out of cold caches, as after a network's update."""

    def __init__(self, device: torch.device) -> None:
        self._wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        self._taken: dict[str, list[float]] = {}
        self._other = torch.zeros(OTHER_BYTES, dtype=torch.uint8, device=device)

    def time(self, name: str, call: Callable[[], T]) -> T:
        self._other += 1
        self._wait()
        start = time.perf_counter()
        result = call()
        self._wait()
        self._taken.setdefault(name, []).append(1e6 * (time.perf_counter() - start))
        return result

    def medians(self) -> dict[str, float]:
        return {name: round(float(np.median(taken)), 1) for name, taken in self._taken.items()}


def time_structures(size: int, rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Return microseconds of a draw and of a write by structure. All must draw the same rows."""
    clock, found = Clock(device), structures(size, device)
    generator = torch.Generator().manual_seed(1)
    order = np.random.default_rng(0)
    for _ in range(rounds):
        uniform = torch.rand(BATCH, dtype=torch.float64, generator=generator).to(device)
        weights = torch.rand(BATCH, generator=generator).to(device)
        turns = order.permutation(list(found)).tolist()
        drawn = {name: clock.time(f"draw {name}", partial(found[name].draw, uniform)) for name in turns}
        rows = drawn[OURS]
        assert all(torch.equal(other, rows) for other in drawn.values()), "structures disagree"
        for name in turns:
            clock.time(f"write {name}", partial(found[name].write, rows, weights))
    taken = clock.medians()
    return {name: {"draw": taken[f"draw {name}"], "write": taken[f"write {name}"]} for name in found}


class Filled:
    """A full replay of Atari's shape, to which steps are added."""

    def __init__(self, capacity: int, priority: Priority | None, device: torch.device) -> None:
        spec = ReplaySpec((1, 84, 84), torch.uint8, 4, (), torch.int64, 1, capacity, 20, 0.99, priority)
        self.replay = Replay(spec, device=device, seed=0)
        self._frame = np.random.default_rng(0).integers(0, 256, (1, 1, 84, 84), dtype=np.uint8)
        self._steps = 0
        self.replay.begin(self._frame)
        for _ in range(capacity * 11 // 10):
            self.add()

    def add(self) -> None:
        self._steps += 1
        never, ended = np.array([False]), np.array([self._steps % EPISODE == 0])
        action, reward = np.zeros(1, np.int64), np.ones(1, np.float32)
        self.replay.add(action, reward, ended, never, self._frame, self._frame, never)

    def ready(self) -> bool:
        """What becomes drawable enters here, outside `add`."""
        return self.replay.can_sample()

    def sample(self) -> Batch:
        return self.replay.sample(BATCH)


def time_replays(rounds: int, device: torch.device, capacity: int = SIZES[0]) -> dict[str, dict[str, float]]:
    """Return microseconds of each call that an update and the step before it make."""
    arms = {"uniform": Filled(capacity, None, device), "prioritised": Filled(capacity, Priority(), device)}
    clocks = {name: Clock(device) for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            clock = clocks[name]
            clock.time("add", arm.add)
            clock.time("can_sample", arm.ready)
            batch = clock.time("sample", arm.sample)
            if batch.rows is not None:
                priorities = torch.rand(BATCH, device=device)
                clock.time("update_priorities", partial(arm.replay.update_priorities, batch.rows, priorities))
    return {name: clock.medians() for name, clock in clocks.items()}


def rows(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> list[list[object]]:
    """Return draw plus write of every structure, by size, in microseconds and over ours."""
    both = {size: {name: sum(taken.values()) for name, taken in each.items()} for size, each in found.items()}
    return [
        [name, *(cell for each in both.values() for cell in (round(each[name]), round(each[name] / each[OURS], 2)))]
        for name in both[SIZES[0]]
    ]


def main() -> None:
    """Measure, print and save."""
    parser = result.command_line(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    keep_large_blocks()
    found = {size: time_structures(size, options.rounds, device) for size in SIZES}
    replays = time_replays(options.rounds, device)
    totals = {name: sum(taken.values()) for name, taken in replays.items()}
    result.save(
        options.results / f"priority_sampling_{options.device}.json",
        ["structure", *(name for size in SIZES for name in (f"{size:,}: draw + write, µs", "relative to ours"))],
        rows(found),
        limits=f"Batches of {BATCH}, one thread; medians of {options.rounds} rounds, the structures in turn.",
        more={
            "structures": {f"{size:,}": each for size, each in found.items()},
            "replay": {**replays, "prioritised / uniform": round(totals["prioritised"] / totals["uniform"], 2)},
        },
    )


if __name__ == "__main__":
    main()
