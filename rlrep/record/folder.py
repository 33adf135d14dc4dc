"""The run folder: its identity, and what is written into it once."""

import csv
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import yaml

from rlrep.config.naming import matters
from rlrep.contract.env import Scoring, TaskSet
from rlrep.files import foreign, open_plain
from rlrep.settings import Busy, UserError, one_line

from .files import replace_file
from .stored import Unreadable, read_yaml

_LOCK_SECONDS = 5.0
_SHOWN = 200
_LENGTH = ("train.agent_steps", "train.env_steps")


def resolve_tree(tree: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of `config.yaml`: resolved values (by dotted path) in place, what was asked under `requested`."""
    final: dict[str, Any] = json.loads(json.dumps(dict(tree)))
    final["requested"] = {}
    for path, value in resolved.items():
        holder, leaf = _holder(final, path)
        final["requested"][path], holder[leaf] = holder[leaf], value
    return final


def read_config(folder: Path) -> dict[str, Any]:
    """Read a run folder's `config.yaml`, whose texts are texts. Raises UserError if there is none, or a damaged one."""
    try:
        tree = read_yaml(folder / "config.yaml", "values")
    except Unreadable as error:
        raise UserError(f"{folder} is not a run folder: its config.yaml {error}") from error
    return tree


def check_plain(folder: Path) -> None:
    """Raise UserError if a run folder, where it is one, holds links or devices, through which we would write elsewhere.

    The folder itself may be reached through links.
    """
    found = foreign(folder) if folder.is_dir() else None
    if found is not None:
        raise UserError(f"{folder} holds {found}: a run folder is made of files and folders alone; take that out of it")


def as_requested(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored tree with the values that were asked for, as a command line composes them."""
    tree: dict[str, Any] = json.loads(json.dumps({key: value for key, value in stored.items() if key != "requested"}))
    try:
        for path, value in (stored.get("requested") or {}).items():
            holder, leaf = _holder(tree, path)
            holder[leaf] = value
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"config.yaml is damaged: what it says was requested ({one_line(error)[:80]})") from error
    return tree


def write_config(folder: Path, tree: Mapping[str, Any]) -> None:
    """Write `config.yaml`."""
    replace_file(folder / "config.yaml", yaml.safe_dump(dict(tree), sort_keys=False, width=120))


def has_final_row(folder: Path) -> bool:
    """Whether a run's final evaluation is in its `eval.csv`."""
    try:
        with open(folder / "eval.csv", newline="", errors="replace") as file:
            return any(row.get("kind") == "final" for row in csv.DictReader(file))
    except (OSError, csv.Error):
        return False


def write_tasks(folder: Path, tasks: TaskSet) -> None:
    """Write `tasks.json`: the tasks of training and of evaluation, by name."""
    named = {
        part: {task.name: task.parameters for task in listed}
        for part, listed in (("train", tasks.train), ("test", tasks.test))
    }
    replace_file(folder / "tasks.json", json.dumps(named, indent=1) + "\n")


def write_scoring(folder: Path, scoring: Scoring) -> None:
    """Write `scoring.json`: how the environment's returns become scores."""
    replace_file(folder / "scoring.json", json.dumps(asdict(scoring), indent=1) + "\n")


def check_same_run(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any], *, may_grow: bool) -> bool:
    """Return whether `asked` continues the run stored in `folder` with another length.

    Raises UserError naming the keys that differ, if it is another run or the length may not change.
    """
    try:
        old, new = (dict(_flatten(as_requested(tree))) for tree in (stored, asked))
    except UserError as error:
        raise UserError(f"{folder}: its {error}") from error
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    differing = [key for key in differing if matters(key)]
    others = [key for key in differing if key not in _LENGTH]
    if not others and not differing:
        return False
    if not others and may_grow:
        return True
    shown = "; ".join(
        f"{key} was {_shown(old.get(key))}, now {_shown(new.get(key))}" for key in (others or differing)[:6]
    )
    raise UserError(f"{folder} holds another run ({shown}): give this one its own out=, or repeat the first command")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second process out of a run folder. The system frees the lock however this process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    check_plain(folder)
    with open(open_plain(folder / ".lock", os.O_RDWR | os.O_CREAT), "w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS  # a killed run's simulators take a moment to go
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise Busy(f"another process is training in {folder}: wait for it, or choose another out=")
            time.sleep(0.1)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process is training in a run folder now, as far as this machine can tell."""
    try:
        with open(open_plain(folder / ".lock", os.O_RDONLY)) as file:
            return not _try_lock(file, fcntl.LOCK_SH)  # two that ask do not take each other for a training process
    except OSError:
        return False


def _try_lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _holder(tree: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *parents, leaf = path.split(".")
    for key in parents:
        tree = tree[key]
    return tree, leaf


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield f"{prefix}{key}", "{}"  # so that an empty group counts
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
