"""What the scripts share: their command line, and the result file that the tables of the docs are made from."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import machine

RESULTS = machine.ROOT / "benchmarks" / "results"


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a script's docstring and knows where its result file goes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    return made


def timing(doc: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """Return the same for a script that times arms in turn, itself or in processes of its own (`--measure ARM`).

    seconds: the default per arm and round.
    """
    made = command_line(doc)
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=seconds, help="of timing, per arm and round")
    made.add_argument("--measure", help=argparse.SUPPRESS)
    return made


def fresh_seeds(count: int, settled: int = 1) -> range:
    """Return seeds without the first ones, on which the settings of what is measured were chosen."""
    return range(settled, settled + count)


def save(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    limits: str,
    more: Mapping[str, object] | None = None,
) -> None:
    """Write and print a result: its table, what that cannot say, and `more`."""
    listed = [list(row) for row in rows]
    write(path, {"limits": limits, "table": {"columns": list(columns), "rows": listed}, **(more or {})})
    for row in (columns, *listed):
        print(*row, sep=" | ")


def write(path: Path, content: Mapping[str, object]) -> None:
    """Write a result file: where it was measured, and what."""
    path.write_text(json.dumps({"machine": machine.describe(), **content}, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {path}")
