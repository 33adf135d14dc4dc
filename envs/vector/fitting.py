"""Spaces as agents take them: float32 states `(D,)` or uint8 frames `(C, H, W)`, actions in [-1, 1] or numbered from 0.

What an environment of one's own declares is turned into one of these where nothing is lost by it, and said; the rest is
refused in one line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Generic, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten

from rlrep.contract.env import Array

S = TypeVar("S", bound=spaces.Space[Any])
ActionSpace = spaces.Box | spaces.Discrete

MOST_NUMBERS = 2**24
"""In one observation: a stack of four frames of 2048 pixels a side."""
CHANNELS = (1, 3, 4)
"""Channels of a picture, where a space of four axes is a stack of them."""
SLACK = 1e-3
"""By how much of its range a frame may leave the bounds of its space: rounding, no more."""


class Misfit(ValueError):
    """What an environment handed over is not of its space. The text goes on from 'ENV: step N returned'."""


@dataclass(frozen=True)
class Fitted(Generic[S]):
    """A space as agents take it. convert: from the environment's observation, or to its action; None = as it is.

    note: what was changed, in one line; None where nothing was.
    """

    space: S
    convert: Callable[[Any], Any] | None = None
    note: str | None = None


def fit_observations(space: spaces.Space[Any]) -> Fitted[spaces.Box]:
    """Return the observation space of agents. Raises ValueError, in one line, where there is no faithful one."""
    if not isinstance(space, spaces.Space):
        raise ValueError(f"observation_space is a {type(space).__name__}, expected one of gymnasium's spaces")
    if space.is_np_flattenable and (size := flatdim(space)) > MOST_NUMBERS:
        raise ValueError(f"observations {space} are {size:,} numbers each: agents read up to {MOST_NUMBERS:,}")
    if isinstance(space, spaces.Box):
        axes = len(space.shape)
        if axes == 3 or (axes == 4 and space.dtype == np.uint8):
            return _frames(space)
        return _states(space)
    if not space.is_np_flattenable:
        raise ValueError(f"observations {space} have no fixed size: agents read arrays (a Box)")
    if (picture := _picture_in(space)) is not None:
        raise ValueError(
            f"observations hold the frames {picture} beside others: agents read frames or states, not both; choose one "
            f"with gymnasium.wrappers.FilterObservation, or hand it over as the observation"
        )
    fitted = spaces.Box(-np.inf, np.inf, (flatdim(space),), np.float32)
    return Fitted(fitted, _Flattened(space), f"observations {space} -> states {fitted.shape}, flattened")


def fit_actions(space: spaces.Space[Any]) -> Fitted[Any]:
    """Return the action space of agents. Raises ValueError, in one line, where there is no faithful one."""
    if isinstance(space, spaces.Discrete):
        if space.start == 0:
            return Fitted(space)
        note = f"actions {space} are numbered from 0"
        return Fitted(spaces.Discrete(int(space.n)), _Numbered(int(space.start)), note)
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        raise ValueError(
            f"actions {space} are not supported: agents choose numbers (a Box of floats) or one of n (Discrete); "
            f"map one of these to them in the environment's step"
        )
    if not prod(space.shape):
        raise ValueError(f"actions {space} hold no numbers: there is nothing to choose")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(f"actions {space} have no finite bounds: give the Box low and high, agents fill that range")
    ours = spaces.Box(-1.0, 1.0, (prod(space.shape),), np.float32)
    if space == ours:
        return Fitted(space)
    return Fitted(ours, _Rescaled(space), f"actions {_told(space)} <- {ours.shape} in [-1, 1], rescaled")


@dataclass(frozen=True)
class _Numbered:
    start: int

    def __call__(self, action: Any) -> Any:
        return action + self.start


class _Rescaled:
    """[-1, 1] to the bounds, shape and type of a Box; the ends exactly."""

    def __init__(self, space: spaces.Box) -> None:
        self._space = space
        self._middle = (space.low.astype(np.float64) + space.high) / 2
        self._half = (space.high.astype(np.float64) - space.low) / 2

    def __call__(self, action: Array) -> Array:
        space = self._space
        scaled = self._middle + self._half * action.reshape(space.shape)
        return np.clip(scaled, space.low, space.high).astype(space.dtype)


class Reader:
    """Takes what an environment hands over for a Box, and compares it with that. Raises Misfit.

    Numbers of another type are held against its bounds where it is one of whole numbers. zero: of such an
    array; NaN where a number in it is not finite.
    """

    def __init__(self, space: spaces.Box) -> None:
        self.shape, self.dtype = space.shape, np.dtype(space.dtype)
        self._low, self._high = _extremes(space)
        self.zero = _zero(self.shape, self.dtype)

    def __call__(self, value: Any) -> Array:
        """Return `value` as an array of the Box's shape and type, the same one where it is that already."""
        array = value if type(value) is np.ndarray else _as_array(value)
        if array.shape != self.shape:
            raise Misfit(f"an observation of shape {array.shape}, its space has {self.shape}")
        if array.dtype != self.dtype:
            array = self._cast(array)
        if not isfinite(self.zero(array)):
            raise NotFinite(f"an observation that is not finite: {short(array)}")
        return array

    def _cast(self, array: Array) -> Array:
        given, wanted = array.dtype.kind, self.dtype.kind
        if given not in {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}.get(wanted, ""):
            raise Misfit(f"observations of type {array.dtype}, its space has {self.dtype}")
        if wanted in "iu" and array.size and not self._low <= array.min() <= array.max() <= self._high:
            raise Misfit(f"values from {array.min()} to {array.max()}, its space has {self._low:g} to {self._high:g}")
        return array.astype(self.dtype)


