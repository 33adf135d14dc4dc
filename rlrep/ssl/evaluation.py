"""What an encoder's features are good for: scores of probes by variable, and meters of collapse."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlrep.contrast import align, effective_rank, feature_correlation, uniform
from rlrep.contrast.parts import Attack, spread
from rlrep.settings import ranges
from rlrep.views import View
from rlrep.views.compose import multi_view

from .data import ImageData, Images, Split
from .data.labels import labelled_subset
from .probes import (
    Fold,
    accuracy,
    linear_classes,
    linear_classes_jointly,
    linear_classes_of_few,
    macro_f1,
    merge_classes,
    nearest_neighbours,
    r_squared,
    ridge_values,
)

SD = "_sd"
BATCH = 256
_METER_ROWS = 1024


@dataclass(frozen=True)
class ProbeConfig:
    """How features are evaluated.

    neighbours, temperature: of the nearest-neighbour vote. labels_per_class: sizes of labelled subsets for further
    linear probes. draws: of each such subset, the same for all features and runs. max_train, max_test: images used at
    most, evenly spaced. pixels: raw pixels are pooled to this many values at most. state_classes: neighbouring values
    of a discrete simulator state (a byte of memory) are merged into this many classes of about equal size, where there
    are more. attack: on a classifier's test images, None = none; for methods that train a classifier.
    """

    neighbours: int = 20
    temperature: float = 0.1
    labels_per_class: tuple[int, ...] = (1, 10)
    draws: int = 20
    max_train: int = 20_000
    max_test: int = 10_000
    pixels: int = 2048
    state_classes: int = 16
    attack: Attack | None = None

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("neighbours", "draws", "max_train", "max_test", "pixels"))
        ranges.at_least(self, 2, ("state_classes",))
        ranges.positive(self, ("temperature",))
        if min(self.labels_per_class, default=1) < 1:
            raise ValueError(f"labels_per_class must be at least 1 each, not {list(self.labels_per_class)}")


class Score(NamedTuple):
    """One probe's result. features: what was probed. metric: accuracy, macro_f1 or r2.

    draw: which draw of few labels, None where all are used.
    """

    features: str
    variable: str
    probe: str
    metric: str
    value: float
    draw: int | None = None


@dataclass(frozen=True)
class ProbeData:
    """The images that probes use, with their true labels, in the order that features come in."""

    train: ImageData
    test: ImageData

    @classmethod
    def of(cls, split: Split, config: ProbeConfig) -> "ProbeData":
        """Thin the data out to what the config allows."""
        return cls(thinned(split.train.true(), config.max_train), thinned(split.test, config.max_test))


@torch.no_grad()
def encode(encoder: nn.Module, images: Images, view: View | None = None) -> Tensor:
    """Return the encoder's output `(N, D)` in float32 for uint8 images, in evaluation mode; its mode is put back.

    view: whose fixed form the encoder sees; None = the images as they are.
    """
    with evaluating(encoder):
        return in_parts(encoder, images, view)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode, and put its modes back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def in_parts(network: Callable[[Tensor], Tensor], images: Images, view: View | None = None) -> Tensor:
    """Return a network's output of images, in the view's fixed form, 256 at a time, in float32."""
    parts = images.split(BATCH)
    return torch.cat([network(part if view is None else view.fixed(part)).float() for part in parts])


def pixel_features(images: Images, most: int) -> Tensor:
    """Return the pixels in [0, 1] as features, pooled to a square grid where there would be more than `most`."""
    return torch.cat([_pixel_features(part, most) for part in images.split(BATCH)])


def _pixel_features(images: Tensor, most: int) -> Tensor:
    x = images.float() / 255.0
    if x[0].numel() > most:
        x = F.adaptive_avg_pool2d(x, max(1, int((most / x.shape[1]) ** 0.5)))
    return x.flatten(1)


def score_features(name: str, train_x: Tensor, test_x: Tensor, data: ProbeData, config: ProbeConfig) -> list[Score]:
    """Probe features of the images for everything that is known of them.

    Classes of single images: neighbours and linear probes, with all labels and with draws of a few. State of a
    simulator: a linear probe per variable. Variables that do not change in the training or test images are left out.
    """
    scores: list[Score] = []
    discrete: dict[str, Fold] = {}
    for variable, fold in folds(train_x, test_x, data):
        if fold.train_y.is_floating_point():
            value = r_squared(ridge_values(fold), fold.test_y)
            scores.append(Score(name, variable, "linear", "r2", value))
        elif data.train.episode is None:
            scores += [Score(name, variable, *rest) for rest in _class_scores(fold, config)]
        else:
            train_y, test_y = merge_classes(fold.train_y, fold.test_y, config.state_classes)
            discrete[variable] = fold._replace(train_y=train_y, test_y=test_y)
    return [*scores, *_state_scores(name, train_x, test_x, discrete)]


def _state_scores(name: str, train_x: Tensor, test_x: Tensor, folds: Mapping[str, Fold]) -> Iterator[Score]:
    if not folds:
        return
    found = linear_classes_jointly(train_x, [fold.train_y for fold in folds.values()], test_x)
    for (variable, fold), predicted in zip(folds.items(), found, strict=True):
        yield Score(name, variable, "linear", "macro_f1", macro_f1(predicted, fold.test_y))
        yield Score(name, variable, "linear", "accuracy", accuracy(predicted, fold.test_y))


def folds(train_x: Tensor, test_x: Tensor, data: ProbeData) -> Iterator[tuple[str, Fold]]:
    """Yield every variable that varies, with the features of the images of which it is known.

    Classes of single images must also have more than one image to learn from somewhere: an image's number is none.
    """
    classes_alone = data.train.episode is None
    for variable, train_y in data.train.labels.items():
        fold = Fold(train_x, train_y, test_x, data.test.labels[variable])
        fold = _kept(fold, data.train.known(variable), data.test.known(variable))
        values = len(fold.train_y.unique())
        numbers_images = classes_alone and not train_y.is_floating_point() and values == len(fold.train_y)
        if values > 1 and len(fold.test_y.unique()) > 1 and not numbers_images:
            yield variable, fold


def _kept(fold: Fold, train: Tensor, test: Tensor) -> Fold:
    if bool(train.all()) and bool(test.all()):
        return fold
    return Fold(fold.train_x[train], fold.train_y[train], fold.test_x[test], fold.test_y[test])


def _class_scores(fold: Fold, config: ProbeConfig) -> Iterator[tuple[str, str, float, int | None]]:
    near = nearest_neighbours(fold, neighbours=config.neighbours, temperature=config.temperature)
    yield "knn", "accuracy", accuracy(near, fold.test_y), None
    yield "linear", "accuracy", accuracy(linear_classes(fold), fold.test_y), None
    smallest = int(fold.train_y.unique(return_counts=True)[1].min())
    for count in config.labels_per_class:
        if count <= smallest:
            draws = [labelled_subset(fold.train_y, seed=draw, per_class=count) for draw in range(config.draws)]
            for draw, found in enumerate(linear_classes_of_few(fold, torch.stack(draws))):
                yield f"linear_{count}_per_class", "accuracy", accuracy(found, fold.test_y), draw


def summarise(scores: Sequence[Score]) -> dict[str, float]:
    """Return the mean over variables and draws of each probe and metric, as `probe/FEATURES/PROBE_METRIC`.

    Where there are several draws, `..._METRIC_sd` is the standard deviation of one draw's mean over variables.
    """
    groups: dict[str, dict[int | None, list[float]]] = {}
    for score in scores:
        key = f"probe/{score.features}/{score.probe}_{score.metric}"
        groups.setdefault(key, {}).setdefault(score.draw, []).append(score.value)
    found: dict[str, float] = {}
    for key, draws in groups.items():
        means = [fmean(values) for values in draws.values()]
        found |= {key: fmean(means)} | ({f"{key}{SD}": stdev(means)} if len(means) > 1 else {})
    return found


@torch.no_grad()
def collapse_meters(features: Mapping[str, Tensor]) -> dict[str, float]:
    """Return `rep/NAME/...` of features `(N, D)`: spread, correlation, effective rank (of N), uniformity."""
    found: dict[str, float] = {}
    for name, full in features.items():
        z = full[:: max(1, len(full) // _METER_ROWS)][:_METER_ROWS].float()
        meters = {
            "spread": spread(z),
            "correlation": feature_correlation(z),
            "effective_rank": effective_rank(z),
            "uniformity": uniform(z),
        }
        found |= {f"rep/{name}/{meter}": float(value) for meter, value in meters.items()}
    return found


@torch.no_grad()
def alignment(networks: Mapping[str, nn.Module], images: Images, views: Sequence[View], seed: int) -> dict[str, float]:
    """Return `rep/NAME/alignment`: mean squared distance of two views of up to 1024 images on the sphere."""
    rows = images[:: max(1, len(images) // _METER_ROWS)][:_METER_ROWS]
    generator = Generator(images.device).manual_seed(seed)
    first, second = multi_view(rows, [views[0], views[min(1, len(views) - 1)]], generator)
    return {
        f"rep/{name}/alignment": float(align(encode(network, first), encode(network, second)))
        for name, network in networks.items()
    }


def principal_plane(features: Tensor) -> Tensor:
    """Return the two principal components `(N, 2)` of features `(N, D)`, zero where there is only one."""
    centred = features.double() - features.double().mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    plane = centred @ directions[:2].T
    return F.pad(plane, (0, 2 - plane.shape[1]))


def thinned(data: ImageData, most: int) -> ImageData:
    """Return so many images at most, evenly spaced."""
    if len(data) <= most:
        return data
    return data.rows(torch.linspace(0, len(data) - 1, most, device=data.images.device).round().long())
