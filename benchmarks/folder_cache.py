"""How long a folder of many images takes to start on, at first and again, and how fast its images are trained on, from
the cache of decoded images beside images in memory.

    python -m benchmarks.folder_cache [--count 20000] [--seconds 10] [--rounds 3]

The images are made for it, JPEG files of 40x48 random blots. Every start is a process of its own; a start's seconds are
from the first look at the folder to the end of the first update, Python's imports apart. Writes
results/folder_cache_DEVICE.json.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.job import build
from rlrep.process.machine import keep_large_blocks, set_threads

from . import result
from .timing import UPDATES, Numbers, Rounds, apart, rate

FIRST, AGAIN, MEMORY = "first start, cache made", "second start, from the cache", "in memory, decoded at every start"
ARMS = {FIRST: "always", AGAIN: "always", MEMORY: "never"}
"""How a start is called, and the option `data.cache` of it."""
BATCH = 256
_CLASSES = 10


def write_images(root: Path, count: int) -> None:
    """Write JPEG files into ten class folders."""
    for number in range(count):
        draws = np.random.default_rng(number)
        blots = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((48, 40))
        folder = root / f"class{number % _CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        blots.save(folder / f"{number:06d}.jpg", quality=90)


def start(root: Path, cache: str, device: str, seconds: float) -> Numbers:
    """Return the seconds until data was there and until the first update was made, and updates per second after it."""
    words = ("method=simclr", "data=folder", f"data.path={root}", f"data.cache={cache}", "preset=cpu", "out=unused")
    more = ("encoder=small_cnn", f"train.batch_size={BATCH}", "logger=none", "train.updates=1000000")
    config = compose_pretraining([*words, *more]).config
    begun = time.perf_counter()
    _, _, learner = build(config, torch.device(device))
    ready = time.perf_counter() - begun
    learner.update()
    first = time.perf_counter() - begun
    alive = time.clock_gettime(time.CLOCK_BOOTTIME) - _born()
    speed = rate(learner.update, device, seconds, stretch=1) if seconds else 0.0
    return {"ready": ready, "first_update": first, "alive": alive, UPDATES: speed}


def _born() -> float:
    """Return when this process began, in seconds since the machine did."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def measure(root: Path, options: argparse.Namespace) -> Iterator[list[object]]:
    """Yield the table's lines. The first start is timed round by round too, the cache removed before it."""

    def timed(arm: str) -> Numbers:
        if arm == FIRST:
            shutil.rmtree(root.parent / f".{root.name}.rlrep", ignore_errors=True)
        return apart("folder_cache", arm, options, "folder")

    found = Rounds(list(ARMS), options.rounds, timed)
    for arm in ARMS:
        numbers = found.median(arm)
        seconds = [round(numbers[key], 2) for key in ("ready", "first_update", "alive")]
        yield [arm, *seconds, round(BATCH * numbers[UPDATES]), f"{found.ratio(arm, MEMORY)['ratio']:.2f}x"]


def main() -> None:
    """Run the command line."""
    parser = result.timing(__doc__, seconds=10.0)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    set_threads()
    keep_large_blocks()
    if options.measure:
        print(json.dumps(start(options.folder, ARMS[options.measure], options.device, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as place:
        options.folder = Path(place) / "images"
        write_images(options.folder, options.count)
        result.save(
            options.results / f"folder_cache_{options.device}.json",
            ("start", "data, s", "first update, s", "with Python's start, s", "images/s", "beside memory"),
            measure(options.folder, options),
            limits=f"{options.count} JPEG files of 40x48 brought to 32x32, SimCLR on a small CNN, batch {BATCH}; "
            f"medians of {options.rounds}; the files are in the system's memory.",
        )


if __name__ == "__main__":
    main()
