"""State trees in two parts: tensors by name (safetensors), everything else as JSON. Nothing is pickled.

A tree is nested dicts, lists and tuples of tensors, arrays, numbers, strings, bytes and None.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .protocols import Tree

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