def _zero(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[Array], float]:
    """Return what multiplies an array with zeros and adds up: a third of the time of np.isfinite."""
    if dtype.kind != "f":
        return lambda array: 0.0
    product = np.zeros(prod(shape), dtype).dot
    return product if len(shape) == 1 else lambda array: float(product(array.ravel()))


class NotFinite(RuntimeError):
    """NaN or infinity from a simulator. The text goes on from 'ENV: step N returned'."""


def _as_array(value: Any) -> Array:
    if isinstance(value, (tuple, dict)) or value is None:
        raise Misfit(f"an observation of type {type(value).__name__}, its space is a Box of arrays")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise Misfit(f"an observation of type {type(value).__name__}, its space is a Box of numbers")
    return array


def _states(space: spaces.Box) -> Fitted[spaces.Box]:
    """Any other Box is a state: flat, float32."""
    read, size = Reader(space), prod(space.shape)
    if size == 0:
        raise ValueError(f"observations {space} hold no numbers")
    if len(space.shape) == 1 and space.dtype == np.float32:
        return Fitted(space, read)
    low, high = (bound.reshape(-1).astype(np.float32) for bound in (space.low, space.high))
    note = (
        None
        if len(space.shape) == 1 and space.dtype.kind == "f"
        else f"observations {_told(space)} -> states ({size},)"
    )
    return Fitted(
        spaces.Box(low, high, (size,), np.float32), lambda value: read(value).reshape(-1).astype(np.float32), note
    )


def _frames(space: spaces.Box) -> Fitted[spaces.Box]:
    """Three axes are frames; four, a stack of pictures with channels last, are joined oldest first."""
    low, high = _bounds(space)
    read, last = Reader(space), _channels_last(space.shape)
    shape = _arrange(np.empty(space.shape, np.bool_), channels_last=last).shape
    fitted = spaces.Box(0, 255, shape, np.uint8)
    if space.dtype == np.uint8 and (low, high) == (0, 255) and shape == space.shape:
        return Fitted(space, read)

    def convert(value: Any) -> Array:
        return _arrange(_to_bytes(read(value), low, high), channels_last=last)

    return Fitted(fitted, convert, f"observations {_told(space)} -> frames uint8 {shape}")


