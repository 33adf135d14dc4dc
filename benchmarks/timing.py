"""Timing: calls per second, ways that take turns, and arms each in a process of its own, round by round."""

import json
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from . import machine

Numbers = dict[str, float]
UPDATES = "updates_per_second"


def rate(call: Callable[[], object], device: str, seconds: float, *, stretch: int = 2) -> float:
    """Return calls per second: the median over stretches of so many (an actor moves every second update)."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        start = time.perf_counter()
        for _ in range(stretch):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return stretch / statistics.median(times)


def rates_in_turn(ways: Mapping[str, Callable[[], object]], work: float, blocks: int) -> Numbers:
    """Return the work per second of every way: medians over blocks in which all take turns, after one that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(blocks + 1):
        for name, play in ways.items():
            start = time.perf_counter()
            play()
            taken[name].append(time.perf_counter() - start)
    return {name: round(float(np.median(work / np.array(times[1:]))), 1) for name, times in taken.items()}


def ratios_to(peer: str, rates: Mapping[str, float]) -> Numbers:
    """Return every other way's rate over the peer's."""
    return {name: round(found / rates[peer], 2) for name, found in rates.items() if name != peer}


def apart(script: str, arm: str, options: Namespace, *own: str) -> Numbers:
    """Return what `benchmarks.SCRIPT --measure ARM` prints last, in a fresh process.

    own: options of the script to hand on. Raises SystemExit with its last line if it fails.
    """
    words = ["--measure", arm]
    for name in ("device", "seconds", *own):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name}", str(value)]
    command = [sys.executable, "-m", f"benchmarks.{script}", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=machine.ROOT)
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr.strip().splitlines()[-1]}")
    found: Numbers = json.loads(done.stdout.splitlines()[-1])
    return found


class Rounds:
    """What arms measured, all in turn in every round, so that a disturbance of the machine meets all alike."""

    def __init__(self, arms: Sequence[str], count: int, measure: Callable[[str], Numbers]) -> None:
        self._rounds = [{arm: measure(arm) for arm in arms} for _ in range(count)]

    def median(self, arm: str) -> Numbers:
        """Return the medians of an arm's numbers."""
        first = self._rounds[0][arm]
        return {key: statistics.median(each[arm][key] for each in self._rounds) for key in first}

    def ratio(self, arm: str, over: str) -> dict[str, Any]:
        """Return updates per second over another arm's: every round's, and their median."""
        ratios = [each[arm][UPDATES] / each[over][UPDATES] for each in self._rounds]
        return {"ratio": statistics.median(ratios), "ratios": ratios}

    def shares(self, arm: str) -> dict[str, Any]:
        """Return GFLOP/s reached and the share of the best rate, nothing where no operations were counted."""
        found = self.median(arm)
        if "gflop_per_update" not in found:
            return {}
        shares = [share(each[arm]) for each in self._rounds]  # rates of one process are of one moment
        return {"gflops_reached": reached(found), "share_of_best": statistics.median(shares), "shares": shares}


def operations(update: Callable[[], object], times: int = 1) -> float:
    """Count the GFLOP of an update's matrix products and convolutions, run eagerly: the mean of so many."""
    with FlopCounterMode(display=False) as counter:
        for _ in range(times):
            update()
    return float(counter.get_total_flops()) / times / 1e9


def reached(found: Numbers) -> float:
    """Return GFLOP/s of updates."""
    return found["gflop_per_update"] * found[UPDATES]


def share(found: Numbers) -> float:
    """Return what part of the best measured rate (`*_gflops`) updates reach."""
    return reached(found) / max(value for key, value in found.items() if key.endswith("_gflops"))


def counted(result: Mapping[str, Any]) -> list[str]:
    """Return the table's cells of `Rounds.shares`: GFLOP/s, and the share in percent."""
    if "share_of_best" not in result:
        return ["", ""]
    return [f"{result['gflops_reached']:.0f}", f"{100 * result['share_of_best']:.0f} %"]
