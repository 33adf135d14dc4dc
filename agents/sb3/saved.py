"""Parameters of an algorithm with heads: whether they fit, and how they lie in a file.

Heads, and what else is rlrep's, lie beside SB3's own entries, under names that SB3 passes over, so that the algorithm
without heads loads the file too, also where there is no rlrep.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import BadZipFile, ZipFile

import torch
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.save_util import data_to_json, json_to_data, open_path
from stable_baselines3.common.utils import get_device

MODULES = "aux_modules"
"""Attribute of an algorithm that its heads are in; the names of its optimisers begin with it and a dot."""
SETTINGS = "aux_settings.json"
THEIRS, OURS = ".pth", ".heads"
"""How names of SB3's entries with tensors end, all of which it takes for its own; and those of heads."""


def is_of_heads(name: str) -> bool:
    """Whether parameters of this name are heads', their optimisers' included."""
    return name.split(".")[0] == MODULES


def without_heads(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return SB3's own part of parameters."""
    return {name: value for name, value in params.items() if not is_of_heads(name)}


def misfit_of(given: Mapping[str, Any], own: Mapping[str, Any], title: str, pull: str) -> str:
    """Say why the heads' part of given parameters does not fit that of one's own, of an algorithm called so with this
    pull; nothing if it does."""
    theirs, ours = (_shapes(params.get(MODULES, {})) for params in (given, own))
    if _learned(theirs) != _learned(ours):
        return f"parameters {_headed(theirs)} do not fit {title} {_headed(ours)}"
    norms = "balance.norms"
    optimizers = ({name for name in params if is_of_heads(name)} for params in (given, own))
    if theirs.get(norms) != ours.get(norms) or len({frozenset(names) for names in optimizers}) > 1:
        return f"parameters of heads with another pull do not fit {title} with pull={pull}"
    return "" if theirs == ours else f"parameters of heads of other sizes do not fit {title} {_headed(ours)}"


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value.shape) if isinstance(value, torch.Tensor) else None for name, value in state.items()}


def _learned(names: Iterable[str]) -> set[str]:
    """Leave running norms out, which depend on the pull."""
    return {name for name in names if not name.startswith("balance.")}


def _headed(names: Iterable[str]) -> str:
    """Say which heads the parameters `names` are of."""
    heads = sorted({name.split(".")[1] for name in names if name.startswith("heads.")})
    return f"with heads {','.join(heads)}" if heads else "without heads"


def check_policy(given: Mapping[str, Any], policy: BasePolicy, network: BaseModel) -> None:
    """Raise RuntimeError, in one line, on a policy's parameters that the policy of an algorithm with heads cannot take:
    those of one without features extractor, or of other sizes. network: whose features extractor the heads train."""
    own = policy.state_dict()
    (prefix,) = (f"{name}." for name, module in policy.named_modules() if module is network)
    extractor = type(network.features_extractor).__name__
    of_network = [name for name in given if name.startswith(prefix)]
    if of_network and not any(name.startswith(f"{prefix}features_extractor.") for name in of_network):
        raise RuntimeError(
            f"a policy whose features extractor has no parameters does not fit one with {extractor}, which heads "
            f"train: train it from the start with policy_kwargs={{'features_extractor_class': {extractor}}}"
        )
    for name, value in given.items():
        if name in own and value.shape != own[name].shape:
            raise RuntimeError(
                f"the policy's parameters do not fit: {name} is of {tuple(value.shape)}, not {tuple(own[name].shape)}: "
                "make the model with the same policy_kwargs"
            )


def write_apart(saved: BinaryIO, path: Any, settings: dict[str, Any]) -> None:
    """Copy what SB3 saved to a path or an open file, with the heads apart, and beside them an algorithm's settings."""
    file = open_path(path, "w", suffix="zip")
    with ZipFile(saved) as theirs, ZipFile(cast(BinaryIO, file), "w") as ours:
        for name in theirs.namelist():
            heads = is_of_heads(name) and name.endswith(THEIRS)
            ours.writestr(name.removesuffix(THEIRS) + OURS if heads else name, theirs.read(name))
        ours.writestr(SETTINGS, data_to_json(settings))
    if isinstance(path, (str, Path)):
        file.close()


def read_heads(path: Any, device: torch.device | str) -> dict[str, Any]:
    """Return the heads' parameters in a file by name; none of a file of an algorithm without heads."""
    with _opened(path) as archive:
        names = [name for name in archive.namelist() if is_of_heads(name) and name.endswith(OURS)]
        return {name.removesuffix(OURS): _load(archive, name, device) for name in names}


def read_settings(path: Any, instead: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings that were written beside the heads; none of a file of an algorithm that has none.

    instead: by name, what is not read but taken.
    """
    with _opened(path) as archive:
        if SETTINGS not in archive.namelist():
            return {}
        return dict(json_to_data(archive.read(SETTINGS).decode(), custom_objects=instead))


@contextmanager
def _opened(path: Any) -> Iterator[ZipFile]:
    """Open a path or an open file as SB3 does. Raises ValueError in its words on what is no zip file."""
    file = open_path(path, "r", suffix="zip")
    try:
        with ZipFile(cast(BinaryIO, file)) as archive:
            yield archive
    except BadZipFile as error:
        raise ValueError(f"Error: the file {path} wasn't a zip-file") from error
    finally:
        if isinstance(path, (str, Path)):
            file.close()


def _load(archive: ZipFile, name: str, device: torch.device | str) -> Any:
    with archive.open(name) as entry:
        return torch.load(entry, map_location=get_device(device), weights_only=True)
