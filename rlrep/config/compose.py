"""From a command line to a typed config, by Hydra's composition. Used by the entry points only."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from rlrep.contract.agent import AgentConfig
from rlrep.contract.env import EnvConfig
from rlrep.settings import TARGET, ConfigError, coerce, find_target, one_line, with_defaults

from . import registry
from .config import RunConfig, make_config
from .naming import default_out
from .options import AUTO, apply_settings, auto_view, expand_views
from .overrides import CommandLine, parse
from .search_path import searching

Choices = dict[str, str | list[str]]


@dataclass(frozen=True)
class Composed:
    """One run's config, typed and as the plain tree that `config.yaml` holds.

    views: names of the augmentations that the agent and its heads see; those that are none, or nameless, left out.
    usual_view: what `view=auto` stands for where the agent has none.
    """

    config: RunConfig
    tree: dict[str, Any]
    views: tuple[str, ...] = ()
    usual_view: str = ""


def compose_run(words: Sequence[str], folders: Sequence[Path] = ()) -> Composed:
    """Compose one run. Raises ConfigError in one line for anything that is not valid.

    Passes: one finds the environment and its kind of observation, the last composes with the encoder, the augmentation
    and the agent's settings that go with it; where the preset has a variant for it, one between asks that for choices.
    """
    line = parse(words, folders)
    first = _compose(line.choices, folders)
    for group in ("env", "agent"):
        check_target(first.node.get(group), group, str(first.choices[group]))
    _check_pair(first)
    obs, kinds = _obs(first.node["env"], line), _kinds(first.node["env"], line)
    preset = first.choices["preset"]
    if (variant := _variant("preset", preset, kinds, folders)) != preset:
        first = _compose({**line.choices, "preset": variant}, folders)
    auto, own = _auto(first.node["agent"], obs), _own(first.node["agent"])
    unasked = {group for group in auto if group not in line.choices and (obs == "state" or group in own)}
    settled = {group: _settle(group, choice, auto, unasked) for group, choice in first.choices.items()}
    choices = settled | {"preset": preset}
    last = _compose({group: _variant(group, choice, kinds, folders) for group, choice in choices.items()}, folders)
    for group in ("encoder", "augment"):
        check_target(last.node.get(group), group, str(choices[group]))
    if len(last.node["aux"]) < len(choices["aux"]):
        chosen = ",".join(choices["aux"])
        raise ConfigError(f"aux={chosen}: a file gives no head of its own (does it begin with `# @package aux.NAME`?)")
    node = last.node
    node = merge(node, node.pop("when").get(obs, {}))
    whens = {name: _asked(when.get(str(preset), {}), name, line) for name, when in last.whens.items()}
    node["aux"] = {name: merge(head, whens[name]) for name, head in node["aux"].items()}
    node["choices"] = {g: c if isinstance(c, str) else "+".join(c) or "none" for g, c in choices.items()}
    apply_settings(node, line, folders)
    view = auto_view(str(choices["augment"]), obs)
    node["aux"] = {name: expand_views(head, f"aux.{name}", folders, auto=view) for name, head in node["aux"].items()}
    tree = resolve(node)
    tree["out"] = tree["out"] or default_out(tree, line)
    return Composed(make_config(tree), tree, _named_views(last, line, view), auto_view("none", obs))


def check_target(node: Any, group: str, choice: str) -> None:
    """Raise ConfigError if what the file of a choice gives to its group is no component."""
    if not isinstance(node, dict) or TARGET not in node:
        raise ConfigError(
            f"{group}={choice}: its file gives {group} no {TARGET} (does it begin with `# @package _global_`, and have "
            f"`{group}:` then?)"
        )


def _asked(when: dict[str, Any], head: str, line: CommandLine) -> dict[str, Any]:
    """Return what a preset says of a head; nothing of its weight where the command line asks for another pull."""
    other = line.setting(f"aux.{head}.pull") is not None
    return {key: value for key, value in when.items() if not (other and key == "weight")}


def _named_views(last: "_Pass", line: CommandLine, auto: str) -> tuple[str, ...]:
    """Return the agent's augmentation or, where it has none, those that heads bring themselves."""
    agent = str(last.choices["augment"])
    asked = {head: line.setting(f"aux.{head}.view") or view for head, view in last.views.items()}
    own = {auto if view == AUTO else view for view in asked.values() if isinstance(view, str)}
    return tuple(sorted(own)) if agent.startswith("none") else (agent,)


