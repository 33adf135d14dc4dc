"""`python -m rlrep.probe`: evaluate the features of a saved encoder, beside an untrained one's and the pixels."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

import rlrep.nn
from rlrep.nn import Encoder, EncoderConfig, load_encoder, read_encoder
from rlrep.settings import TARGET, build, coerce
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

from ..cli import Arguments, read_arguments, run_main
from ..compose import compose_tree, resolve
from ..config import Device
from ..errors import ConfigError, UserError, one_line
from ..files import wrote
from ..folder import read_config
from ..options import apply_settings
from ..overrides import PROBE, parse
from ..process import Seeds, pick_device, set_threads
from .compose import fill

_HELP = """\
Probe a saved encoder: nearest neighbours and linear probes of classes, a linear probe per variable of simulator state.

  python -m rlrep.probe encoder=RUN [data=NAME] [data.OPTION=VALUE ...] [probe.OPTION=VALUE ...]

RUN is a run folder of rlrep.pretrain, or any encoder.safetensors. Without data=, the run's own data is used.
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


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_main(lambda: _run(read_arguments(argv)))


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from .. import registry

        print(f"{_HELP}data: {', '.join(registry.names('data', arguments.folders))}")
        print(f"probe: {', '.join(field.name for field in fields(ProbeConfig))}")
        return 0
    asked = compose_probe(arguments.words, arguments.folders)
    set_threads()
    try:
        scores, meters = probe(asked)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    _show(scores, meters)
    place = Path(asked.encoder)
    path = (place if place.is_dir() else place.parent) / "probe.csv"
    if wrote(path, _as_csv(scores)):
        print(path)
    return 0


def _as_csv(scores: Sequence[Score]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Score._fields, *scores])
    return text.getvalue()


def compose_probe(words: Sequence[str], folders: Sequence[Path] = ()) -> ProbeRun:
    """Compose one evaluation. Raises ConfigError in one line."""
    line = parse(words, folders, PROBE)
    encoder = line.setting("encoder")
    if encoder is None:
        raise ConfigError("name the encoder: encoder=RUN, a run folder of rlrep.pretrain or an encoder.safetensors")
    node, _ = compose_tree("probe", [f"{group}={name}" for group, name in line.choices.items()], folders)
    if "data" not in line.choices and (Path(str(encoder)) / "config.yaml").exists():
        node["data"] = read_config(Path(str(encoder))).get("data", node["data"])
    node["data"] = fill(node["data"], "data")
    apply_settings(node, line, folders)
    run: ProbeRun = build(ProbeRun, resolve(node), "")
    return run


def probe(asked: ProbeRun) -> tuple[list[Score], dict[str, float]]:
    """Return the scores of encoder, random encoder and pixels, and the meters of collapse of the first two.

    Raises ValueError if the encoder is missing, damaged, or made for other images.
    """
    config = saved_config(asked.encoder)
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


def saved_config(place: str) -> EncoderConfig:
    """Return the settings of a saved encoder; those of its run, where there is one, know how it was initialised.

    Raises ValueError if it is missing or of an unknown kind.
    """
    settings: dict[str, Any] = dict(read_encoder(place).architecture)
    kind = settings.pop("kind")
    cls = getattr(rlrep.nn, kind, None)
    if cls is None:
        raise ValueError(f"encoder={place} is a {kind}, which this version does not have")
    if (Path(place) / "config.yaml").exists():
        settings = {**read_config(Path(place))["encoder"], "load": None}
        settings.pop(TARGET)
    config: EncoderConfig = build(cls, settings, "encoder")
    return config


def saved_view(place: str) -> View:
    """Return a view that shows images as a run's encoder saw them in evaluation: as they are, cut, or resized."""
    if not (Path(place) / "config.yaml").exists():
        return NoChange()
    views = (read_config(Path(place)).get("method") or {}).get("views")  # a pretraining run's
    if not views:
        return NoChange()
    kind = str(views[0].get(TARGET)).rpartition(".")[2]
    holder = views[0].get("crop", {}) if kind == "ImageView" else views[0]
    size = coerce(holder.get("size"), int | None, "method.views[0].size")
    if kind == "ImageView":
        return ImageView(ResizedCrop(size))
    return RandomCrop(size) if kind == "RandomCrop" else NoAugment(size)


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
