"""`python -m rlrep.probe`: evaluate the features of a saved encoder, beside an untrained one's and the pixels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from rlrep.config.config import Device
from rlrep.config.files import compose_files
from rlrep.config.options import apply_settings, resolve
from rlrep.config.overrides import PROBE, CommandLine, parse
from rlrep.config.pretrain_compose import innermost
from rlrep.nn import Encoder, EncoderConfig, EncoderFile, load_encoder, read_encoder
from rlrep.process.cli import Arguments, entry
from rlrep.process.machine import pick_device, set_threads
from rlrep.process.seeds import Seeds
from rlrep.record.bounds import check_amounts
from rlrep.record.files import csv_text, wrote
from rlrep.record.folder import check_plain, read_config
from rlrep.record.trust import Trust
from rlrep.settings import (
    TARGET,
    ConfigError,
    UserError,
    build,
    coerce,
    find_target,
    groups,
    one_line,
    with_all_defaults,
)
from rlrep.ssl.data import DataConfig, describe
from rlrep.ssl.evaluation import (
    ProbeConfig,
    ProbeData,
    Score,
    collapse_meters,
    encode,
    pixel_features,
    score_features,
    summarise,
)
from rlrep.views import ImageView, NoAugment, NoChange, RandomCrop, ResizedCrop, View

MOST_SIDE = 8192
"""Pixels of a side that a run folder may ask images to be brought to."""
_HELP = """\
Probe a saved encoder: nearest neighbours and linear probes of classes, a linear probe per variable of simulator state.

  python -m rlrep.probe encoder=RUN [data=NAME] [data.OPTION=VALUE ...] [probe.OPTION=VALUE ...]

RUN is a run folder of rlrep.pretrain, or any encoder.safetensors. Without data=, the run's own data is used; where that
is a file of yours, data.path= says again which. A run folder is data, never code: components that are not rlrep's or an
installed package's are made only if a file in --config-dir DIR names them, or if --trust MODULE has them.
An encoder of the same architecture with random weights (seed=0) and the raw pixels are scored beside it; probe.csv is
written next to the encoder.
"""


@dataclass(frozen=True)
class ProbeRun:
    """encoder: run folder or .safetensors. seed: of the random encoder beside it."""

    encoder: str
    data: DataConfig
    probe: ProbeConfig
    seed: int = 0
    device: Device = "auto"


def _run(arguments: Arguments) -> int:
    if arguments.help:
        print(f"{_HELP}data: {', '.join(groups.names('data', arguments.folders))}")
        print(f"probe: {', '.join(field.name for field in fields(ProbeConfig))}")
        return 0
    trust = Trust(tuple(arguments.folders), tuple(arguments.modules))
    asked = compose_probe(arguments.words, trust)
    set_threads()
    try:
        scores, meters = probe(asked, saved_config(asked.encoder, trust))
    except ValueError as error:
        raise UserError(one_line(error)) from error
    _show(scores, meters)
    place = Path(asked.encoder)
    path = (place if place.is_dir() else place.parent) / "probe.csv"
    if wrote(path, csv_text([score._asdict() for score in scores])):
        print(path)
    return 0


def compose_probe(words: Sequence[str], trust: Trust) -> ProbeRun:
    """Compose one evaluation. Raises UserError in one line."""
    folders = trust.folders
    line = parse(words, PROBE)
    encoder = line.setting("encoder")
    if encoder is None:
        raise ConfigError("name the encoder: encoder=RUN, a run folder of rlrep.pretrain or an encoder.safetensors")
    node = compose_files("probe", line.choices, folders).node
    stored = stored_config(str(encoder), trust).get("data")
    own = "data" not in line.choices and isinstance(stored, Mapping)
    node["data"] = with_all_defaults(stored if own and stored else node["data"], "data")
    apply_settings(node, line, lambda component, _: dict(component))
    if own:
        _check_path(node["data"], line, str(encoder))
        check_amounts(node["data"], str(encoder), lambda option: line.setting(option) is not None)
        data = node.pop("data")  # what is stored is text, `${...}` too
        node = {**resolve(node), "data": data}
    else:
        node = resolve(node)
    run: ProbeRun = build(ProbeRun, node, "")
    return run


def stored_config(place: str, trust: Trust) -> dict[str, Any]:
    """Return the config of a run folder, nothing of an encoder without one. Raises UserError on what is not trusted."""
    folder = Path(place)
    if not os.path.lexists(folder / "config.yaml"):
        return {}
    check_plain(folder)
    return trust.read(folder)


def _check_path(data: Mapping[str, Any], line: CommandLine, encoder: str) -> None:
    """Raise ConfigError if a run folder, rather than the user, says which files are read, and written."""
    for option in ("path", "cache_path"):
        path = data.get(option)
        if path is not None and line.setting(f"data.{option}") is None:
            raise ConfigError(
                f"{encoder} was trained on data.{option}={path}: a run folder does not choose what is read, repeat "
                f"data.{option}="
            )


def probe(asked: ProbeRun, config: EncoderConfig) -> tuple[list[Score], dict[str, float]]:
    """Return the scores of encoder, random encoder and pixels, and the meters of collapse of the first two.

    config: the encoder's. Raises ValueError if the encoder is missing, damaged, or made for other images.
    """
    _check_weights(read_encoder(asked.encoder), config)
    split = asked.data.make(pick_device(asked.device))
    for line in describe(split):
        print(line)
    data, view = ProbeData.of(split, asked.probe), saved_view(asked.encoder)
    shape = tuple(view.fixed(split.train.images[:1]).shape[1:])
    Seeds(asked.seed).set_globals()
    networks: dict[str, Encoder] = {"random": config.make(shape), "encoder": config.make(shape)}
    load_encoder(asked.encoder, networks["encoder"], config, shape)
    found = {name: _features(network, data, view) for name, network in reversed(networks.items())}
    meters = collapse_meters({name: test for name, (_, test) in found.items()})
    most = asked.probe.pixels
    found["pixels"] = (pixel_features(data.train.images, most), pixel_features(data.test.images, most))
    scores = [score for name, both in found.items() for score in score_features(name, *both, data, asked.probe)]
    return scores, meters


def saved_config(place: str, trust: Trust) -> EncoderConfig:
    """Return the settings of a saved encoder; those of its run, where there is one, know how it was initialised.

    Raises ValueError if it is missing or of an unknown kind, UserError if a component in it is not known.
    """
    settings: dict[str, Any] = dict(read_encoder(place).architecture)
    kind = settings.pop("kind")
    stored = stored_config(place, trust).get("encoder")
    if isinstance(stored, Mapping):
        settings = {**stored, **({"load": None} if "load" in stored else {})}
    known = [target for target in groups.targets("encoder", trust.folders) if target.rpartition(".")[2] == kind]
    target = settings.pop(TARGET, min(known, default=None))
    if target is None or str(target).rpartition(".")[2] != kind:
        raise ValueError(f"encoder={place} is a {kind}, which this version does not have")
    trust.check("encoder", {TARGET: target, **settings}, f"encoder={place}")
    config: EncoderConfig = build(find_target(target, "encoder"), settings, "encoder")
    return config


def saved_view(place: str) -> View:
    """Return a view that shows images as a run's encoder saw them in evaluation: as they are, cut, or resized."""
    if not (Path(place) / "config.yaml").exists():
        return NoChange()
    method = innermost(read_config(Path(place)).get("method"))  # a pretraining run's
    views = method.get("views") if isinstance(method, dict) else None
    if not (isinstance(views, list) and views and isinstance(views[0], dict)):
        return NoChange()
    kind = str(views[0].get(TARGET)).rpartition(".")[2]
    holder = views[0].get("crop") if kind == "ImageView" else views[0]
    size = coerce(holder.get("size") if isinstance(holder, dict) else None, int | None, "method.views[0].size")
    if size is not None and not 1 <= size <= MOST_SIDE:
        raise ConfigError(f"{place}/config.yaml: method.views[0].size is {size}, expected 1 to {MOST_SIDE}")
    if kind == "ImageView":
        return ImageView(ResizedCrop(size))
    return RandomCrop(size) if kind == "RandomCrop" else NoAugment(size)


