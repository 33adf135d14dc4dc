"""Tables and logs that nobody vouches for, and short texts of what is in them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrep.record.stored import MEGABYTE, MOST_OPTIONS, Unreadable, load_json, read_bytes, read_text
from rlrep.settings import UserError

_LONGEST = 300


@dataclass
class Table:
    """Rows of a CSV by column; `damaged` counts those that were cut off or malformed."""

    columns: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)
    damaged: int = 0


def clean(text: str) -> str:
    """Return a text that every file and screen can take on one line: `?` for lone surrogates and control characters."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def read_csv(path: Path) -> Table:
    """Return a CSV of up to 64 MB; rows of another length than the header are counted as damaged. Raises Unreadable."""
    text = read_text(path, 64 * MEGABYTE)
    whole = text.endswith("\n")
    records = csv.reader(text.splitlines())
    table = Table(tuple(next(_records(records, []), [])))
    broken: list[int] = []
    table.rows = [row for row in _records(records, broken) if row]
    if not whole and table.rows:  # its last number may have lost digits
        table.rows.pop()
        table.damaged += 1
    kept = [row for row in table.rows if len(row) == len(table.columns)]
    table.damaged += len(table.rows) - len(kept) + len(broken)
    table.rows = kept
    return table


def _records(reader: Iterator[list[str]], broken: list[int]) -> Iterator[list[str]]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            broken.append(1)


def read_lines(path: Path, wanted: Sequence[bytes], most_lines: int) -> list[dict[str, Any]]:
    """Return objects of a JSON-lines file of up to 256 MB: for each text of `wanted` up to `most_lines` that hold it.

    They are evenly spread, the last one among them. Lines that are no JSON objects are left out. Raises Unreadable.
    """
    lines = read_bytes(path, 256 * MEGABYTE).split(b"\n")[:-1]
    chosen: set[int] = set()
    for text in wanted:
        having = [number for number, line in enumerate(lines) if text in line]
        step = max(1, -(-len(having) // most_lines))
        chosen.update(having[::-1][::step])
    return [found for number in sorted(chosen) if (found := _object(lines[number]))]


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = load_json(line)
    except Unreadable:
        return {}
    return found if isinstance(found, dict) else {}


def clear(folder: Path, names: str) -> None:
    """Make a folder if there is none, and remove what an earlier report left: files whose names match `names`.

    Raises UserError if it is a link: what is behind that is not ours to remove.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link: remove it, or choose another out=")
    folder.mkdir(parents=True, exist_ok=True)
    for path in list(folder.iterdir()):
        if re.fullmatch(names, path.name) and not path.is_dir():
            path.unlink()


def flatten(tree: Mapping[Any, Any]) -> dict[str, str]:
    """Return a tree's leaves by dotted path, as short texts. Raises Unreadable if there are absurdly many."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, Mapping) and node:
            waiting += [(f"{path}.{key}"[:_LONGEST] if path else str(key), value) for key, value in node.items()]
        else:
            found[clean(path[:_LONGEST])] = shown(node)
        if len(waiting) + len(found) > MOST_OPTIONS:
            raise Unreadable(f"holds more than {MOST_OPTIONS} options")
    return found


def shown(value: object) -> str:
    """Return a value as a config writes it, at most 300 characters of it."""
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value[:20] if not isinstance(item, (list, dict)))}]"[:_LONGEST]
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return clean(str(value)[:_LONGEST]) if not isinstance(value, dict) else "{}"
