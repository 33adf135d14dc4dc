"""Images on the disk are trained on as those in memory are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rlrep.config.naming import matters
from rlrep.images import cache as caches
from rlrep.ssl import Learner
from rlrep.ssl.data import ImageData, ImageFolder, Split, StoredImages

from .ssl_rig import SMALL, equal
from .ssl_rig import learner as digits_learner

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two classes, 48 images, of which ten make a shard."""
    monkeypatch.setattr(caches, "LEAST_ROWS", 10)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    for number in range(48):
        path = tmp_path / "images" / ("ant", "bee")[number % 3 == 0] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (18, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def learner(root: Path, cache: str, *words: str) -> Learner:
    mine = (f"data.path={root}", "data.size=16", f"data.cache={cache}", "train.batch_size=12", "train.updates=8")
    common = [word for word in SMALL if word != "data=digits" and not word.startswith("train.")]
    return digits_learner("simclr", *common, "data=folder", *mine, *words)


def test_batches_are_those_of_images_in_memory(root: Path) -> None:
    """Over more than an epoch, so that the order is drawn anew in between."""
    stored, plain = learner(root, "always"), learner(root, "never")
    assert isinstance(stored.data.images, StoredImages) and isinstance(plain.data.images, torch.Tensor)
    assert torch.equal(stored.data.images[:], plain.data.images)
    assert torch.equal(stored.data.labels["class"], plain.data.labels["class"])
    for _ in range(8):
        assert equal(stored.next_batch().views, plain.next_batch().views)


def test_what_was_saved_goes_on_exactly(root: Path) -> None:
    first, second = learner(root, "always"), learner(root, "always")
    for _ in range(4):
        first.update()
    second.load_state(first.state())
    for each in (first, second):
        for _ in range(4):
            each.update()
    assert equal(first.method.state_dict().values(), second.method.state_dict().values())


def split(root: Path, **options: object) -> Split:
    return ImageFolder(path=str(root), size=16, **options).make(CPU)  # type: ignore[arg-type]


def test_splits_and_fewer_labels_are_those_of_images_in_memory(root: Path) -> None:
    for part in ("train", "test"):
        (root.parent / "both" / part).parent.mkdir(exist_ok=True)
        (root.parent / "both" / part).symlink_to(root)
    for place, options in ((root.parent / "both", {}), (root, {"labels_per_class": 5}), (root, {"test_fraction": 0.5})):
        stored, plain = (split(place, cache=cache, **options) for cache in ("always", "never"))
        for here, there in ((stored.train, plain.train), (stored.test, plain.test)):
            assert torch.equal(here.images[:], there.images[:]) and len(here) == len(there)
            assert torch.equal(here.labels["class"], there.labels["class"])


def test_they_are_asked_as_a_tensor_is(root: Path) -> None:
    stored = split(root, cache="always").train.images
    assert isinstance(stored, StoredImages)
    plain = stored[:]
    assert stored.shape == plain.shape and stored.dtype == plain.dtype and len(stored) == len(plain)
    index = torch.tensor([3, 3, 0, 20])
    stored.fetch(torch.tensor([1, 2]))  # and then others are asked for
    assert torch.equal(stored.index_select(0, index), plain[index]) and torch.equal(stored[index], plain[index])
    stored.fetch(index)
    assert torch.equal(stored.index_select(0, index), plain[index])
    assert torch.equal(stored.rows(index)[1:], plain[index][1:]) and torch.equal(stored[::7], plain[::7])
    assert equal(stored.split(16), plain.split(16))
    assert f"batches are read from {stored.place}" in split(root, cache="always").notes
    assert ImageData(stored, {}).rows(index).shape == (3, 16, 16)


def test_few_images_are_decoded_at_every_start_unless_told(root: Path) -> None:
    assert isinstance(split(root).train.images, torch.Tensor) and not (root.parent / ".images.rlrep").exists()
    with pytest.raises(ValueError, match="contradict"):
        split(root, cache="never", cache_path="somewhere")


def test_where_decoded_images_are_kept_makes_no_other_run() -> None:
    assert not matters("data.cache") and not matters("data.cache_path") and matters("data.path")
