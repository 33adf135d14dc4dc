"""`-m`: every run of a multirun in a process of its own, a few at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from .cli import Arguments
from .config import LauncherConfig
from .errors import ConfigError
from .overrides import expand
from .process import cores
from .progress import PREFIX_VARIABLE
from .signals import StopRequest, catch_signals

_POLL_SECONDS = 0.1


class _Settings(Protocol):
    @property
    def out(self) -> str: ...
    @property
    def launcher(self) -> LauncherConfig: ...


class _Composed(Protocol):
    @property
    def config(self) -> _Settings: ...


Compose = Callable[[Sequence[str], Sequence[Path]], _Composed]


def launch(arguments: Arguments, entry: str, compose: Compose) -> int:
    """Check all runs of an entry point, then run them. Returns 0 if all finished, 128 + signal if stopped, else 1.

    Raises ConfigError before any run starts if one of them is not valid, or two share a run folder.
    """
    jobs = expand(arguments.words)
    composed = [compose(words, arguments.folders) for words in jobs]
    _check_folders(jobs, composed)
    if arguments.show:
        print("\n".join(run.config.out for run in composed))
        return 0
    with catch_signals() as stop:
        return _Pool(arguments, entry, composed[0].config.launcher.jobs, stop).run(jobs)


def _check_folders(jobs: Sequence[Sequence[str]], composed: Sequence[_Composed]) -> None:
    seen: dict[str, Sequence[str]] = {}
    for words, run in zip(jobs, composed, strict=True):
        if run.config.out in seen:
            raise ConfigError(
                f"two runs share the folder {run.config.out} ({' '.join(seen[run.config.out])} and {' '.join(words)}): "
                f"leave out= away under -m, each run then gets its own"
            )
        seen[run.config.out] = words


class _Pool:
    """Runs child processes, `width` at a time; the cores are shared out among them."""

    def __init__(self, arguments: Arguments, entry: str, width: int, stop: StopRequest) -> None:
        self._arguments, self._entry, self._width, self._stop = arguments, entry, width, stop
        self._running: dict[subprocess.Popen[bytes], str] = {}
        self._failed: list[str] = []

    def run(self, jobs: Sequence[Sequence[str]]) -> int:
        waiting = list(enumerate(jobs, 1))
        try:
            while waiting or self._running:
                self._reap()
                if self._stop.signal_number is not None:
                    return self._end(self._stop.signal_number)
                while waiting and len(self._running) < self._width:
                    number, words = waiting.pop(0)
                    print(f"[{number}/{len(jobs)}] {' '.join(words)}", flush=True)
                    self._start(number, words)
                time.sleep(_POLL_SECONDS)
        finally:
            for process in self._running:
                process.kill()
        for failure in self._failed:
            print(f"failed: {failure}", file=sys.stderr, flush=True)
        return 1 if self._failed else 0

    def _start(self, number: int, words: Sequence[str]) -> None:
        flags = [word for folder in self._arguments.folders for word in ("--config-dir", str(folder))]
        command = [sys.executable, "-m", self._entry, *flags, *words]
        environment = dict(os.environ)
        if self._width > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // self._width)))
            environment[PREFIX_VARIABLE] = f"[{number}] "
        # a session of its own, so that a terminal's Ctrl-C reaches it once, through us
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        self._running[process] = " ".join(words)

    def _reap(self) -> None:
        for process in [process for process in self._running if process.poll() is not None]:
            words = self._running.pop(process)
            if process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM):
                self._stop.signal_number = process.returncode - 128
            elif process.returncode != 0:
                self._failed.append(f"{words} (exit code {process.returncode})")

    def _end(self, number: int) -> int:
        """Pass the signal on and wait for the runs to save. A second signal kills them."""
        for process in self._running:
            process.send_signal(number)
        for process in self._running:
            process.wait()
        print("stopped; the same command goes on", file=sys.stderr, flush=True)
        return 128 + number
