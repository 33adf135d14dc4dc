"""The run folder: its default name, its identity, and what is written into it once."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError, one_line
from .files import replace_file
from .overrides import CommandLine

NOT_IDENTITY = frozenset({"out", "device", "launcher", "logger", "video", "video_format", "choices", "requested"})
"""Top-level keys that may change between the sessions of one run."""
_NAMED = frozenset({"env", "agent", "augment", "aux", "preset", "launcher", "logger"})
_REQUESTED = (("device",), ("compile",), ("train", "overlap"), ("train", "agent_steps"), ("train", "env_steps"))
_LENGTH = ("train.agent_steps", "train.env_steps")


def default_out(tree: Mapping[str, Any], line: CommandLine) -> str:
    """Return `runs/ENV/PRESET/AGENT-AUGMENT-AUX[-hash of other overrides]/seedN`."""
    chosen = tree["choices"]
    name = "-".join(chosen[group] for group in ("agent", "augment", "aux"))
    others = [
        f"{s.path}={json.dumps(s.value)}" for s in line.settings if s.path.split(".")[0] not in NOT_IDENTITY | {"seed"}
    ]
    others += [f"{group}={choice}" for group, choice in line.choices.items() if group not in _NAMED]
    if others:
        name += "-" + hashlib.sha256("\n".join(sorted(others)).encode()).hexdigest()[:8]
    return str(Path("runs") / chosen["env"] / chosen["preset"] / name / f"seed{tree['seed']}")


def resolve_tree(tree: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of `config.yaml`: resolved values in place, what was asked for under `requested`."""
    final: dict[str, Any] = json.loads(json.dumps(dict(tree)))
    final["requested"] = {".".join(path): _get(tree, path) for path in _REQUESTED}
    for path in _REQUESTED:
        holder = final if len(path) == 1 else final[path[0]]
        holder[path[-1]] = resolved[".".join(path)]
    return final


def read_config(folder: Path) -> dict[str, Any]:
    """Read a run folder's `config.yaml`. Raises UserError if there is none."""
    try:
        tree = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{folder} is not a run folder: {one_line(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{folder} is not a run folder: its config.yaml is empty")
    return tree


def as_requested(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored tree with the values that were asked for, as a command line composes them."""
    tree: dict[str, Any] = json.loads(json.dumps({key: value for key, value in stored.items() if key != "requested"}))
    for path, value in stored.get("requested", {}).items():
        *parents, leaf = path.split(".")
        holder = tree
        for key in parents:
            holder = holder[key]
        holder[leaf] = value
    return tree


def write_config(folder: Path, tree: Mapping[str, Any]) -> None:
    """Write `config.yaml`."""
    replace_file(folder / "config.yaml", yaml.safe_dump(dict(tree), sort_keys=False, width=120))


def check_same_run(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any], *, may_grow: bool) -> bool:
    """Return whether `asked` continues the run stored in `folder` with another length.

    Raises UserError naming the keys that differ, if it is another run or the length may not change.
    """
    old, new = (dict(_flatten(as_requested(tree))) for tree in (stored, asked))
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    differing = [key for key in differing if key.split(".")[0] not in NOT_IDENTITY]
    others = [key for key in differing if key not in _LENGTH]
    if not others and not differing:
        return False
    if not others and may_grow:
        return True
    shown = "; ".join(f"{key} was {old.get(key)}, now {new.get(key)}" for key in (others or differing)[:6])
    raise UserError(f"{folder} holds another run ({shown}): give this one its own out=, or repeat the first command")


def _get(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = tree
    for key in path:
        value = value[key]
    return value


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield f"{prefix}{key}", "{}"  # so that an empty group counts
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
