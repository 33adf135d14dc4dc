"""The command line of the entry points: flags, one-line errors, exit codes."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlrep.settings import ConfigError, Stopped, UserError, hint, one_line

from .output import drain, open_streams, spare_output
from .signals import follow_parent

_FLAGS = {"-h": "--help", "-m": "--multirun", "-c": "--cfg", "-cd": "--config-dir"}


@dataclass
class Arguments:
    """Flags and `key=value` words."""

    words: list[str] = field(default_factory=list)
    help: bool = False
    multirun: bool = False
    show: bool = False
    dry_run: bool = False
    folders: list[Path] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)

    def again(self, entry: str, words: Sequence[str]) -> str:
        """Return a command line with these words, quoted for a shell."""
        flags = [word for folder in self.folders for word in ("--config-dir", str(folder))]
        return shlex.join(["python", "-m", entry, *flags, *words])


def read_arguments(argv: Sequence[str], more: Sequence[str] = ()) -> Arguments:
    """Split flags from words. more: flags that only this entry point has. Raises ConfigError on an unknown flag."""
    arguments, rest = Arguments(), list(argv)
    while rest:
        word = rest.pop(0)
        flag, _, value = word.partition("=") if word.startswith("--") else (word, "", "")
        flag = _FLAGS.get(flag, flag)
        if not word.startswith("-"):
            arguments.words.append(word)
        elif flag == "--help":
            arguments.help = True
        elif flag == "--multirun":
            arguments.multirun = True
        elif flag == "--cfg":
            arguments.show = True
            if not value and rest[:1] == ["job"]:
                rest.pop(0)  # Hydra's spelling: --cfg job
        elif flag == "--config-dir":
            arguments.folders.append(config_folder(value or (rest.pop(0) if rest else "")))
        elif flag == "--trust" and flag in more:
            arguments.modules.append(_module(value or (rest.pop(0) if rest else "")))
        elif flag == "--dry-run" and flag in more:
            arguments.dry_run = True
        else:
            raise ConfigError(f"unknown flag {word}{hint(flag, [*_FLAGS.values(), *more])}")
    return arguments


def processes() -> int:
    """Return how many processes torchrun started. Raises UserError where its variable says something else."""
    asked = os.environ.get("WORLD_SIZE", "1")
    if not (asked.isdecimal() and int(asked)):
        raise UserError(f"WORLD_SIZE={asked} is no number of processes: unset it")
    return int(asked)


def check_alone() -> None:
    """Raise UserError if torchrun started several of us, which would all write into one folder."""
    if processes() > 1:
        raise UserError(
            f"WORLD_SIZE={processes()}, as torchrun sets it: only a single rlrep.pretrain runs in several processes; "
            f"start this by python -m, or unset WORLD_SIZE (rlrep.bench and -m use all GPUs, a run on each)"
        )


def entry(
    run: Callable[[Arguments], int], flags: Sequence[str] = (), *, check: Callable[[], object] = check_alone
) -> Callable[[Sequence[str]], int]:
    """Return the `main(argv)` of an entry point, which runs what the command line asks for and returns an exit code.

    flags: that only this entry point has. check: see `run_main`.
    """

    def main(argv: Sequence[str]) -> int:
        return run_main(lambda: run(read_arguments(argv, flags)), check=check)

    return main


def run_main(body: Callable[[], int], *, check: Callable[[], object] = check_alone) -> int:
    """Run an entry point's body and return its exit code; the user's errors become one line each.

    check: asked first, whether it may run as it was started.
    """
    follow_parent()
    open_streams()
    try:
        check()
        code = body()
        sys.stdout.flush()
        return code
    except Stopped as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from what is saved", 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        drain(sys.stdout)
        return 1
    except (UserError, OSError) as error:  # OSError: a full or read-only disk, which a traceback explains no better
        if os.environ.get("RLREP_TRACEBACK"):
            raise
        return _complain(f"error: {one_line(error)}", getattr(error, "exit_code", 1))


def _complain(line: str, exit_code: int) -> int:
    with spare_output():  # also where standard output is what failed
        print(line, file=sys.stderr, flush=True)
    return exit_code


def _module(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"--trust {name}: name a module, as in --trust my_package.heads")
    return name


def config_folder(name: str) -> Path:
    """Return a `--config-dir` folder, whose modules are found from now on, after all others."""
    folder = Path(os.path.expanduser(name))
    if not name or not folder.is_dir():
        raise ConfigError(f"--config-dir {name}: there is no such folder")
    if (place := str(folder.absolute())) not in sys.path:
        sys.path.append(place)
    return folder
