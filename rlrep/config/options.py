"""Single options in a composed tree: set by dotted path, with the valid names where a path leads nowhere."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from rlrep.settings import TARGET, ConfigError, hint, one_line
from rlrep.settings.groups import Tree, names

from .overrides import CommandLine

Expand = Callable[[Mapping[str, Any], str], Tree]
"""Puts the settings of a view in place of its name (`aux.curl.view=random_crop`), given a component and its path."""


def apply_settings(tree: Tree, line: CommandLine, expand: Expand) -> None:
    """Write the command line's settings into `tree`. Raises ConfigError for unknown paths, naming the nearest."""
    for setting in line.settings:
        *parents, leaf = setting.path.split(".")
        holder = _find(tree, parents, setting.path, line.grammar.groups)
        if leaf not in holder or leaf == TARGET or setting.path.startswith("choices"):
            raise ConfigError(f"unknown option {setting.path}{_hint(tree, parents, leaf, line.grammar.groups)}")
        _set(holder, leaf, _plain_text(setting.value) if setting.as_typed else setting.value, setting.path)
        if TARGET in holder and isinstance(setting.value, (str, list)):  # the name of a view, or names
            holder.update(expand(holder, ".".join(parents)))
    if line.grammar.lengths:
        _settle_length(tree["train"], line)


def resolve(tree: Mapping[str, Any]) -> Tree:
    """Return the tree with references resolved. Raises ConfigError where one leads nowhere or a value is missing."""
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(dict(tree)), resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value yet: give {error.full_key}=...") from error
    except InterpolationKeyError as error:
        raise ConfigError(f"{error.full_key} refers to an option that is not there: {one_line(error)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"cannot resolve the config: {one_line(error)}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


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
    if parents[0] == "aux" and len(parents) > 1 and parents[1] in names("aux"):
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
        example = next((key for key in old if key != TARGET), "x")
        raise ConfigError(f"{path}={value}: expected one of its options, as in {path}.{example}=...")
    else:
        holder[leaf] = value


def _plain_text(value: Any) -> Any:
    """Return a text such that resolving the tree gives it back: `${` refers to nothing."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _settle_length(train: dict[str, Any], line: CommandLine) -> None:
    """A length on the command line replaces the preset's, in either unit."""
    names = [path.removeprefix("train.") for path in line.grammar.lengths]
    given = {setting.path.removeprefix("train.") for setting in line.settings if setting.value is not None}
    for name, other in (names, names[::-1]):
        if name in given:
            train[other] = None
    if (train[names[0]] is None) == (train[names[1]] is None):
        raise ConfigError(f"the run has no length: give {' or '.join(f'{p}=N' for p in line.grammar.lengths)}")
