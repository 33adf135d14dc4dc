"""Files that nobody vouches for: each may be missing, cut off, of another type, or huge. All of that is Unreadable."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlrep.runtime.errors import one_line

MEGABYTE = 2**20
_TEXTS: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Every scalar as it is written: no number, date, tag or merge (`<<`) is worked out, so none can be absurd."""
_MOST_OPTIONS = 5_000
_DEEPEST = 50
_LONGEST = 300


class Unreadable(Exception):
    """A file that cannot be used; the message says why, without its path."""


@dataclass
class Table:
    """Rows of a CSV by column; `damaged` counts those that were cut off or malformed."""

    columns: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)
    damaged: int = 0


def clean(text: str) -> str:
    """Return a text that every file and screen can take on one line: `?` for lone surrogates and control characters."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def read_text(path: Path, most: int) -> str:
    """Return a regular file's text. Raises Unreadable if it is none, or larger than `most` bytes."""
    try:
        if not path.is_file():
            raise Unreadable("is missing" if not path.exists() else "is not a file")
        if path.stat().st_size > most:
            raise Unreadable(f"is larger than {most // MEGABYTE} MB")
        return path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or type(error).__name__})") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file of up to 1 MB, its scalars as texts. Raises Unreadable."""
    text = read_text(path, MEGABYTE)
    try:
        _check_shape(text)
        tree = yaml.load(text, _TEXTS)
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(f"is not YAML ({one_line(error)[:120]})") from error
    if not isinstance(tree, dict):
        raise Unreadable("holds no options")
    return tree


def _check_shape(text: str) -> None:
    """Raise Unreadable if a YAML holds too much, or so deeply that the parser, which recurses in C, would crash."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, _TEXTS)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise Unreadable(f"is nested more than {_DEEPEST} deep")
        if number > 4 * _MOST_OPTIONS:
            raise Unreadable(f"holds more than {_MOST_OPTIONS} options")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of up to 1 MB. Raises Unreadable."""
    try:
        content = json.loads(read_text(path, MEGABYTE))
    except (RecursionError, ValueError) as error:
        raise Unreadable(f"is not JSON ({one_line(error)[:120]})") from error
    if not isinstance(content, dict):
        raise Unreadable("holds no object")
    return content


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
    try:
        if not path.is_file():
            raise Unreadable("is missing or not a file")
        if path.stat().st_size > 256 * MEGABYTE:
            raise Unreadable("is larger than 256 MB")
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or type(error).__name__})") from error
    chosen: set[int] = set()
    for text in wanted:
        having = [number for number, line in enumerate(lines) if text in line]
        step = max(1, -(-len(having) // most_lines))
        chosen.update(having[::-1][::step])
    return [found for number in sorted(chosen) if (found := _object(lines[number]))]


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (RecursionError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def clear(folder: Path, names: str) -> None:
    """Make a folder if there is none, and remove what an earlier report left: files whose names match `names`."""
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
        if len(waiting) + len(found) > _MOST_OPTIONS:
            raise Unreadable(f"holds more than {_MOST_OPTIONS} options")
    return found


def shown(value: object) -> str:
    """Return a value as a config writes it, at most 300 characters of it."""
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value[:20] if not isinstance(item, (list, dict)))}]"[:_LONGEST]
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return clean(str(value)[:_LONGEST]) if not isinstance(value, dict) else "{}"
