"""`python -m rlrep.bench speed`: the README's speed tables, by the scripts of `benchmarks/`."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from rlrep.config.help import help_text
from rlrep.config.overrides import Grammar, parse
from rlrep.process.cli import read_arguments, run_main
from rlrep.settings import UserError, build

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peers:
    """Checkouts of the peers' code, MishaLaskin/curl and Kaixhin/Rainbow."""

    curl: str | None = None
    rainbow: str | None = None


_PEERS = tuple(field.name for field in fields(Peers))


@dataclass(frozen=True)
class SpeedConfig(Peers):
    """What to time.

    rounds: each times both sides in turn. seconds: of timing, per side.
    cases: of `benchmarks.update_speed`, as state256,pixels64; None = all that there are peers for.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    rounds: int = 5
    seconds: float = 5.0
    cases: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seconds <= 0:
            raise ValueError(f"rounds={self.rounds} and seconds={self.seconds} must be positive")


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_main(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    arguments = read_arguments(argv, ("--dry-run",))
    if arguments.help:
        print(help_text("speed"))
        return 0
    asked: SpeedConfig = build(
        SpeedConfig, {s.path: s.value for s in parse(arguments.words, grammar=Grammar((), paths=_PEERS)).settings}, ""
    )
    if not (_ROOT / "benchmarks" / "update_speed.py").exists():
        raise UserError(
            "the speed tables are the repository's: run this in a checkout of it, not in an installed rlrep"
        )
    for name in _PEERS:
        path = getattr(asked, name)
        if path is None:
            print(f"left out: what {name}=CHECKOUT would be compared with", flush=True)
        elif not Path(path).is_dir():
            raise UserError(f"{name}={path}: there is no such folder")
    commands = [[sys.executable, "-m", *words] for words in scripts(asked)]
    for command in commands:
        if arguments.dry_run:
            print(" ".join(["python", *command[1:]]))
        elif code := subprocess.run(command, cwd=_ROOT).returncode:
            return code
    return 0


def scripts(asked: SpeedConfig) -> Iterator[list[str]]:
    """Yield the words after `python -m` of each script, the one that writes the README last."""
    common = ["--device", asked.device, "--rounds", str(asked.rounds), "--seconds", str(asked.seconds)]
    curl, rainbow = (_checkout(asked, name) for name in _PEERS)
    yield ["benchmarks.update_speed", *common, *curl, *(("--cases", asked.cases) if asked.cases else ())]
    if rainbow:
        yield ["benchmarks.rainbow_speed", *common, *rainbow]
    yield ["benchmarks.tables"]


def _checkout(asked: SpeedConfig, name: str) -> list[str]:
    path: str | None = getattr(asked, name)
    return [f"--{name}", str(Path(path).resolve())] if path else []
