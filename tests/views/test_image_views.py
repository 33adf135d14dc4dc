"""SimCLR's augmentations against one sample at a time: colorsys, plain interpolation, closed-form kernels."""

import colorsys
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrep.config.make import load_component
from rlrep.views import (
    Blur,
    ColourJitter,
    Flip,
    Grayscale,
    ImageView,
    RandomCrop,
    ResizedCrop,
    Solarise,
    multi_view,
)
from rlrep.views.colour import blend, luma, turn_hue
from rlrep.views.compose import Op

ALL = ImageView(solarise=Solarise(0.5))
NOTHING = ImageView(
    ResizedCrop(scale=(1, 1), ratio=(1, 1)), Flip(0), ColourJitter(1, 0, 0, 0, 0), Grayscale(0), Blur(0), Solarise(0)
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(rows: int, stack: int = 1, channels: int = 3, size: int = 20) -> Tensor:
    return torch.rand(rows, stack, channels, size, size, generator=generator(rows))


def image(rows: int, channels: int, size: int = 20) -> Tensor:
    return torch.randint(0, 256, (rows, channels, size, size), dtype=torch.uint8, generator=generator(rows))


def cut_one(row: Tensor, window: Tensor, size: int) -> Tensor:
    """Crop first, then resize, as image libraries do."""
    top, left, tall, wide = (int(v) for v in window)
    cut = row[..., top : top + tall, left : left + wide]
    return torch.nn.functional.interpolate(cut, (size, size), mode="bilinear", align_corners=False)


def test_resized_crop_is_cutting_then_resizing() -> None:
    x, crop = frames(50, stack=2, size=24), ResizedCrop(16)
    drawn = crop.draw(50, 24, 24, generator())
    for row, window, found in zip(x, drawn, crop.apply(x, drawn), strict=True):
        torch.testing.assert_close(found, cut_one(row, window, 16), atol=1e-5, rtol=0)


def test_windows_have_the_asked_area_and_aspect_and_stay_inside() -> None:
    top, left, tall, wide = ResizedCrop(scale=(0.2, 0.5)).draw(20_000, 100, 120, generator()).unbind(1)
    assert ((top >= 0) & (left >= 0) & (top + tall <= 100) & (left + wide <= 120)).all()
    area, aspect = tall * wide / 12_000, wide / tall
    assert 0.19 < area.min() < 0.21 and 0.49 < area.max() < 0.51
    assert abs(float(area.mean()) - 0.35) < 0.005, "uniform in area"
    assert 0.73 < aspect.min() < 0.76 and 1.3 < aspect.max() < 1.36
    assert abs(float(aspect.log().mean())) < 0.005, "log-uniform in aspect"
    assert (top == 0).any() and (top + tall == 100).any() and (left + wide == 120).any()


def test_a_window_that_never_fits_is_the_whole_frame() -> None:
    drawn = ResizedCrop(scale=(1, 1), ratio=(2, 3)).draw(5, 30, 30, generator())
    assert drawn.tolist() == [[0, 0, 30, 30]] * 5


@pytest.mark.parametrize("turns", [0.0, 0.1, -0.3, 0.5])
def test_hue_is_the_turn_in_hsv(turns: float) -> None:
    x = frames(1, size=12)
    x[..., 0, :4] = torch.tensor([[0.0, 1.0, 0.5, 0.3]])  # gray pixels
    x[0, 0, :, 1, :3] = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]])  # ties between channels
    turned = turn_hue(x, torch.tensor([turns]))[0, 0]
    for y, column in np.ndindex(12, 12):
        h, s, v = colorsys.rgb_to_hsv(*(float(c) for c in x[0, 0, :, y, column]))
        expected = torch.tensor(colorsys.hsv_to_rgb((h + turns) % 1.0, s, v))
        torch.testing.assert_close(turned[:, y, column], expected, atol=2e-6, rtol=0)


def adjust_one(kind: int, row: Tensor, factor: float) -> Tensor:
    """Brightness, contrast and saturation of one image `(3, H, W)` in numpy's own words."""
    pixels = row.numpy().astype(np.float64)
    gray = np.tensordot([0.299, 0.587, 0.114], pixels, 1)
    base = [np.zeros_like(gray), np.full_like(gray, gray.mean()), gray][kind]
    return torch.from_numpy(np.clip(factor * pixels + (1 - factor) * base, 0, 1)).float()


