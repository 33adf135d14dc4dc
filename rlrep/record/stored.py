"""Files that nobody vouches for: each may be missing, cut off, of another type, or huge. All of that is Unreadable."""

import errno
import json
from pathlib import Path
from typing import Any, Literal

import yaml

from rlrep.files import NotPlain, read_plain
from rlrep.settings import one_line

MEGABYTE = 2**20
_LOADERS: dict[str, Any] = {
    "texts": getattr(yaml, "CBaseLoader", yaml.BaseLoader),
    "values": getattr(yaml, "CSafeLoader", yaml.SafeLoader),
}
MOST_OPTIONS = 5_000
_DEEPEST = 50


class Unreadable(Exception):
    """A file that cannot be used; the message says why, without its path."""


def read_text(path: Path, most: int) -> str:
    """Return a regular file's text. Raises Unreadable if it is none, or larger than `most` bytes."""
    return read_bytes(path, most).decode("utf-8-sig", "replace")


def read_bytes(path: Path, most: int) -> bytes:
    """Return a regular file's content. Raises Unreadable if it is none, or larger than `most` bytes."""
    try:
        return read_plain(path, most, follow=True)
    except FileNotFoundError as error:
        raise Unreadable("is missing") from error
    except NotPlain as error:
        large = error.errno == errno.EFBIG
        raise Unreadable(f"is larger than {most // MEGABYTE} MB" if large else "is not a file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unreadable(f"cannot be read ({reason})") from error


def read_yaml(path: Path, scalars: Literal["texts", "values"] = "texts") -> dict[str, Any]:
    """Return the mapping in a YAML file of up to 1 MB. Raises Unreadable.

    scalars: as texts, as they are written, so that no number or date can be absurd; or as a config's values: texts,
    numbers, true, false and null, with names for keys, and no aliases.
    """
    text, loader = read_text(path, MEGABYTE), _LOADERS[scalars]
    try:
        _check_shape(text, aliases=scalars == "texts")
        tree = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"is not YAML ({one_line(error)[:120]})") from error
    if not isinstance(tree, dict):
        raise Unreadable("holds no options")
    if scalars == "values":
        _check_values(tree)
    return tree


def _check_shape(text: str, *, aliases: bool) -> None:
    """Raise Unreadable if a YAML holds too much, or so deeply that the parser, which recurses in C, would crash."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, _LOADERS["texts"])):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise Unreadable(f"is nested more than {_DEEPEST} deep")
        if number > 4 * MOST_OPTIONS:
            raise Unreadable(f"holds more than {MOST_OPTIONS} options")
        if not aliases and isinstance(event, yaml.AliasEvent):
            raise Unreadable("has aliases, which can stand for any amount of text")


def _check_values(node: object) -> None:
    """Raise Unreadable for what no config holds: a date, a set, bytes, a key that is no text."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not isinstance(key, str):
                raise Unreadable(f"has {ascii(key)[:60]} for a name")
            _check_values(value)
    elif isinstance(node, list):
        for value in node:
            _check_values(value)
    elif not (node is None or isinstance(node, (str, int, float))):
        raise Unreadable(f"holds a {type(node).__name__}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of up to 1 MB. Raises Unreadable."""
    content = load_json(read_bytes(path, MEGABYTE))
    if not isinstance(content, dict):
        raise Unreadable("holds no object")
    return content


def load_json(data: bytes) -> Any:
    """Return what a JSON text holds. Raises Unreadable."""
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (RecursionError, ValueError) as error:
        raise Unreadable(f"is not JSON ({one_line(error)[:120]})") from error
