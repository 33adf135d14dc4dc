"""State trees in two parts: tensors by name (safetensors), everything else as JSON. Nothing is pickled.

A tree is nested dicts, lists and tuples of tensors, arrays, numbers, strings, bytes and None.
"""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrep.contract.env import Tree
from rlrep.settings import UserError, one_line

_TENSOR, _ARRAY, _TUPLE, _ITEMS, _BYTES = "__tensor__", "__array__", "__tuple__", "__items__", "__bytes__"


def split(tree: Tree) -> tuple[Any, dict[str, Tensor]]:
    """Return JSON data and the tensors it refers to: contiguous CPU tensors, one per distinct tensor of the tree.

    Raises TypeError naming the place of anything that is not a tree.
    """
    splitter = _Splitter()
    return splitter.split(tree, "state"), splitter.tensors


def join(data: Any, tensors: dict[str, Tensor]) -> Tree:
    """Rebuild the tree. Arrays come back as arrays, tensors as CPU tensors."""
    if isinstance(data, list):
        return [join(value, tensors) for value in data]
    if not isinstance(data, dict):
        return data
    if _TENSOR in data:
        return tensors[data[_TENSOR]]
    if _ARRAY in data:
        return tensors[data[_ARRAY]].numpy()
    if _TUPLE in data:
        return tuple(join(value, tensors) for value in data[_TUPLE])
    if _ITEMS in data:
        return {join(key, tensors): join(value, tensors) for key, value in data[_ITEMS]}
    if _BYTES in data:
        return bytes.fromhex(data[_BYTES])
    return {key: join(value, tensors) for key, value in data.items()}


def check_savable(state: Tree, owner: str) -> None:
    """Raise UserError, naming its owner, if a checkpoint cannot hold a state."""
    try:
        json.dumps(split(state)[0])
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{owner}'s state() cannot be saved: {one_line(error)}; return numbers, strings, arrays, and lists and "
            f"dicts of them"
        ) from error


def misfit(own: Tree, found: Tree, path: str = "state") -> str | None:
    """Return what keeps `found` from being a later state of what is in state `own` now, None if nothing does.

    Names, types, dtypes and shapes must agree, and counts not be negative. What is empty or None may become anything.
    """
    if isinstance(own, dict):
        return _misfit_of_names(own, found, path) if isinstance(found, dict) else _wrong(own, found, path)
    if isinstance(own, (list, tuple)):
        if not isinstance(found, (list, tuple)):
            return _wrong(own, found, path)
        pairs = enumerate(zip(own, found, strict=False))
        return next((line for i, pair in pairs if (line := misfit(*pair, f"{path}.{i}"))), None)
    if isinstance(own, (Tensor, np.ndarray, np.generic)):
        return _misfit_of_arrays(own, found, path)
    if isinstance(own, (int, float)) and not isinstance(own, bool):
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        sound = number and (isinstance(own, float) or own < 0 or found >= 0)
        return None if sound else _wrong(own, found, path)
    return None if own is None or type(own) is type(found) else _wrong(own, found, path)


def _misfit_of_names(own: dict[Any, Tree], found: dict[Any, Tree], path: str) -> str | None:
    missing = [key for key in own if key not in found]
    if missing:
        return f"{path} has no {missing[0]}"
    return next((line for key in own if (line := misfit(own[key], found[key], f"{path}.{key}"))), None)


def _misfit_of_arrays(own: Any, found: Any, path: str) -> str | None:
    if isinstance(found, Tensor) is not isinstance(own, Tensor) or not isinstance(found, (Tensor, np.ndarray)):
        return _wrong(own, found, path)
    same = own.shape == found.shape or (0 in own.shape and len(own.shape) == len(found.shape))
    return None if own.dtype == found.dtype and same else _wrong(own, found, path)


def _wrong(own: Tree, found: Tree, path: str) -> str:
    return f"{path} is {_kind(found)}, not {_kind(own)}"


def _kind(value: Tree) -> str:
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return f"{value}"[:40] if isinstance(value, (int, float, str)) or value is None else f"a {type(value).__name__}"


class _Splitter:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def split(self, value: Tree, path: str) -> Any:
        if value is None or (isinstance(value, (str, bool, int, float)) and not isinstance(value, np.generic)):
            return value
        if isinstance(value, Tensor):
            return {_TENSOR: self._add_tensor(value.detach(), path)}
        if isinstance(value, (np.ndarray, np.generic)):
            return {_ARRAY: self._add(torch.from_numpy(np.array(value)), path)}
        if isinstance(value, bytes):
            return {_BYTES: value.hex()}
        if isinstance(value, tuple):
            return {_TUPLE: [self.split(v, f"{path}.{i}") for i, v in enumerate(value)]}
        if isinstance(value, list):
            return [self.split(v, f"{path}.{i}") for i, v in enumerate(value)]
        if isinstance(value, dict):
            return self._split_dict(value, path)
        raise TypeError(f"{path} is a {type(value).__name__}, which a checkpoint cannot hold")

    def _split_dict(self, value: dict[Any, Any], path: str) -> Any:
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {key: self.split(v, f"{path}.{key}") for key, v in value.items()}
        return {_ITEMS: [[self.split(k, f"{path}.key"), self.split(v, f"{path}.{k}")] for k, v in value.items()]}

    def _add_tensor(self, tensor: Tensor, path: str) -> str:
        """Tied tensors are stored once; the copy drops memory formats that safetensors cannot express."""
        identity = (tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and identity in self._names:
            return self._names[identity]
        self._names[identity] = self._add(torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor), path)
        return self._names[identity]

    def _add(self, copy: Tensor, path: str) -> str:
        name = path
        while name in self.tensors:
            name += "'"
        self.tensors[name] = copy
        return name