def hue_one(row: Tensor, turns: float) -> Tensor:
    return turn_hue(row[None, None], torch.tensor([turns]))[0, 0]


def test_jitter_applies_its_four_changes_in_the_drawn_order() -> None:
    x, jitter = frames(200, stack=2, size=6), ColourJitter(0.9)
    drawn = jitter.draw(200, 6, 6, generator())
    found = jitter.apply(x, drawn)
    orders = set()
    for row, values, got in zip(x, drawn.tolist(), found, strict=True):
        kinds, factors, turn, place = [int(k) for k in values[:3]], values[3:6], values[6], int(values[7])
        steps: list[Callable[[Tensor], Tensor]] = [
            lambda y, k=kind, f=factor: adjust_one(k, y, f)  # type: ignore[misc]
            for kind, factor in zip(kinds, factors, strict=True)
        ]
        steps.insert(place, lambda y, t=turn: hue_one(y, t))  # type: ignore[misc]
        orders.add((*kinds, place))
        for frame, result in zip(row, got, strict=True):
            y = frame
            for step in steps:
                y = step(y)
            torch.testing.assert_close(result, y, atol=1e-5, rtol=0)
    assert len(orders) == 24, "every order of four comes up"


def test_jitter_draws_the_papers_ranges_for_the_rows_it_takes() -> None:
    drawn = ColourJitter(0.8, 0.4, 0.4, 0.4, 0.1).draw(20_000, 8, 8, generator())
    factors, turn = drawn[:, 3:6], drawn[:, 6]
    untouched = (factors == 1).all(1) & (turn == 0)
    assert abs(float(untouched.float().mean()) - 0.2) < 0.01
    assert 0.6 <= factors.min() < 0.601 and 1.399 < factors.max() <= 1.4
    assert -0.1 <= turn.min() < -0.0999 and 0.0999 < turn.max() <= 0.1
    assert ColourJitter(1, 2.0).draw(5000, 8, 8, generator())[:, 3:6].min() >= 0, "no negative factors"
    assert drawn[:, 7].unique().tolist() == [0, 1, 2, 3]


def test_gray_frames_change_in_brightness_and_contrast_only() -> None:
    x, on = frames(4, channels=1), torch.ones(4)
    factor = torch.tensor([0.5, 1.5, 0.8, 1.0])
    torch.testing.assert_close(blend(x, factor, with_luma=on, with_mean=0 * on), x.clamp(0, 1))  # saturation
    assert torch.equal(Grayscale(1.0).apply(x, on[:, None]), x)
    only_hue = ColourJitter(1.0, 0, 0, 0, 0.5)
    assert torch.equal(only_hue.apply(x, only_hue.draw(4, 20, 20, generator())), x)


