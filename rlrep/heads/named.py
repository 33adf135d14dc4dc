"""Heads and views by name, for agents that no command line composes: the same YAML files and entry points.

`rlrep.config.registry` reads these files too, with Hydra's grammar and the run's other choices; agents stand below
it. Here are a file's values, the bases that it names, and what `${...}` can refer to in it: the size of the frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

import yaml

from rlrep.settings import TARGET, ConfigError, accepts, build, find_target, hint, plain
from rlrep.views import View

from .base import AuxConfig

CONFIGS = Path(__file__).parent.parent / "configs"
GROUP = "rlrep.aux"

Heads = str | Sequence[str] | Mapping[str, Any]
"""Names; or by name: options of the named head (`{"curl": {"weight": 0.5}}`), or a head's config itself."""


def named_heads(heads: Heads, obs_shape: tuple[int, ...], augment: View | None = None) -> dict[str, AuxConfig]:
    """Return head configs by name, in alphabetical order.

    obs_shape: of what the encoder reads, `(C, H, W)` or `(D,)`, on which views depend. augment: the agent's, which a
    head's `view=auto` follows. Raises ValueError on names and options that are not known (with the nearest ones), and
    on values of the wrong kind.
    """
    if isinstance(heads, str):
        heads = [heads]
    if not isinstance(heads, (Mapping, Sequence)) or not all(isinstance(name, str) for name in heads):
        raise ValueError(f"aux={heads!r}: expected names of heads, or options or configs by name")
    given = heads if isinstance(heads, Mapping) else {name: {} for name in heads if name != "none"}
    try:
        return {name: _head(name, value, obs_shape, augment) for name, value in sorted(given.items())}
    except ConfigError as error:
        raise ValueError(str(error)) from error


def named_view(name: str, obs_shape: tuple[int, ...], place: str = "view") -> View:
    """Return the augmentation `name` for observations of this shape; `auto` is random_shift or amplitude_scale.

    Raises ValueError, naming `place` and the nearest names, if there is none.
    """
    try:
        node = _view_node(name, obs_shape, place)
        cls = find_target(node.pop(TARGET), place)
        return cast(View, build(cls, node, place))
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _view_node(name: str, obs_shape: tuple[int, ...], place: str) -> dict[str, Any]:
    pixels = len(obs_shape) == 3
    if name == "auto":
        name = "random_shift" if pixels else "amplitude_scale"
    if name == "none" and not pixels:
        name = "none_state"
    known = {path.stem for path in (CONFIGS / "augment").glob("*.yaml")} - {"auto"}
    if name not in known:
        raise ConfigError(f"{place}={name} is not known{hint(name, known - {'none_state'})}")
    node = _read("augment", name)
    if not pixels and "${" in str(node):
        raise ConfigError(f"{place}={name} is for frames, observations are {obs_shape}")
    height, width = obs_shape[-2:] if pixels else (1, 1)
    return cast(dict[str, Any], _sized(node, height if height == width else None))


def head_names() -> list[str]:
    """Return every name that heads are known by."""
    return sorted({path.stem for path in (CONFIGS / "aux").glob("*.yaml")} - {"none"} | set(_registered()))


def _head(name: str, given: Any, obs_shape: tuple[int, ...], augment: View | None) -> AuxConfig:
    if not isinstance(given, Mapping):
        if isinstance(given, type) or not (is_dataclass(given) and hasattr(given, "weight")):
            raise ConfigError(f"aux.{name}: expected options or a head's config, got {given!r}")
        return cast(AuxConfig, given)
    if name not in head_names():
        raise ConfigError(f"aux={name} is not known{hint(name, head_names())}")
    file, place = (CONFIGS / "aux" / f"{name}.yaml").is_file(), f"aux.{name}"
    node: dict[str, Any] = _read("aux", name) if file else {TARGET: _registered()[name].value.replace(":", ".")}
    node |= {key: plain(value) for key, value in given.items()}
    cls = find_target(str(node.pop(TARGET)), place)
    for key in [key for key, value in node.items() if isinstance(value, str) and accepts(cls, key, View)]:
        follows = node[key] == "auto" and augment is not None  # where a head names no view, the agent's is its own
        node[key] = None if follows else _view_node(node[key], obs_shape, f"{place}.{key}")
    return cast(AuxConfig, build(cls, node, place))


@lru_cache
def _registered() -> Mapping[str, EntryPoint]:
    """Return the heads that other installed packages offer."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _read(group: str, name: str) -> dict[str, Any]:
    """Read a file on top of those of its group that its `defaults` name."""
    node: dict[str, Any] = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())
    bases = [base for base in node.pop("defaults", []) if base != "_self_"]
    node.pop("when", None)  # of presets, which only a command line has
    return {key: value for part in (*(_read(group, base) for base in bases), node) for key, value in part.items()}


def _sized(value: Any, size: int | None) -> Any:
    """Replace references (all of them are to the frames' side; None = frames as large as they are)."""
    if isinstance(value, dict):
        return {key: _sized(inner, size) for key, inner in value.items()}
    return size if isinstance(value, str) and value.startswith("${") else value