@dataclass
class _Pass:
    """One composition: the tree (components complete with their defaults) and the choice made in each group.

    views: of heads that have one, by head, as their files name it.
    whens: what each head's file says of single presets, `when: {paper: {pull: own}}`.
    """

    node: dict[str, Any]
    choices: Choices
    views: dict[str, Any]
    whens: dict[str, dict[str, Any]]


def _check_pair(first: _Pass) -> None:
    """Raise ConfigError if the agent learns single tasks and the environment is a family of them, or the reverse."""
    env, agent = first.choices["env"], first.choices["agent"]
    family = find_target(first.node["env"][TARGET], "env", EnvConfig).is_family()
    meta = find_target(first.node["agent"][TARGET], "agent", AgentConfig).learns_families()
    if family and not meta:
        raise ConfigError(f"env={env} is a family of tasks, agent={agent} learns a single one: leave agent= out")
    if meta and not family:
        raise ConfigError(
            f"agent={agent} learns families of tasks, env={env} is a single one: choose another of the two"
        )


def _compose(choices: Choices, folders: Sequence[Path]) -> _Pass:
    outside = _outside(choices, folders)
    words = [_word(group, choice, outside.get(group, [])) for group, choice in choices.items()]
    node, found = compose_tree("config", words, folders)
    _add_outside(node, outside)
    chosen = {**{group: _made(group, v) for group, v in found.items()}, **choices}
    whens = {n: head.pop("when", None) or {} for n, head in _heads(node).items()}
    views = _views(node)  # before their names become settings
    return _Pass(_complete(node, folders), chosen, views, whens)


def _heads(node: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: head for name, head in (node.get("aux") or {}).items() if isinstance(head, dict)}


def _views(node: Mapping[str, Any]) -> dict[str, Any]:
    heads = {n: with_defaults(h, f"aux.{n}") for n, h in _heads(node).items() if TARGET in h}
    return {name: head["view"] for name, head in heads.items() if "view" in head}


