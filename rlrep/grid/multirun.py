"""`-m`: every run of a multirun in a process of its own, wherever `launcher=` says."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from rlrep.config.overrides import expand
from rlrep.launch import LauncherConfig
from rlrep.launch.base import Job
from rlrep.launch.lines import Lines, complain
from rlrep.launch.scheduler import Entry, More, Scheduler, Standing, View
from rlrep.process.cli import Arguments
from rlrep.process.output import spare_output
from rlrep.process.progress import PREFIX_VARIABLE
from rlrep.process.signals import catch_signals
from rlrep.settings import ConfigError

STOPPING = "stopping: the runs save (again to quit at once)"


class Settings(Protocol):
    """What a launch needs to know of a run."""

    @property
    def out(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def launcher(self) -> LauncherConfig: ...


class _Composed(Protocol):
    @property
    def config(self) -> Settings: ...


Compose = Callable[[Sequence[str], Sequence[Path]], _Composed]


@spare_output()
def launch(arguments: Arguments, entry: str, compose: Compose) -> int:
    """Check all runs of an entry point, then run them. Returns 0 if all finished, 128 + signal if stopped, else 1.

    Raises ConfigError before any run starts if one of them is not valid, or two share a run folder.
    """
    jobs = expand(arguments.words)
    configs = [compose(words, arguments.folders).config for words in jobs]
    _check_folders(jobs, configs)
    if arguments.show:
        print("\n".join(config.out for config in configs))
        return 0
    entries = [
        Entry(_job(number, words, config, arguments.folders, entry))
        for number, (words, config) in enumerate(zip(jobs, configs, strict=True), 1)
    ]
    code = conduct(entries, configs[0], Lines(entries))
    complain(entries, code)
    return code


def conduct(
    entries: Sequence[Entry],
    settings: Settings,
    view: View,
    standing: Standing | None = None,
    *,
    more: More | None = None,
    most: int = 0,
) -> int:
    """Run what is waiting where `settings.launcher` says. Returns the exit code; see `Scheduler.run`.

    more: what comes beside that while it runs, `most` in all.
    """
    waiting = most + sum(entry.state == "waiting" for entry in entries)
    folder = Path(settings.root) / ".launcher"
    with (
        closing(settings.launcher.make(jobs=waiting, device=settings.device, folder=folder)) as launcher,
        catch_signals(STOPPING) as stop,  # after the launcher: Ray sets a handler of its own
    ):
        return Scheduler(launcher, stop, view, standing).run(entries, more)


def command(entry: str, words: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the command of one run; how it is launched is not its concern."""
    flags = [word for folder in folders for word in ("--config-dir", str(folder.absolute()))]
    own = [word for word in words if word.partition("=")[0].split(".")[0] != "launcher"]
    return sys.executable, "-m", entry, *flags, *own


def log_of(out: str) -> Path:
    """Return where the output of the run in `out` goes, beside its folder."""
    return Path(out).with_name(f"{Path(out).name}.log")


def _job(number: int, words: Sequence[str], config: Settings, folders: Sequence[Path], entry: str) -> Job:
    log = None if config.launcher.own_output else log_of(config.out)
    return Job(" ".join(words), command(entry, words, folders), log, {PREFIX_VARIABLE: f"[{number}] "})


def _check_folders(jobs: Sequence[Sequence[str]], configs: Sequence[Settings]) -> None:
    seen: dict[str, Sequence[str]] = {}
    for words, config in zip(jobs, configs, strict=True):
        if config.out in seen:
            raise ConfigError(
                f"two runs share the folder {config.out} ({' '.join(seen[config.out])} and {' '.join(words)}): "
                f"leave out= away under -m, each run then gets its own"
            )
        seen[config.out] = words
