"""Which names each config group offers: YAML files here or in `--config-dir`, and entry points of other packages.

An entry point of group `rlrep.aux`, `rlrep.envs` or `rlrep.agents` names a config dataclass, as a `_target_` does:

    [project.entry-points."rlrep.aux"]
    my_head = "my_package.heads:MyHead"        # then: aux=my_head aux.my_head.weight=0.1
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from rlrep.settings import TARGET, ConfigError, hint, one_line

ROOT = Path(__file__).parent.parent / "configs"
GROUPS = ("env", "agent", "augment", "aux", "encoder", "preset", "logger", "launcher")
PRETRAIN_GROUPS = ("method", "data", "encoder", "augment", "preset", "logger", "launcher")
AUTO = {"encoder": {"pixels": "curl", "state": "mlp"}, "augment": {"pixels": "none", "state": "none"}}
"""What the choice `auto` stands for, by kind of observation."""
ENTRY_POINTS = {"aux": "rlrep.aux", "env": "rlrep.envs", "agent": "rlrep.agents"}
UNREADABLE = (YAMLError, UnicodeDecodeError, OSError)
"""What reading a YAML file that somebody wrote may raise."""

_TARGETS = re.compile(rf"""{TARGET}["']?\s*:\s*["']?([\w.]+)""")


def _frame_size(*, _root_: DictConfig) -> int | None:
    """Side of the frames that a view hands to the encoder; None (as they come) where there is no environment."""
    size = OmegaConf.select(_root_, "env.size")
    return None if size is None else min(_root_.image_size, size)


OmegaConf.register_new_resolver("frame_size", _frame_size, replace=True)  # ${frame_size:}


def names(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return every name that `group=` accepts."""
    files = {path.stem for root in (ROOT, *folders) for path in (root / group).glob("*.yaml") if path.is_file()}
    return sorted(files | set(registered(group)))


def visible(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return the names to offer: `X_state`, `X_pretrain` are what `X` stands for there, and `auto` is the default."""
    known = names(group, folders)
    if group == "env":
        return known
    kinds = _variants(names("preset", folders)).values()  # presets have a file for each kind that there is
    variants = _variants(known)
    return [name for name in known if name != "auto" and variants.get(name) not in kinds]


def _variants(known: Sequence[str]) -> dict[str, str]:
    """Return the names that are another's with a suffix, and the suffix: `state` for `cpu_state`."""
    parts = {name: name.rpartition("_") for name in known}
    return {name: suffix for name, (base, _, suffix) in parts.items() if base in known}


def check(group: str, name: str, folders: Sequence[Path] = ()) -> None:
    """Raise ConfigError, with the valid names, if `group` has no `name`."""
    if name not in names(group, folders):
        raise ConfigError(f"{group}={name} is not known{hint(name, visible(group, folders))}")


def registered(group: str) -> Mapping[str, EntryPoint]:
    """Return what other installed packages add to `group`."""
    return _scan(ENTRY_POINTS[group]) if group in ENTRY_POINTS else {}


def registered_node(group: str, name: str) -> dict[str, str]:
    """Return the config node of a registered component: its `_target_`, everything else by its own defaults."""
    return {TARGET: registered(group)[name].value.replace(":", ".")}


@lru_cache
def targets(group: str, folders: tuple[Path, ...] = ()) -> frozenset[str]:
    """Return every `_target_` that files of `group` (`*`: of any) name, here or in `folders`, and entry points have.

    They are read as texts; nothing is imported.
    """
    files = [path for root in (ROOT, *folders) for path in root.glob(f"{group}/*.yaml")]
    outside = [point for name in ENTRY_POINTS if group in (name, "*") for point in registered(name).values()]
    named = (_TARGETS.findall(path.read_text()) for path in files)
    return frozenset({name for found in named for name in found} | {p.value.replace(":", ".") for p in outside})


def is_file(group: str, name: str, folders: Sequence[Path] = ()) -> bool:
    """Whether `name` is a YAML file of `group`."""
    return any((root / group / f"{name}.yaml").is_file() for root in (ROOT, *folders))


@lru_cache
def _scan(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def read_yaml(group: str, name: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Read one YAML file of `group` as it is. Raises ConfigError if there is none."""
    check(group, name, folders)
    path = next(p for root in (ROOT, *folders) if (p := root / group / f"{name}.yaml").is_file())
    try:
        node = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except UNREADABLE as error:
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from error
    return {str(key): value for key, value in node.items()} if isinstance(node, dict) else {}


def component_node(group: str, name: str) -> dict[str, Any]:
    """Return the node that `group=name` stands for, built on those of its group that its file names in `defaults`."""
    if not is_file(group, name):
        return dict(registered_node(group, name))
    content = read_yaml(group, name)
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    content.pop("when", None)  # of presets, which only a command line has
    own = content.get(group, {}) if group in content else content
    return {**{key: value for base in bases for key, value in component_node(group, base).items()}, **own}
