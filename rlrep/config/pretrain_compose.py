"""From a command line to a pretraining run's typed config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlrep.settings import TARGET, ConfigError, build, find_target, with_defaults

from . import registry
from .compose import check_target, compose_tree, merge, resolve
from .naming import default_pretrain_out
from .options import apply_settings, expand_views, view_node
from .overrides import PRETRAIN, CommandLine, parse
from .pretrain_config import PretrainConfig

_SUFFIX = "_pretrain"
_COMPONENTS = ("method", "data", "encoder")


@dataclass(frozen=True)
class ComposedPretraining:
    """One run's config, typed and as the plain tree that `config.yaml` holds."""

    config: PretrainConfig
    tree: dict[str, Any]


def compose_pretraining(words: Sequence[str], folders: Sequence[Path] = ()) -> ComposedPretraining:
    """Compose one run. Raises ConfigError in one line for anything that is not valid."""
    line = parse(words, folders, PRETRAIN)
    chosen = [f"{group}={_variant(group, str(name), folders)}" for group, name in line.choices.items()]
    node, made = compose_tree("pretrain", [w for w in chosen if not w.startswith("augment=")], folders)
    node = merge(node, node.pop("when").get(node.pop("scale"), {}))
    node["choices"] = {
        g: str(line.choices.get(g, made.get(g, "auto"))).removesuffix(_SUFFIX) for g in registry.PRETRAIN_GROUPS
    }
    for group in _COMPONENTS:
        check_target(node.get(group), group, node["choices"][group])
        node[group] = fill(node[group], group)
    node["method"]["views"] = _views(node, line, folders)
    if line.setting("data.gap") is not None and "gap" not in node["data"]:
        raise ConfigError(
            f"data.gap needs frames with their time, data={node['choices']['data']} has none: leave it out"
        )
    of_views, others = _apart(line)
    apply_settings(node, others, folders)
    for view in node["method"]["views"]:
        apply_settings({"augment": view}, of_views, folders)
    tree = resolve(node)
    tree["out"] = tree["out"] or default_pretrain_out(tree, line)
    config: PretrainConfig = build(PretrainConfig, tree, "")
    return ComposedPretraining(config, tree)


def fill(node: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a component with its dataclasses' defaults filled in at every depth, so that every option has a name."""
    filled = with_defaults(node, path) if TARGET in node else dict(node)
    return {k: fill(v, f"{path}.{k}") if isinstance(v, Mapping) else v for k, v in filled.items()}


def _apart(line: CommandLine) -> tuple[CommandLine, CommandLine]:
    """Return the settings `augment.OPTION=...`, which all views of the method take, and the others."""
    of_views = tuple(setting for setting in line.settings if setting.path.startswith("augment."))
    others = tuple(setting for setting in line.settings if setting not in of_views)
    grammar = replace(line.grammar, lengths=())  # a view has none
    return replace(line, settings=of_views, grammar=grammar), replace(line, settings=others)


def _variant(group: str, name: str, folders: Sequence[Path]) -> str:
    """Return `NAME_pretrain`, the same choice with the settings for pretraining, where that file exists."""
    return f"{name}{_SUFFIX}" if registry.is_file(group, f"{name}{_SUFFIX}", folders) else name


def _views(node: Mapping[str, Any], line: CommandLine, folders: Sequence[Path]) -> list[Any]:
    """Return the method's views as nodes: its own, the data's where it has one that suits, or the one asked for.

    What a method spells out rather than names stays, unless another is asked for.
    """
    asked = str(line.choices.get("augment", "auto"))
    suits = getattr(find_target(node["data"][TARGET], "data"), "augment", None)
    views = node["method"]["views"]
    if asked != "auto":
        return [view_node(asked, "augment", folders) for _ in views]
    named = [suits if suits and isinstance(view, str) else view for view in views]
    return list(expand_views({**node["method"], "views": named}, "method", folders)["views"])
