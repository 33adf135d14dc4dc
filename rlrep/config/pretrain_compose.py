"""From a command line to a pretraining run's typed config."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rlrep.settings import TARGET, ConfigError, build, expand_names, find_target, with_all_defaults
from rlrep.settings.groups import AUTO, PRETRAIN_GROUPS, Tree, check, view
from rlrep.ssl.data import DataConfig
from rlrep.views.base import View

from .files import compose_files
from .naming import default_pretrain_out
from .options import Expand, apply_settings, resolve
from .overrides import PRETRAIN, CommandLine, parse
from .pretrain_config import PretrainConfig


@dataclass(frozen=True)
class ComposedPretraining:
    """One run's config, typed and as the plain tree that `config.yaml` holds."""

    config: PretrainConfig
    tree: Tree


def compose_pretraining(words: Sequence[str], folders: Sequence[Path] = ()) -> ComposedPretraining:
    """Compose one run. Raises ConfigError in one line for anything that is not valid."""
    line = parse(words, PRETRAIN)
    asked = {group: choice for group, choice in line.choices.items() if group != "augment"}
    made = compose_files("pretrain", asked, folders, kinds=lambda _: {"pretrain", "pixels"})
    node = {key: value for key, value in made.node.items() if key != "scale"}
    node["choices"] = {g: str(made.choices.get(g, line.choices.get(g, AUTO))) for g in PRETRAIN_GROUPS}
    for group in ("method", "data", "encoder"):
        node[group] = with_all_defaults(node[group], group)
    if (augment := node["choices"]["augment"]) != AUTO:
        check("augment", augment, folders)
    named = partial(view, folders=folders, cases=made.cases)
    expand = partial(expand_names, kind=View, named=named)
    node["method"] = expand({**node["method"], "views": _views(node, augment)}, "method")
    if line.setting("data.gap") is not None and "gap" not in node["data"]:
        raise ConfigError(
            f"data.gap needs frames with their time, data={node['choices']['data']} has none: leave it out"
        )
    _apply(node, line, expand)
    tree = resolve(node)
    config: PretrainConfig = build(PretrainConfig, tree, "")
    config = replace(config, out=config.out or default_pretrain_out(config, line))
    return ComposedPretraining(config, {**tree, "out": config.out})


def _views(node: Tree, asked: str) -> list[Any]:
    """Return the method's views: its own, the data's where it has one that suits, or the one asked for, by name.

    What a method spells out rather than names stays, unless another is asked for.
    """
    suits = find_target(node["data"][TARGET], "data", DataConfig).augment
    views = node["method"]["views"]
    if asked != AUTO:
        return [asked for _ in views]
    return [suits if suits and isinstance(view, str) else view for view in views]


def _apply(node: Tree, line: CommandLine, expand: Expand) -> None:
    """Write the settings into the tree; those of `augment.` are of all views of the method."""
    of_views = tuple(setting for setting in line.settings if setting.path.startswith("augment."))
    others = tuple(setting for setting in line.settings if setting not in of_views)
    apply_settings(node, replace(line, settings=others), expand)
    grammar = replace(line.grammar, lengths=())  # a view has none
    for each in node["method"]["views"]:
        apply_settings({"augment": each}, replace(line, settings=of_views, grammar=grammar), expand)
