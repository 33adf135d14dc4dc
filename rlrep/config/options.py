"""Single options in a composed tree: set by dotted path, with the valid names where a path leads nowhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrep.settings import TARGET, ConfigError, accepts, find_target, hint, with_defaults
from rlrep.views.base import View

from . import registry
from .overrides import CommandLine

AUTO = "auto"


def apply_settings(node: dict[str, Any], line: CommandLine, folders: Sequence[Path]) -> None:
    """Write the command line's settings into `node`. Raises ConfigError for unknown paths, naming the nearest."""
    for setting in line.settings:
        *parents, leaf = setting.path.split(".")
        holder = _find(node, parents, setting.path, line.grammar.groups)
        if leaf not in holder or leaf == TARGET or setting.path.startswith("choices"):
            raise ConfigError(f"unknown option {setting.path}{_hint(node, parents, leaf, line.grammar.groups)}")
        _set(holder, leaf, _plain_text(setting.value) if setting.as_typed else setting.value, setting.path)
        if TARGET in holder:
            holder.update(expand_views(holder, ".".join(parents), folders))
    if line.grammar.lengths:
        _settle_length(node["train"], line)


def expand_views(node: Mapping[str, Any], path: str, folders: Sequence[Path] = (), *, auto: str = "") -> dict[str, Any]:
    """Replace the name of a view (`aux.curl.view=random_crop`), or a list of names, by the settings of that choice.

    auto: the name that `auto` stands for; while it is not known yet, `auto` is left standing.
    """
    cls = find_target(str(node[TARGET]), path)

    def expand(value: Any, place: str) -> Any:
        if isinstance(value, list):
            return [expand(each, f"{place}[{i}]") for i, each in enumerate(value)]
        if not isinstance(value, str) or (value == AUTO and not auto):
            return value
        return view_node(auto if value == AUTO else value, place, folders)

    return {
        key: expand(value, f"{path}.{key}") if key != TARGET and accepts(cls, key, View) else value
        for key, value in node.items()
    }


def auto_view(augment: str, obs: str) -> str:
    """Return what a head's `view=auto` is: the agent's augmentation or, where it has none, the kind's usual one."""
    return {"pixels": "random_shift", "state": "amplitude_scale"}[obs] if augment.startswith("none") else augment


def view_node(name: str, path: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the node of an augmentation by name. Raises ConfigError with the valid names."""
    if name not in registry.names("augment", folders) or name == "auto":
        raise ConfigError(f"{path}={name} is not known{hint(name, registry.visible('augment', folders))}")
    return with_defaults(registry.read_yaml("augment", name, folders), path)


def _find(node: dict[str, Any], parents: Sequence[str], path: str, groups: Sequence[str]) -> dict[str, Any]:
    holder: Any = node
    for depth, key in enumerate(parents):
        if not isinstance(holder, dict) or key not in holder:
            raise ConfigError(f"unknown option {path}{_inactive(parents) or _hint(node, parents[:depth], key, groups)}")
        holder = holder[key]
    if not isinstance(holder, dict):
        raise ConfigError(f"unknown option {path}: {'.'.join(parents)} has no options (it is {holder})")
    return holder


def _inactive(parents: Sequence[str]) -> str:
    if parents[0] == "aux" and len(parents) > 1 and parents[1] in registry.names("aux"):
        return f": that head is not active, add aux={parents[1]} (or aux=[...] for several)"
    return ""


def _hint(node: Mapping[str, Any], parents: Sequence[str], leaf: str, groups: Sequence[str]) -> str:
    """Name what is valid beside the unknown key, and the same key elsewhere."""
    elsewhere = [path for path in _paths(node) if path.split(".")[-1] == leaf]
    if elsewhere:
        return f": did you mean {', '.join(elsewhere[:3])}?"
    holder: Any = node
    for key in parents:
        holder = holder[key]
    prefix = "".join(f"{key}." for key in parents)
    valid = [f"{prefix}{key}" for key in holder if key not in (TARGET, "choices")] if isinstance(holder, dict) else []
    return hint(f"{prefix}{leaf}", valid if parents else {*valid, *groups})


def _paths(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


def _set(holder: dict[str, Any], leaf: str, value: Any, path: str) -> None:
    old = holder[leaf]
    if isinstance(value, dict) and isinstance(old, dict):
        for key, inner in value.items():
            if key not in old:
                raise ConfigError(f"unknown option {path}.{key}{hint(str(key), set(old) - {TARGET})}")
            _set(old, key, inner, f"{path}.{key}")
    elif isinstance(old, dict) and not isinstance(value, str) and value is not None:
        raise ConfigError(
            f"{path}={value}: expected one of its options, as in {path}.{next(iter(set(old) - {TARGET}), 'x')}=..."
        )
    else:
        holder[leaf] = value


def _plain_text(value: Any) -> Any:
    """Return a text such that resolving the tree gives it back: `${` refers to nothing."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _settle_length(train: dict[str, Any], line: CommandLine) -> None:
    """A length on the command line replaces the preset's, in either unit."""
    names = [path.removeprefix("train.") for path in line.grammar.lengths]
    for given, other in (names, names[::-1]):
        if line.setting(f"train.{given}") is not None:
            train[other] = None
    if (train[names[0]] is None) == (train[names[1]] is None):
        raise ConfigError(f"the run has no length: give {' or '.join(f'{p}=N' for p in line.grammar.lengths)}")
