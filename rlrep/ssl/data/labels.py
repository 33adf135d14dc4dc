"""Labels of any type to classes (int64, from 0) or quantities (float32); what is unknown is marked, and said."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

UNLABELLED = -1
"""The class of images of which none is known; an unknown quantity is NaN."""

Array = NDArray[Any]
Noise = Literal["symmetric", "asymmetric"]


class Label(NamedTuple):
    """values: int64 or float32 `(N,)`. names: of the classes, where they have any but their number."""

    values: Tensor
    names: tuple[str, ...] | None = None


def known(values: Tensor) -> Tensor:
    """Return bool `(N,)`: which images have this label."""
    return values.isfinite() if values.is_floating_point() else values != UNLABELLED


def read_label(name: str, values: Array, count: int) -> Label:
    """Return the label of `count` images. Whole numbers, booleans and texts are classes, floats are quantities.

    -1, NaN and the empty text stand for images without one. Raises ValueError naming the label and what is wrong.
    """
    if values.shape == (count, 1):
        values = values[:, 0]
    if values.shape != (count,):
        advice = f": save {name}.argmax(1)" if values.ndim == 2 and len(values) == count else ""
        raise ValueError(f"label {name} must be ({count},), a value per image, got {values.shape}{advice}")
    if values.dtype.kind in "US":
        return _texts(name, values)
    if values.dtype.kind in "iub":
        return Label(torch.from_numpy(_classes(name, values)))
    if values.dtype.kind == "f":
        return Label(torch.from_numpy(_quantities(name, values)))
    raise ValueError(f"label {name} has values of type {values.dtype}: save numbers, or texts (astype(str))")


def _texts(name: str, values: Array) -> Label:
    try:
        texts = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    except UnicodeDecodeError as error:
        raise ValueError(f"label {name} holds bytes that are no text in UTF-8: {error}") from error
    names = [str(text) for text in np.unique(texts) if text]
    numbers = {text: k for k, text in enumerate(names)} | {"": UNLABELLED}
    return Label(torch.tensor([numbers[str(text)] for text in texts]), tuple(names))


def _classes(name: str, values: Array) -> Array:
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"label {name} has values up to {values.max()}: classes are whole numbers from 0")
    classes = values.astype(np.int64)
    found = np.unique(classes)
    if found.size and (found[0] < UNLABELLED or (found[0] == UNLABELLED and len(found) == 2)):
        shown = ", ".join(map(str, found[:3])) + (", ..." if len(found) > 3 else "")
        raise ValueError(f"label {name} has the values {shown}: classes are whole numbers from 0, -1 means none known")
    return classes


def _quantities(name: str, values: Array) -> Array:
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if np.isinf(numbers).any():
        raise ValueError(f"label {name} has infinite values: NaN stands for a quantity that is not known")
    return numbers


def labelled_subset(
    labels: Tensor, *, seed: int, fraction: float | None = None, per_class: int | None = None
) -> Tensor:
    """Return rows of `labels` `(N,)`, in order, that count as labelled.

    A `fraction` of each class (at least one image), or `per_class` images of it. Raises ValueError unless just one of
    the two is given and fits.
    """
    if (fraction is None) == (per_class is None):
        raise ValueError("a labelled subset needs either fraction or per_class")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction} is not a share between 0 and 1")
    generator = Generator().manual_seed(seed)
    chosen = []
    for name in labels.unique().tolist():
        rows = (labels.cpu() == name).nonzero()[:, 0]
        count = max(1, round(len(rows) * fraction)) if fraction is not None else int(per_class or 0)
        if not 1 <= count <= len(rows):
            raise ValueError(f"per_class={per_class} does not fit class {name}, which has {len(rows)} images")
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen).sort().values.to(labels.device)


def corrupt(labels: Tensor, *, share: float, noise: Noise, seed: int) -> Tensor:
    """Return classes `(N,)` of which a share was replaced; -1 stays.

    symmetric: that share of the images gets a class drawn from all, its own among them (Liu et al. 2020, arXiv
    2007.00151, section 5). asymmetric: that share of each class gets the next class, the last one the first.
    """
    names, generator = labels[labels != UNLABELLED].unique().cpu(), Generator().manual_seed(seed)
    found, place = labels.cpu().clone(), (labels.cpu() != UNLABELLED).nonzero()[:, 0]
    if noise == "symmetric":
        rows = place[torch.randperm(len(place), generator=generator)[: round(share * len(place))]]
        found[rows] = names[torch.randint(len(names), (len(rows),), generator=generator)]
        return found.to(labels.device)
    for number, name in enumerate(names):
        rows = (labels.cpu() == name).nonzero()[:, 0]
        chosen = rows[torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]]
        found[chosen] = names[(number + 1) % len(names)]
    return found.to(labels.device)
