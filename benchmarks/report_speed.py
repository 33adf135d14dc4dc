"""How long a report on many runs takes, and how much memory: synthetic runs of the Control Suite, all figures drawn.

    OMP_NUM_THREADS=1 python -m benchmarks.report_speed [--seeds 50] [--results FOLDER]

`--seeds 50` makes 5 tasks x 4 arms x 50 seeds = 1,000 runs with 20 evaluations of 10 episodes and 100 log lines each.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import machine, result
from .synthetic_runs import write_grid

MEGABYTE = 2**20


def measure(runs: Path, out: Path, *words: str) -> dict[str, float]:
    """Report on `runs` in a process of its own. Returns wall and CPU seconds, peak memory and page size in MB."""
    command = [sys.executable, "-m", "rlrep.report", str(runs), f"out={out}", *words]
    environment = {**os.environ, "PYTHONPATH": str(machine.ROOT)}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)  # what this process used, and no other
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return {
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_memory_mb": round(used.ru_maxrss / 1024),
        "page_mb": round((out / "report.html").stat().st_size / MEGABYTE, 2),
    }


def study(seeds: int, folder: Path) -> Iterator[list[object]]:
    """Measure a tenth of the runs, then all of them, with and without figures."""
    for part in sorted({max(1, seeds // 10), seeds}):
        count = write_grid(folder / f"runs{part}", seeds=part)
        measure(folder / f"runs{part}", folder / "out", "figures=false")  # the files come from memory afterwards
        for words, figures in ((("figures=false",), "no"), ((), "yes")):
            yield [f"{count:,}", figures, *measure(folder / f"runs{part}", folder / "out", *words).values()]


def main() -> None:
    """Run the command line."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result.save(
            options.results / "report_speed.json",
            ["runs", "figures", "seconds", "CPU seconds", "peak memory, MB", "page, MB"],
            study(options.seeds, Path(folder)),
            limits="Synthetic runs, the files in the system's cache; 5 tasks, 4 arms, 2,000 resamples.",
        )


if __name__ == "__main__":
    main()
