"""Views: offsets, sharing across the stack, determinism."""

import pytest
import torch
from torch import Tensor

from rlrep.views import (
    AmplitudeScale,
    CropPadCrop,
    NoAugment,
    NoChange,
    RandomCrop,
    RandomShift,
    ShiftIntensity,
    View,
    centre_crop,
    crop,
)


def coded_frames(rows: int, channels: int, size: int) -> Tensor:
    """Frames whose pixel (y, x) reads 16 y + x in every channel, so a crop shows its own offset."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (16 * y + x).to(torch.uint8).expand(rows, channels, size, size).contiguous()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_crop_reaches_every_offset_and_shares_it_across_the_stack() -> None:
    crops = RandomCrop(8)(coded_frames(4000, 9, 12), generator())
    assert crops.shape == (4000, 9, 8, 8) and crops.dtype == torch.uint8
    corners = crops[:, :, 0, 0].long()
    assert (corners == corners[:, :1]).all()
    offsets, counts = corners[:, 0].unique(return_counts=True)
    assert offsets.tolist() == sorted(16 * y + x for y in range(5) for x in range(5))
    assert counts.min() > 100  # 160 expected of each


def test_a_crop_of_the_whole_frame_is_refused_because_it_would_augment_nothing() -> None:
    with pytest.raises(ValueError, match=r"more than 12 pixels, got 12x12: raise env\.size"):
        RandomCrop(12)(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), generator(0))


@pytest.mark.parametrize(("size", "pad"), [(84, 4), (60, 3), (10, 0)])
def test_random_shift_pads_in_proportion_to_the_frame(size: int, pad: int) -> None:
    frames = torch.randint(0, 256, (64, 1, size, size), dtype=torch.uint8)
    assert torch.equal(RandomShift(size)(frames, generator(3)), RandomShift(size, pad=pad)(frames, generator(3)))


def test_random_shift_equals_padding_by_replication_and_cropping() -> None:
    frames = torch.randint(0, 255, (64, 3, 10, 10), generator=generator(1), dtype=torch.uint8)
    shifted = RandomShift(10, pad=2)(frames, generator(2))
    padded = torch.nn.functional.pad(frames.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    seen = set()
    for row, wide in zip(shifted, padded, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(wide[:, y : y + 10, x : x + 10], row)]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 20


def test_crop_pad_crop_is_a_crop_padded_by_replication_and_cropped_again() -> None:
    frames = torch.randint(0, 255, (200, 3, 10, 10), generator=generator(1), dtype=torch.uint8)
    viewed = CropPadCrop(10, pad=1)(frames, generator(2))
    seen = set()
    for row, out in zip(frames, viewed, strict=True):
        inner = {(y, x): row[:, y : y + 9, x : x + 9].float() for y in range(2) for x in range(2)}
        wide = {
            at: torch.nn.functional.pad(each[None], (1, 1, 1, 1), mode="replicate")[0] for at, each in inner.items()
        }
        found = [
            (at, (y, x))
            for at, each in wide.items()
            for y in range(2)
            for x in range(2)
            if torch.equal(each[:, y : y + 10, x : x + 10].to(torch.uint8), out)
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 16
    assert CropPadCrop()(torch.zeros(2, 4, 84, 84, dtype=torch.uint8), generator()).shape == (2, 4, 84, 84)


def test_intensity_scales_whole_rows_within_two_deviations() -> None:
    frames = torch.full((3000, 2, 6, 6), 100, dtype=torch.uint8)
    changed = ShiftIntensity(6, pad=1, scale=0.05)(frames, generator())
    assert changed.dtype == torch.uint8 and (changed == changed[:, :1, :1, :1]).all()
    level = changed[:, 0, 0, 0].float()
    assert level.min() == 90 and level.max() == 110 and level.std() == pytest.approx(4.8, abs=0.3)
    bright = ShiftIntensity(6, scale=0.05)(torch.full((200, 1, 6, 6), 255, dtype=torch.uint8), generator())
    assert bright.max() == 255 and bright.min() >= 229


def test_fixed_views_are_the_centre_crop() -> None:
    frames = coded_frames(2, 3, 12)
    views: list[View] = [RandomCrop(8), RandomShift(8), NoAugment(8), CropPadCrop(8), ShiftIntensity(8)]
    for view in views:
        assert torch.equal(view.fixed(frames), frames[:, :, 2:10, 2:10])
    assert torch.equal(NoAugment(8)(frames, generator()), centre_crop(frames, 8))


def test_same_seed_same_view() -> None:
    frames = torch.randint(0, 255, (16, 3, 12, 12), dtype=torch.uint8)
    assert torch.equal(RandomCrop(8)(frames, generator(5)), RandomCrop(8)(frames, generator(5)))
    assert not torch.equal(RandomCrop(8)(frames, generator(5)), RandomCrop(8)(frames, generator(6)))


@pytest.mark.parametrize("view", [RandomCrop(84), RandomShift(84), NoAugment(84)])
def test_frames_smaller_than_the_crop_are_refused_by_name(view: View) -> None:
    with pytest.raises(ValueError, match="84 pixels"):
        view(coded_frames(1, 3, 64), generator())


def test_amplitude_scale_keeps_direction_and_range() -> None:
    obs = torch.randn(500, 4, generator=generator())
    factor = AmplitudeScale(0.5, 1.5)(obs, generator(1)) / obs
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5
    assert torch.equal(NoChange()(obs, generator()), obs) and torch.equal(AmplitudeScale().fixed(obs), obs)


def test_crop_by_gather_equals_crop_by_row() -> None:
    """The CUDA form of `crop`, on this device."""
    frames = torch.randint(0, 255, (16, 9, 12, 12), generator=generator(), dtype=torch.uint8)
    top, left = torch.randint(5, (2, 16), generator=generator())
    windows = frames.unfold(2, 8, 1).unfold(3, 8, 1)
    assert torch.equal(crop(frames, top, left, 8), windows[torch.arange(16), :, top, left])
