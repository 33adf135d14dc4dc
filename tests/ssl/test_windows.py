"""Windows of whole images: what is trained on is cut out of the file's own pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from rlrep.ssl import Learner
from rlrep.ssl.data import ImageFolder, StoredImages
from rlrep.views import ImageView
from rlrep.views.ops import Blur, ColourJitter, Flip, Grayscale, ResizedCrop

from .ssl_rig import equal
from .test_stored_images import learner, root

__all__ = ["root"]
CPU = torch.device("cpu")
WHOLE = ("data.keep=whole",)


@pytest.fixture
def wide(root: Path) -> Path:
    """Return the folder with images of different proportions."""
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        size = (20 + number, 60 - number)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return root


def stored(root: Path) -> StoredImages:
    images = ImageFolder(path=str(root), size=16, keep="whole").make(CPU).train.images
    assert isinstance(images, StoredImages) and images.whole
    return images


def test_probes_see_the_square_that_others_are_brought_to(wide: Path) -> None:
    square = ImageFolder(path=str(wide), size=16, cache="never").make(CPU).train.images
    assert torch.equal(stored(wide)[:], square[:])


def test_a_window_is_cut_out_of_the_file(wide: Path) -> None:
    images, index = stored(wide), torch.tensor([5, 0])
    pixels = {image.tobytes(): image for image in (np.asarray(Image.open(path)) for path in wide.rglob("*.png"))}
    sides = images.sides(index)
    windows = torch.tensor([[[2.0, 3, 14, 12], [0, 0, *sides[1].tolist()]], [[1, 1, 2, 3], [4, 2, 9, 9]]])
    found = images.cut(index, windows, 8)
    assert found.shape == (2, 2, 3, 8, 8)
    for v, n in np.ndindex(2, 2):
        whole = images._cache.image(int(images._rows[index[n]])).transpose(1, 2, 0)
        top, left, height, width = windows[v, n].tolist()
        box = (left, top, left + width, top + height)
        file = pixels[np.ascontiguousarray(whole).tobytes()]
        expected = np.asarray(Image.fromarray(file).resize((8, 8), Image.Resampling.BILINEAR, box=box))
        assert np.array_equal(found[v, n].numpy(), expected.transpose(2, 0, 1))


def test_windows_lie_in_their_own_image() -> None:
    crop, sides = ResizedCrop(size=8, scale=(0.3, 1.0)), torch.tensor([[20.0, 60], [50, 30], [9, 9]]).repeat(40, 1)
    drawn = crop.draw(120, sides[:, :1], sides[:, 1:], Generator().manual_seed(0))
    assert bool((drawn[:, :2] >= 0).all() and (drawn[:, :2] + drawn[:, 2:] <= sides).all())
    assert bool((drawn[:, 2:].prod(1) > 0.2 * sides.prod(1)).all())
    alike = crop.draw(9, torch.full((9, 1), 20), torch.full((9, 1), 60), Generator().manual_seed(1))
    assert torch.equal(alike, crop.draw(9, 20, 60, Generator().manual_seed(1)))


def test_what_follows_the_window_is_as_in_any_view() -> None:
    images = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8)
    view = ImageView(ResizedCrop(scale=(0.1, 0.2)), Flip(1.0), ColourJitter(0.0), Grayscale(0.0), Blur(0.0))
    assert torch.equal(view.of_window(images, Generator()), images.flip(-1))


def test_training_goes_on_exactly_and_fetching_changes_nothing(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (learner(wide, "always", *WHOLE) for _ in range(2))
    for _ in range(4):
        first.update()
    second.load_state(first.state())
    monkeypatch.setattr(second._sampler, "peek", lambda: None)
    for each in (first, second):
        for _ in range(4):
            each.update()
    assert equal(first.method.state_dict().values(), second.method.state_dict().values())


def differing(one: Learner, other: Learner) -> bool:
    return not equal(one.next_batch().views, other.next_batch().views)


def test_windows_change_with_every_update(wide: Path) -> None:
    one, other = learner(wide, "always", *WHOLE), learner(wide, "always", *WHOLE)
    assert not differing(one, other)
    other.updates = 1
    other._sampler.load_state(one._sampler.state())
    assert differing(one, other)


def test_other_views_are_refused_and_no_cache_is_a_contradiction(wide: Path) -> None:
    with pytest.raises(Exception, match=r"RandomShift is none: give augment=simclr"):
        learner(wide, "always", *WHOLE, "augment=random_shift")
    with pytest.raises(ValueError, match="cache=never has none"):
        ImageFolder(path=str(wide), keep="whole", cache="never")