def _check_weights(saved: EncoderFile, config: EncoderConfig) -> None:
    """Raise ValueError unless the file's weights are those of its architecture, before memory is taken for these."""
    if not type(config).__module__.startswith("rlrep."):  # the user's own, which may not be made of shapes alone
        return
    try:
        with torch.device("meta"):
            own = {name: tensor.shape for name, tensor in config.make(tuple(saved.input["shape"])).state_dict().items()}
    except (RuntimeError, TypeError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"{saved.path} describes no encoder: {one_line(error)[:200]}") from error
    if own != {name: tensor.shape for name, tensor in saved.tensors.items()}:
        raise ValueError(f"{saved.path} does not hold the weights of the encoder that it describes")


def _features(network: Encoder, data: ProbeData, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    network.to(data.train.images.device)
    return encode(network, data.train.images, view), encode(network, data.test.images, view)


def _show(scores: Sequence[Score], meters: dict[str, float]) -> None:
    """Print a table: a line per variable and probe (two where labels are drawn), a column per kind of features."""
    columns = list(dict.fromkeys(score.features for score in scores))
    table: dict[tuple[str, str], dict[str, float]] = {}
    for variable in dict.fromkeys(score.variable for score in scores):
        for key, value in summarise([score for score in scores if score.variable == variable]).items():
            _, features, probe = key.split("/")
            table.setdefault((variable, probe), {})[features] = value
    width = max((len(" ".join(row)) for row in table), default=0)
    print(" " * width + "".join(f"{name:>10}" for name in columns))
    for row, values in table.items():
        print(" ".join(row).ljust(width) + "".join(f"{values[name]:10.3f}" for name in columns))
    for name in ("encoder", "random"):
        shown = "  ".join(f"{key.rsplit('/', 1)[1]} {v:.3g}" for key, v in meters.items() if f"rep/{name}/" in key)
        print(f"{name}: {shown}")


main = entry(_run, ("--trust",))
