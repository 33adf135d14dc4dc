"""`python -m rlrep.bench speed`: the README's speed tables, by the scripts of `benchmarks/`."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlrep.config.overrides import Grammar, parse
from rlrep.process.cli import read_arguments, run_main
from rlrep.settings import UserError, build

_ROOT = Path(__file__).resolve().parents[3]
_GRAMMAR = Grammar((), paths=("curl", "rainbow"))
_HELP = """\
Time updates beside the peers' own code and write the README's tables. Needs a checkout of this repository.

  python -m rlrep.bench speed [curl=CHECKOUT] [rainbow=CHECKOUT] [device=cpu|cuda] [rounds=5] [seconds=5]

Stable-Baselines3 is always timed; MishaLaskin/curl and Kaixhin/Rainbow where a checkout is given."""


@dataclass(frozen=True)
class SpeedConfig:
    """What to time.

    curl, rainbow: checkouts of the peers' code. rounds: each times both sides in turn. seconds: of timing, per side.
    cases: of `benchmarks.update_speed`, as state256,pixels64; None = all that there are peers for.
    """

    curl: str | None = None
    rainbow: str | None = None
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
        print(_HELP)
        return 0
    asked: SpeedConfig = build(
        SpeedConfig, {s.path: s.value for s in parse(arguments.words, grammar=_GRAMMAR).settings}, ""
    )
    if not (_ROOT / "benchmarks" / "update_speed.py").exists():
        raise UserError(
            "the speed tables are the repository's: run this in a checkout of it, not in an installed rlrep"
        )
    for name in ("curl", "rainbow"):
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
    more = ["--curl", str(Path(asked.curl).resolve())] if asked.curl else []
    more += ["--cases", asked.cases] if asked.cases else []
    yield ["benchmarks.update_speed", *common, *more]
    if asked.rainbow:
        yield ["benchmarks.rainbow_speed", *common, "--rainbow", str(Path(asked.rainbow).resolve())]
    yield ["benchmarks.tables"]
