"""Heads and views by name, for agents that no command line composes: what the same files and entry points say."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from typing import Any, cast

from omegaconf import OmegaConf

from rlrep.settings import TARGET, ConfigError, accepts, coerce, completed, expand_names, find_target, plain
from rlrep.settings.groups import AUTO, HeadViews, node
from rlrep.views import View

from .base import HeadConfig

Heads = str | Sequence[str] | Mapping[str, Any]
"""Names; or by name: options of the named head (`{"curl": {"weight": 0.5}}`), or a head's config itself."""
Shape = tuple[int, ...]


def named_heads(heads: Heads, obs_shape: Shape, augment: View | None = None) -> dict[str, HeadConfig]:
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


def named_view(name: str, obs_shape: Shape, place: str = "view") -> View:
    """Return the augmentation `name` for observations of this shape; `auto` is random_shift or amplitude_scale.

    Raises ValueError, naming `place` and the nearest names, if there is none.
    """
    try:
        return cast(View, _built(_view(name, place, obs_shape), View, place, obs_shape))
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _view(name: str, place: str, obs_shape: Shape) -> dict[str, Any]:
    views = HeadViews("none", _kind(obs_shape))
    view = views.settings(name, place)
    if len(obs_shape) != 3 and "${" in str(view):
        raise ConfigError(f"{place}={views.names[place]} is for frames, observations are {obs_shape}")
    return view


def _head(name: str, given: Any, obs_shape: Shape, augment: View | None) -> HeadConfig:
    if not isinstance(given, Mapping):
        if isinstance(given, type) or not is_dataclass(given):
            raise ConfigError(f"aux.{name}: expected options or a head's config, got {given!r}")
        return completed(given, HeadConfig)
    place = f"aux.{name}"
    head = node("aux", name, place, cases=_kind(obs_shape)) | {key: plain(value) for key, value in given.items()}
    if augment is not None:  # where a head names no view, the agent's is its own
        cls = find_target(head[TARGET], place)
        head = {key: None if value == AUTO and accepts(cls, key, View) else value for key, value in head.items()}
    head = expand_names(head, place, View, partial(_view, obs_shape=obs_shape))
    return cast(HeadConfig, _built(head, HeadConfig, place, obs_shape))


def _kind(obs_shape: Shape) -> set[str]:
    return {"pixels" if len(obs_shape) == 3 else "state"}


def _built(component: Mapping[str, Any], kind: Any, place: str, obs_shape: Shape) -> Any:
    """Build a component whose references are to the frames' side; None = frames as large as they are."""
    size = obs_shape[-1] if len(obs_shape) == 3 and obs_shape[-1] == obs_shape[-2] else None
    tree = OmegaConf.create({"found": dict(component), "env": {"size": size}, "image_size": size})
    return coerce(OmegaConf.to_container(tree.found, resolve=True), kind, place)