def compose_tree(primary: str, words: Sequence[str], folders: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compose `configs/PRIMARY.yaml` and return the unresolved tree and the choice made in each group.

    folders: of more group files. Raises ConfigError in one line.
    """
    try:
        with searching(folders), initialize_config_dir(str(registry.ROOT.resolve()), version_base="1.3"):
            config = compose(primary, list(words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, *registry.UNREADABLE) as error:
        raise ConfigError(f"cannot compose {' '.join(words)}: {one_line(error)}") from error
    choices = {str(k): v for k, v in config.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    return _plain(config), choices


def _made(group: str, choice: Any) -> str | list[str]:
    if group != "aux":
        return str(choice)
    listed = [choice] if isinstance(choice, str) else list(choice)
    return sorted({str(name) for name in listed} - {"none"})


def _outside(choices: Choices, folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return the choices that come from entry points, by group."""
    wanted = {group: [choice] if isinstance(choice, str) else choice for group, choice in choices.items()}
    found = {g: [name for name in listed if not registry.is_file(g, name, folders)] for g, listed in wanted.items()}
    return {group: listed for group, listed in found.items() if listed}


def _word(group: str, choice: str | list[str], outside: list[str]) -> str:
    """Return the choice as Hydra takes it: what comes from entry points is left out here and added afterwards."""
    if isinstance(choice, str):
        return f"~{group}" if choice in outside else f"{group}={choice}"
    inside = [name for name in choice if name not in outside]
    return f"{group}=[{','.join(inside)}]" if inside else f"{group}=none"


def _add_outside(node: dict[str, Any], outside: dict[str, list[str]]) -> None:
    for group, listed in outside.items():
        for name in listed:
            if group == "aux":
                node.setdefault("aux", {})[name] = registry.registered_node(group, name)
            else:
                node[group] = registry.registered_node(group, name)


def _plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    plain.pop("hydra")
    return {str(key): value for key, value in plain.items()}


def _complete(node: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Fill in the dataclasses' defaults, so that every option can be named, printed and checked."""
    node["aux"] = dict(sorted((node.get("aux") or {}).items()))
    for group in ("env", "agent", "encoder", "augment"):
        if isinstance(node.get(group), dict) and TARGET in node[group]:
            node[group] = with_defaults(node[group], group)
    for name, head in node["aux"].items():
        if not isinstance(head, dict) or TARGET not in head:
            raise ConfigError(f"aux.{name} has no {TARGET}: is it active? Add {name} to aux=")
        node["aux"][name] = expand_views(with_defaults(head, f"aux.{name}"), f"aux.{name}", folders)
    return node


def _obs(env: dict[str, Any], line: CommandLine) -> str:
    """Return the kind of observation: the command line's, else the environment's own (see `EnvConfig`)."""
    cls = find_target(env[TARGET], "env", EnvConfig)
    asked = line.setting("env.obs")
    if asked is not None and "obs" in env:
        return str(coerce(asked, get_type_hints(cls)["obs"], "env.obs"))
    sized = any(field.name == "size" for field in fields(cls))
    return str(env.get("obs") or cls.obs or ("pixels" if sized else "state"))


def _kinds(env: dict[str, Any], line: CommandLine) -> list[str]:
    """Return what files of a choice may be meant for: environments that name a suffix, and a kind of observation."""
    cls = find_target(env[TARGET], "env", EnvConfig)
    return [*([str(cls.presets)] if cls.presets else []), _obs(env, line)]


def _auto(agent: dict[str, Any], obs: str) -> dict[str, str]:
    """Return what `auto` stands for in each group, with this agent and kind of observation."""
    return {group: kinds.get(obs, "none") for group, kinds in registry.AUTO.items()} | _own(agent)


def _own(agent: dict[str, Any]) -> dict[str, str]:
    """Return what the agent takes in some groups, whatever an environment or preset chose for other agents."""
    return dict(find_target(agent[TARGET], "agent", AgentConfig).auto)


def _settle(group: str, choice: str | list[str], auto: Mapping[str, str], unasked: Set[str]) -> str | list[str]:
    """Settle `auto`; what an environment or preset chose is for frames, so states go without unless it is asked for."""
    return auto[group] if group in auto and (choice == "auto" or group in unasked) else choice


def _variant(group: str, choice: str | list[str], kinds: Sequence[str], folders: Sequence[Path]) -> str | list[str]:
    """Return `NAME_KIND` (as `cpu_state`), the same choice with the settings for that, where the file exists."""
    if not isinstance(choice, str):
        return [str(_variant(group, name, kinds, folders)) for name in choice]
    files = [name for kind in kinds if registry.is_file(group, name := f"{choice}_{kind}", folders)]
    return files[0] if files else choice


def merge(node: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return `node` with the values of `more` in place of its own, option by option."""
    both = {
        k: merge(node[k], v) if isinstance(v, dict) and isinstance(node.get(k), dict) else v for k, v in more.items()
    }
    return {**node, **both}


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Return the tree with references resolved. Raises ConfigError where one leads nowhere or a value is missing."""
    try:
        tree = OmegaConf.to_container(OmegaConf.create(node), resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value yet: give {error.full_key}=...") from error
    except InterpolationKeyError as error:
        raise ConfigError(f"{error.full_key} refers to an option that is not there: {one_line(error)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"cannot resolve the config: {one_line(error)}") from error
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}