def test_grayscale_flip_and_solarise_by_hand() -> None:
    x, half = frames(8), torch.tensor([0.0, 1.0] * 4)[:, None]
    gray, flipped, solar = (op.apply(x, half) for op in (Grayscale(), Flip(), Solarise(0.5, 0.4)))
    assert all(torch.equal(result[::2], x[::2]) for result in (gray, flipped, solar))
    expected = (
        (x[1::2] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(2, keepdim=True).expand(4, 1, 3, 20, 20)
    )
    torch.testing.assert_close(gray[1::2], expected)
    assert torch.equal(flipped[1::2, ..., 3], x[1::2, ..., 16])
    assert torch.equal(solar[1::2], torch.where(x[1::2] < 0.4, x[1::2], 1 - x[1::2]))
    assert torch.equal(luma(x[:, :, :1]), x[:, :, :1])


def test_blur_is_a_truncated_gaussian_with_mirrored_borders() -> None:
    x, blur = frames(6, stack=2, size=40), Blur(1.0)
    sigma = blur.draw(6, 40, 40, generator())
    found = blur.apply(x, sigma)
    offsets = range(-2, 3)  # 40 // 10 = 4, made odd: 5
    for row, s, got in zip(x.double(), sigma[:, 0].tolist(), found, strict=True):
        weights = [math.exp(-(d**2) / (2 * s**2)) for d in offsets]
        padded = np.pad(row.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
        expected = (
            sum(weights[i] * weights[j] * padded[..., i : i + 40, j : j + 40] for i in range(5) for j in range(5))
            / sum(weights) ** 2
        )
        torch.testing.assert_close(got.double(), torch.from_numpy(expected), atol=1e-5, rtol=0)
    assert sigma.min() >= 0.1 and sigma.max() <= 2


OPS: list[Op] = [ResizedCrop(12), Flip(), ColourJitter(), Grayscale(0.5), Blur(), Solarise(0.5)]


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_a_row_depends_on_its_own_draws_alone(op: Op) -> None:
    x = frames(9, stack=2)
    drawn = op.draw(9, 20, 20, generator())
    together = op.apply(x, drawn)
    for i in range(9):
        torch.testing.assert_close(op.apply(x[i : i + 1], drawn[i : i + 1])[0], together[i], atol=1e-6, rtol=0)
    assert together.min() >= 0 and together.max() <= 1
    assert not torch.equal(drawn, op.draw(9, 20, 20, generator(1)))


@pytest.mark.parametrize("channels", [1, 3, 4, 9])
def test_a_view_is_uint8_reproducible_and_shared_by_the_stack(channels: int) -> None:
    obs = image(7, channels).index_select(1, torch.arange(channels) % (3 if channels % 3 == 0 else 1))
    seen = ALL(obs, generator(3))
    assert seen.dtype == torch.uint8 and seen.shape == obs.shape
    assert torch.equal(seen, ALL(obs, generator(3))) and not torch.equal(seen, ALL(obs, generator(4)))
    single = 3 if channels % 3 == 0 else 1
    for k in range(0, channels, single):
        assert torch.equal(seen[:, k : k + single], seen[:, :single]), "equal frames stay equal"


def test_a_view_without_strength_changes_nothing() -> None:
    obs = image(5, 9)
    assert torch.equal(NOTHING(obs, generator()), obs)
    assert torch.equal(ImageView(ResizedCrop(20)).fixed(obs), obs)


def test_working_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    obs = image(33, 3)
    whole = ALL(obs, generator())
    monkeypatch.setattr("rlrep.views.compose._CACHED", 5 * obs[0].numel())
    small = ALL(obs, generator())
    assert (whole.int() - small.int()).abs().max() <= 1, "vector and scalar code round apart by one at most"


def test_fixed_view_is_the_resized_whole_frame() -> None:
    obs = image(3, 9, size=24)
    expected = torch.nn.functional.interpolate(obs.float(), (16, 16), mode="bilinear", align_corners=False)
    assert (ImageView(ResizedCrop(16)).fixed(obs).float() - expected).abs().max() <= 0.51


def test_views_of_a_batch_are_independent_and_in_order() -> None:
    obs = image(6, 3)
    pair = multi_view(obs, [RandomCrop(8)] * 3, generator())
    assert pair.shape == (3, 6, 3, 8, 8) and not torch.equal(pair[0], pair[1])
    mixed = multi_view(obs, [NOTHING, ALL], generator())
    assert torch.equal(mixed[0], obs) and not torch.equal(mixed[1], obs)


@pytest.mark.parametrize("name", ["simclr", "simclr_cifar", "moco", "byol_first", "byol_second", "mild"])
def test_every_image_view_of_the_configs_runs_on_frames(name: str) -> None:
    view = load_component("augment", name, size=24)
    assert view(image(4, 9, size=24), generator()).shape == (4, 9, 24, 24)
    assert load_component("augment", name, size=100).crop.size == 84


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Flip(1.5), "probability"),
        (lambda: ResizedCrop(scale=(0.5, 1.5)), "scale"),
        (lambda: ResizedCrop(ratio=(2, 1)), "ratio"),
        (lambda: ResizedCrop(0), "size"),
        (lambda: ColourJitter(hue=0.6), "hue at most 0.5"),
        (lambda: Blur(sigma=(0, 1)), "sigma"),
        (lambda: ALL(torch.rand(2, 3, 8, 8), generator()), "uint8 frames"),
        (lambda: ImageView(frames="rgb")(image(2, 4), generator()), "multiple of three"),
    ],
)
def test_what_does_not_fit_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
