"""From a command line to a typed config. Used by the entry points only."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from rlrep.contract.agent import AgentConfig
from rlrep.contract.env import EnvConfig
from rlrep.settings import (
    TARGET,
    ConfigError,
    build,
    coerce,
    expand_names,
    find_target,
    with_all_defaults,
    with_defaults,
)
from rlrep.settings.groups import HeadViews, Tree
from rlrep.views.base import View

from .config import RunConfig
from .files import compose_files
from .naming import default_out
from .options import apply_settings, resolve
from .overrides import parse


@dataclass(frozen=True)
class Composed:
    """One run's config, typed and as the plain tree that `config.yaml` holds.

    views: names of the augmentations that the agent and its heads see; those that are none, or nameless, left out.
    usual_view: what `view=auto` stands for where the agent has none.
    """

    config: RunConfig
    tree: Tree
    views: tuple[str, ...] = ()
    usual_view: str = ""


def compose_run(words: Sequence[str], folders: Sequence[Path] = ()) -> Composed:
    """Compose one run. Raises ConfigError in one line for anything that is not valid.

    Where the command line says how a head pulls, the preset, whose weight goes with its own pull, says nothing of it.
    """
    line = parse(words)
    kinds = partial(_kinds, asked=line.setting("env.obs"))
    given = [tuple(setting.path.split(".")) for setting in line.settings if setting.value is not None]
    heads = {path[:-1] for path in given if path[0] == "aux" and path[-1] == "pull"}
    made = compose_files("config", line.choices, folders, kinds=kinds, pulled=heads)
    node, augment = made.node, str(made.choices["augment"])
    _check_pair(node, *(str(made.choices[group]) for group in ("env", "agent")))
    _fill(node, made.choices["aux"])
    seen = HeadViews(augment, made.cases, folders)
    expand = partial(expand_names, kind=View, named=seen.settings)
    node["aux"] = {name: expand(head, f"aux.{name}") for name, head in node["aux"].items()}
    node["choices"] = {g: c if isinstance(c, str) else "+".join(c) or "none" for g, c in made.choices.items()}
    apply_settings(node, line, expand)
    tree = resolve(node)
    config: RunConfig = build(RunConfig, tree, "")
    config = replace(config, out=config.out or default_out(config, line))
    views = tuple(sorted(set(seen.names.values()))) if augment == "none" else (augment,)
    return Composed(config, {**tree, "out": config.out}, views, seen.usual)


def _kinds(env: Any, asked: Any) -> set[str]:
    """Return the kind of observation, the one asked for or else the environment's own, and the family it is of."""
    cls, env = find_target(env[TARGET], "env", EnvConfig), with_defaults(env, "env")
    if asked is not None and "obs" in env:
        obs = coerce(asked, get_type_hints(cls)["obs"], "env.obs")
    else:
        sized = any(field.name == "size" for field in fields(cls))
        obs = env.get("obs") or cls.obs or ("pixels" if sized else "state")
    return {str(obs), *([str(cls.presets)] if cls.presets else [])}


def _check_pair(node: Tree, env: str, agent: str) -> None:
    """Raise ConfigError if the agent learns single tasks and the environment is a family of them, or the reverse."""
    family = find_target(node["env"][TARGET], "env", EnvConfig).is_family()
    learner = find_target(node["agent"][TARGET], "agent", AgentConfig)
    meta = learner.learns_families()
    if learner.auto:
        raise ConfigError(
            f"agent={agent}: {learner.__name__}.auto is not read any more, its file chooses: "
            f"`defaults: [override /encoder: NAME]`"
        )
    if family and not meta:
        raise ConfigError(f"env={env} is a family of tasks, agent={agent} learns a single one: leave agent= out")
    if meta and not family:
        raise ConfigError(
            f"agent={agent} learns families of tasks, env={env} is a single one: choose another of the two"
        )


def _fill(node: Tree, chosen: Sequence[str]) -> None:
    """Fill in the dataclasses' defaults, so that every option can be named, printed and checked."""
    heads = node.get("aux") or {}
    if len(heads) < len(chosen):
        raise ConfigError(
            f"aux={','.join(chosen)}: a file gives no head of its own (does it begin with `# @package aux.NAME`?)"
        )
    for group in ("env", "agent", "encoder", "augment"):
        node[group] = with_defaults(node[group], group)
    for name, head in heads.items():
        if not isinstance(head, dict) or TARGET not in head:
            raise ConfigError(f"aux.{name} has no {TARGET}: is it active? Add {name} to aux=")
    node["aux"] = {name: with_all_defaults(head, f"aux.{name}") for name, head in sorted(heads.items())}
