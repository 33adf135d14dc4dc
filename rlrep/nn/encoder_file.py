"""Encoders as files: `encoder.safetensors` with the weights, and `encoder.json` beside it, which says what they are.

The sidecar names the architecture (the encoder's settings), the input it was trained on, the command that made it, and
the weights' sha256. `hub:OWNER/NAME` is a place, too: both files of a repository of the Hugging Face Hub.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rlrep.files import header_fits, read_plain, replace_plain
from rlrep.repository import PREFIX, HubError, Repository

FORMAT = 1
_WEIGHTS, _SIDECAR = "encoder.safetensors", "encoder.json"
_MOST_SIDECAR, _MOST_WEIGHTS = 2**20, 2**33
_NO_ARCHITECTURE = ("load", "freeze", "init")


@dataclass(frozen=True)
class EncoderFile:
    """A saved encoder as found. architecture: `kind` and settings. input: `shape` (C, H, W) or (D,) and `dtype`."""

    path: Path
    architecture: Mapping[str, Any]
    input: Mapping[str, Any]
    command: str
    tensors: Mapping[str, Tensor]


def save_encoder(folder: Path, encoder: nn.Module, config: Any, obs_shape: tuple[int, ...], *, command: str) -> Path:
    """Write both files into `folder` and return the weights' path. A crash leaves the old pair or a refused one.

    config: the encoder's settings dataclass. obs_shape: of one observation, as given to `config.make`.
    command: the command line that trained it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Copies: channels-last weights cannot be saved as they are.
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()})
    sidecar = {
        "format": FORMAT,
        "architecture": architecture_of(config),
        "input": input_of(obs_shape),
        "command": command,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    replace_plain(folder / _WEIGHTS, weights)
    replace_plain(folder / _SIDECAR, (json.dumps(sidecar, indent=2) + "\n").encode())
    return folder / _WEIGHTS


def read_encoder(place: str | Path) -> EncoderFile:
    """Read an encoder from a folder, a .safetensors or `hub:NAME`. Raises ValueError, one line: missing or damaged."""
    path, sidecar, weights = _from_hub(str(place)) if str(place).startswith(PREFIX) else _from_disk(place)
    try:
        about = json.loads(sidecar)
        if not isinstance(about["architecture"]["kind"], str) or not isinstance(about["input"], dict):
            raise ValueError(f"{path.with_suffix('.json').name} names no architecture")
        if hashlib.sha256(weights).hexdigest() != about["sha256"]:
            raise ValueError(f"{path.name} is not the file that {path.with_suffix('.json').name} describes")
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}, this version reads {FORMAT}")
        if not header_fits(weights[:8]):
            raise ValueError(f"the header of {path.name} is larger than any")
        return EncoderFile(path, about["architecture"], about["input"], str(about["command"]), load(weights))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, SafetensorError) as error:
        raise ValueError(f"encoder.load={place} is damaged: {error or type(error).__name__}") from error


def _from_disk(place: str | Path) -> tuple[Path, bytes, bytes]:
    """Return the weights' path, the sidecar and the weights."""
    path = Path(place)
    path = path / _WEIGHTS if path.is_dir() else path
    sidecar = path.with_suffix(".json")
    for needed in (path, sidecar):
        if not needed.is_file():
            raise ValueError(f"encoder.load={place}: there is no {needed}")
    try:
        return path, read_plain(sidecar, _MOST_SIDECAR, follow=True), read_plain(path, _MOST_WEIGHTS, follow=True)
    except OSError as error:
        raise ValueError(f"encoder.load={place} is damaged: {error}") from error


def _from_hub(place: str) -> tuple[Path, bytes, bytes]:
    """Return the same of a repository, at one commit."""
    try:
        repository, names = Repository.named(place).look()
        if not {_WEIGHTS, _SIDECAR} <= set(names):
            raise HubError(f"the repository holds no encoder ({_WEIGHTS} with {_SIDECAR})")
        return Path(_WEIGHTS), repository.read(_SIDECAR), repository.read(_WEIGHTS)
    except HubError as error:
        raise ValueError(f"encoder.load={place}: {error}") from error


def load_encoder(place: str | Path, encoder: nn.Module, config: Any, obs_shape: tuple[int, ...]) -> None:
    """Copy saved weights into `encoder`, in its own memory layout.

    Raises ValueError, naming both sides, if they belong to another architecture or input.
    """
    found = read_encoder(place)
    there = {**found.architecture, **found.input}
    here = {**architecture_of(config), **input_of(obs_shape)}
    other = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if other:
        raise ValueError(
            f"encoder.load={place} holds {_describe(there, other)}, but this run has {_describe(here, other)}"
        )
    try:
        encoder.load_state_dict(_alike(found.tensors, encoder))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"encoder.load={place} is damaged: {error}") from error


def _alike(tensors: Mapping[str, Tensor], encoder: nn.Module) -> Mapping[str, Tensor]:
    """Raise ValueError naming a tensor of another dtype than the encoder's, which loading would cast."""
    own = encoder.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is {tensor.dtype}, not {own[name].dtype}")
    return tensors


def architecture_of(config: Any) -> dict[str, Any]:
    """Return what makes two encoders the same: the kind and its settings, without those of loading and initialising."""
    settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _NO_ARCHITECTURE}
    plain: dict[str, Any] = json.loads(json.dumps({"kind": type(config).__name__, **settings}))
    return plain


def input_of(obs_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the input's spec: frames are uint8, states float32."""
    return {"shape": list(obs_shape), "dtype": "uint8" if len(obs_shape) == 3 else "float32"}


def _describe(about: Mapping[str, Any], keys: list[str]) -> str:
    settings = ", ".join(f"{key} {about[key]}" for key in keys if key in about and key != "kind")
    return f"{about['kind']}" + (f" with {settings}" if settings else "")
