"""Where the time of training goes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SECTIONS = ("act", "env", "update")


class Stopwatch:
    """Seconds and calls by section since the last report.

    act: choosing actions. env: waiting for the simulators (what overlap does not hide). update: sampling and learning.
    Shares are of the time spent training, evaluation and saving left out. On a GPU, work is charged to whoever waits
    for it.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()  # sections of this kind of run
        self._restart()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Charge the block's time to `name`."""
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start
        self._calls[name] += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block's time out."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def report(self, per_call: Mapping[str, int]) -> dict[str, float]:
        """Return the `perf/` metrics since the last report, with rates of what an update and a wait for the simulators
        bring, as `per_call` says: `updates`, `env_steps`, `images`."""
        total = max(1e-9, time.perf_counter() - self._start)
        self._known |= {name for name, calls in self._calls.items() if calls}
        metrics = {f"perf/{name}_share": self._seconds[name] / total for name in SECTIONS if name in self._known}
        metrics |= {f"perf/{n}_ms": 1e3 * s / self._calls[n] for n, s in self._seconds.items() if self._calls[n]}
        for name, count in per_call.items():
            calls = self._calls["env" if name == "env_steps" else "update"]
            metrics[f"perf/{name}_per_second"] = calls * count / total
        self._restart()
        return metrics

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._seconds = dict.fromkeys(SECTIONS, 0.0)
        self._calls = dict.fromkeys(SECTIONS, 0)