def _bounds(space: spaces.Box) -> tuple[float, float]:
    """Return what is black and what is white."""
    low, high = _extremes(space)
    same = (space.low == low).all() and (space.high == high).all()
    if not (same and np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"frames {_told(space)} need one finite low and high for all pixels, which tell black and white: declare "
            f"Box(0, 255, ..., np.uint8) or Box(0.0, 1.0, ...), or flatten them to states "
            f"(gymnasium.wrappers.FlattenObservation)"
        )
    return low, high


def _channels_last(shape: tuple[int, ...]) -> bool:
    """The smallest axis holds the channels; of a stack, the last one must."""
    if len(shape) == 3:
        return shape[2] < min(shape[:2])
    if shape[3] not in CHANNELS:
        raise ValueError(f"frames {shape} of four axes must be (stack, height, width, channels): reshape them to three")
    return True


def _arrange(frames: Array, *, channels_last: bool) -> Array:
    """Return `(C, H, W)`, or `(S*C, H, W)` of a stack."""
    if channels_last:
        frames = np.moveaxis(frames, -1, -3)
    joined: Array = frames.reshape(-1, *frames.shape[-2:])
    return joined


def _to_bytes(frame: Array, low: float, high: float) -> Array:
    """Scale from the bounds to 0..255. Raises Misfit beyond them: cut off, such pixels would all look alike."""
    if frame.dtype == np.uint8 and (low, high) == (0, 255):
        return frame
    share = (frame.astype(np.float64) - low) / (high - low)
    if share.min() < -SLACK or share.max() > 1 + SLACK:
        raise Misfit(f"pixels from {frame.min():g} to {frame.max():g}, its space has {low:g} to {high:g}")
    scaled: Array = np.rint(share.clip(0.0, 1.0) * 255)
    return scaled.astype(np.uint8)


class _Flattened:
    """An observation of nested or whole-number spaces as one float32 vector, one-hot where it says which of n."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._space = space

    def __call__(self, value: Any) -> Array:
        flat = np.asarray(flatten(self._space, _checked(self._space, value)), np.float32)
        if not np.isfinite(flat).all():
            raise NotFinite(f"an observation that is not finite: {short(flat)}")
        return flat


def _checked(space: spaces.Space[Any], value: Any) -> Any:
    """Return the value, its arrays of their boxes' types. Bounds are not held against it, as of no other state."""
    if isinstance(space, spaces.Box):
        return Reader(space)(value)
    if isinstance(space, spaces.Dict) and isinstance(value, dict) and value.keys() == space.spaces.keys():
        return {name: _checked(part, value[name]) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple) and isinstance(value, tuple) and len(value) == len(space.spaces):
        return tuple(_checked(part, item) for part, item in zip(space.spaces, value, strict=True))
    if isinstance(space, (spaces.MultiBinary, spaces.MultiDiscrete)) and isinstance(value, np.ndarray):
        value = value.astype(space.dtype) if value.dtype.kind in "iub" else value
    if not space.contains(value):
        raise Misfit(f"an observation that is not in its space {space}: {short(value)}")
    return value


def _picture_in(space: spaces.Space[Any]) -> spaces.Space[Any] | None:
    """Return frames among the parts of a space, None where there are none."""
    if isinstance(space, spaces.Box):
        return space if len(space.shape) >= 3 and space.dtype == np.uint8 else None
    parts = space.spaces if isinstance(space, (spaces.Dict, spaces.Tuple)) else ()
    found = (_picture_in(part) for part in (parts.values() if isinstance(parts, dict) else parts))
    return next((part for part in found if part is not None), None)


def _extremes(space: spaces.Box) -> tuple[float, float]:
    return (float(space.low.min()), float(space.high.max())) if space.low.size else (0.0, 0.0)


def _told(space: spaces.Box) -> str:
    low, high = _extremes(space)
    return f"{space.dtype} {space.shape} in [{low:g}, {high:g}]"


def short(value: Any) -> str:
    """Return a value in one line of up to 80 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
