"""Heads and views by name, for agents that no command line composes: the same YAML files and entry points.

`rlrep.runtime.registry` reads these files too, with Hydra's grammar and the run's other choices; agents stand below
it. Here are a file's values, the bases that it names, and what `${...}` can refer to in it: the size of the frames.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import yaml

from rlrep.views import View

from .base import AuxConfig

CONFIGS = Path(__file__).parent.parent / "configs"
GROUP = "rlrep.aux"
TARGET = "_target_"
KINDS: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}

Heads = str | Sequence[str] | Mapping[str, Any]
"""Names; or by name: options of the named head (`{"curl": {"weight": 0.5}}`), or a head's config itself."""


def named_heads(heads: Heads, obs_shape: tuple[int, ...]) -> dict[str, AuxConfig]:
    """Return head configs by name, in alphabetical order.

    obs_shape: of what the encoder reads, `(C, H, W)` or `(D,)`, on which views depend. Raises ValueError on names and
    options that are not known (with the nearest ones), and on values of the wrong kind.
    """
    if isinstance(heads, str):
        heads = [heads]
    given = heads if isinstance(heads, Mapping) else {name: {} for name in heads if name != "none"}
    return {name: _head(name, value, obs_shape) for name, value in sorted(given.items())}


def named_view(name: str, obs_shape: tuple[int, ...], place: str = "view") -> View:
    """Return the augmentation `name` for observations of this shape; `auto` is random_shift or amplitude_scale.

    Raises ValueError, naming `place` and the nearest names, if there is none.
    """
    pixels = len(obs_shape) == 3
    if name == "auto":
        name = "random_shift" if pixels else "amplitude_scale"
    if name == "none" and not pixels:
        name = "none_state"
    known = sorted(
        path.stem for path in (CONFIGS / "augment").glob("*.yaml") if path.stem not in ("auto", "none_state")
    )
    if name not in {*known, "none_state"}:
        raise ValueError(f"{place}={name} is not known{_hint(name, known)}")
    node = _read("augment", name)
    if pixels:
        node = _sized(node, obs_shape[-1])
    elif "${" in str(node):
        raise ValueError(f"{place}={name} is for frames, observations are {obs_shape}")
    return cast(View, _build(node, obs_shape, place))


def head_names() -> list[str]:
    """Return every name that heads are known by."""
    return sorted({path.stem for path in (CONFIGS / "aux").glob("*.yaml")} - {"none"} | set(_registered()))


def _head(name: str, given: Any, obs_shape: tuple[int, ...]) -> AuxConfig:
    if not isinstance(given, Mapping):
        if not (is_dataclass(given) and hasattr(given, "weight")):
            raise ValueError(f"aux.{name}: expected options or a head's config, got {given!r}")
        return cast(AuxConfig, given)
    if name not in head_names():
        raise ValueError(f"aux={name} is not known{_hint(name, head_names())}")
    file = (CONFIGS / "aux" / f"{name}.yaml").is_file()
    node = _read("aux", name) if file else {TARGET: _registered()[name].value.replace(":", ".")}
    return cast(AuxConfig, _build({**node, **given}, obs_shape, f"aux.{name}"))


@lru_cache
def _registered() -> Mapping[str, EntryPoint]:
    """Return the heads that other installed packages offer."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _read(group: str, name: str) -> dict[str, Any]:
    """Read a file on top of those of its group that its `defaults` name."""
    node: dict[str, Any] = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())
    bases = [base for base in node.pop("defaults", []) if base != "_self_"]
    return {key: value for part in (*(_read(group, base) for base in bases), node) for key, value in part.items()}


def _sized(value: Any, size: int) -> Any:
    """Replace references (all of them are to the frames' side)."""
    if isinstance(value, dict):
        return {key: _sized(inner, size) for key, inner in value.items()}
    return size if isinstance(value, str) and value.startswith("${") else value


def _build(node: Mapping[str, Any], obs_shape: tuple[int, ...], place: str, cls: Any = None) -> Any:
    """Build a config dataclass, that of `_target_` or `cls`, from a node."""
    cls = _target(node, place) if cls is None else cls
    hints, known = get_type_hints(cls), {field.name for field in fields(cls) if field.init}
    for key in node:
        if key not in known | {TARGET}:
            raise ValueError(f"unknown option {place}.{key}{_hint(key, known)}")
    values = {key: _fit(value, hints[key], obs_shape, f"{place}.{key}") for key, value in node.items() if key != TARGET}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _target(node: Mapping[str, Any], place: str) -> type[Any]:
    module, _, name = str(node[TARGET]).rpartition(".")
    try:
        return cast(type[Any], getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{place}: cannot load {node[TARGET]} ({error})") from error


def _fit(value: Any, kind: Any, obs_shape: tuple[int, ...], place: str) -> Any:
    """Return a plain value as what the field of type `kind` holds."""
    options = get_args(kind) or (kind,)
    if isinstance(value, str) and View in options:
        return named_view(value, obs_shape, place)
    if isinstance(value, list):
        return tuple(value)
    part = next((option for option in options if is_dataclass(option)), None)
    if isinstance(value, Mapping):
        return _build(value, obs_shape, place, None if TARGET in value else part)
    wanted = KINDS.get(kind)
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool)):
        raise ValueError(f"{place}={value!r}: expected {kind.__name__}")
    return float(value) if kind is float else value


def _hint(name: str, valid: Iterable[str]) -> str:
    options = sorted(valid)
    close = get_close_matches(name, options, n=1, cutoff=0.5)
    return f": {f'did you mean {close[0]}? ' if close else ''}valid: {', '.join(options)}"
