"""From a command line to a pretraining run's typed config."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rlrep.settings import TARGET, ConfigError, build, expand_names, find_target, with_all_defaults
from rlrep.settings.groups import AUTO, PRETRAIN_GROUPS, Tree, check, node, view
from rlrep.ssl import MethodConfig
from rlrep.ssl.data import DataConfig
from rlrep.views.base import View

from .files import Composition, compose_files
from .naming import default_pretrain_out
from .options import Expand, apply_settings, resolve
from .overrides import PRETRAIN, CommandLine, parse
from .pretrain_config import PretrainConfig

_COMPONENTS = ("method", "data", "encoder", "partition", "engine")
"""Groups whose choice is a dataclass with options."""


@dataclass(frozen=True)
class ComposedPretraining:
    """One run's config, typed and as the plain tree that `config.yaml` holds."""

    config: PretrainConfig
    tree: Tree


def compose_pretraining(words: Sequence[str], folders: Sequence[Path] = ()) -> ComposedPretraining:
    """Compose one run. Raises ConfigError in one line for anything that is not valid."""
    line = parse(words, PRETRAIN)
    tree = resolve(compose_node("pretrain", line, folders, groups=PRETRAIN_GROUPS))
    config: PretrainConfig = build(PretrainConfig, tree, "")
    config = replace(config, out=config.out or default_pretrain_out(config, line))
    return ComposedPretraining(config, {**tree, "out": config.out})


def compose_node(
    primary: str,
    line: CommandLine,
    folders: Sequence[Path],
    *,
    groups: Sequence[str],
    kinds: Collection[str] = ("pretrain", "pixels"),
) -> Tree:
    """Return what `configs/PRIMARY.yaml`, the files chosen in `groups` and the command line say, nothing resolved.

    kinds: what holds in `when`. Raises ConfigError in one line for anything that is not valid.
    """
    asked = {group: choice for group, choice in line.choices.items() if group != "augment"}
    made = compose_files(primary, asked, folders, kinds=lambda _: set(kinds))
    found = {key: value for key, value in made.node.items() if key != "scale"}
    found["choices"] = {g: str(made.choices.get(g, line.choices.get(g, AUTO))) for g in groups}
    for group in [group for group in _COMPONENTS if group in groups]:
        found[group] = with_all_defaults(found[group], group)
    if (augment := found["choices"]["augment"]) != AUTO:
        check("augment", augment, folders)
    expand = _expansion(made, found, folders)
    found["method"] = _expanded(found["method"], "method", found, expand)
    if line.setting("data.gap") is not None and "gap" not in found["data"]:
        raise ConfigError(
            f"data.gap needs frames with their time, data={found['choices']['data']} has none: leave it out"
        )
    _apply(found, line, expand)
    return found


def _expansion(made: Composition, found: Tree, folders: Sequence[Path]) -> Expand:
    """Return what puts settings in place of the names of views, and of the method that a method is built around."""
    named = partial(view, folders=folders, cases=made.cases)

    def base(name: str, path: str) -> Tree:
        check("method", name, folders, asked=f"{path}={name}")
        method = with_all_defaults(node("method", name, path, folders=folders, cases=made.cases), path)
        return _expanded(method, path, found, expand)

    def expand(holder: Any, path: str) -> Tree:
        return expand_names(expand_names(holder, path, MethodConfig, base), path, View, named)

    return expand


def _expanded(method: Tree, path: str, found: Tree, expand: Expand) -> Tree:
    """Return a method's node with settings in place of names, in the method that it is built around too."""
    if isinstance(base := method.get("base"), dict):
        method = {**method, "base": _expanded(base, f"{path}.base", found, expand)}
    return expand(_viewed(method, found), path)


def _viewed(method: Tree, found: Tree) -> Tree:
    """Return a method's node with its own views, the data's where it has one that suits, or the one asked for, by name.

    What a method spells out rather than names stays, unless another is asked for.
    """
    if "views" not in method:
        return method
    suits, asked = find_target(found["data"][TARGET], "data", DataConfig).augment, found["choices"]["augment"]
    views = [asked if asked != AUTO else suits if suits and isinstance(v, str) else v for v in method["views"]]
    return {**method, "views": views}


def innermost(method: Any) -> Any:
    """Return the node of a method that is built around no other one: that has the views."""
    base = method.get("base") if isinstance(method, dict) else None
    return innermost(base) if isinstance(base, dict) else method


def _apply(found: Tree, line: CommandLine, expand: Expand) -> None:
    """Write the settings into the tree; those of `augment.` are of all views of the method."""
    of_views = tuple(setting for setting in line.settings if setting.path.startswith("augment."))
    others = tuple(setting for setting in line.settings if setting not in of_views)
    apply_settings(found, replace(line, settings=others), expand)
    grammar = replace(line.grammar, lengths=())  # a view has none
    for each in innermost(found["method"])["views"]:
        apply_settings({"augment": each}, replace(line, settings=of_views, grammar=grammar), expand)
