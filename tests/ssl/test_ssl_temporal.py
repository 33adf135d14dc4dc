"""Positives in time: the views of an image are of frames a few steps apart, never of two episodes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from rlrep.commands.pretrain import main
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.nn import PixelEncoderConfig
from rlrep.ssl import Learner, MethodConfig, OptimiserConfig
from rlrep.ssl.data import Frames, ImageData
from rlrep.ssl.learner import plan
from rlrep.ssl.sampling import later, steps_left
from rlrep.views import RandomShift

from .ssl_rig import METHODS, composed

LENGTHS = (5, 1, 2, 8)


def frames(*, classes: Tensor | None = None, keep: Tensor | None = None) -> ImageData:
    """Return episodes of `LENGTHS` frames, each of one gray level that is its row."""
    episode = torch.cat([torch.full((length,), 10 + i) for i, length in enumerate(LENGTHS)])
    time = torch.cat([torch.arange(length) for length in LENGTHS])
    count = len(time)
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 1, 16, 16)
    labels = {} if classes is None else {"class": classes}
    return ImageData(images, labels, episode, time).rows(torch.arange(count) if keep is None else keep)


def partners(data: ImageData, gap: int, classes: Tensor | None) -> list[list[int]]:
    """The slow twin: walk on from each frame, a step at a time, while the next row is its next step."""
    assert data.episode is not None and data.time is not None
    found = []
    for start in range(len(data)):
        rows = [start]
        for row in range(start + 1, min(start + gap + 1, len(data))):
            same = data.episode[row] == data.episode[start] and data.time[row] == data.time[start] + row - start
            if not same or (classes is not None and classes[row] != classes[start]):
                break
            rows.append(row)
        found.append(rows)
    return found


@pytest.mark.parametrize("gap", [1, 3, 100])
@pytest.mark.parametrize("case", ["whole", "gaps in time", "classes"])
def test_partners_are_the_slow_twins_each_as_often(case: str, gap: int) -> None:
    data = frames(keep=torch.tensor([0, 1, 2, 4, 5, 6, 7, 9, 10, 12, 13]) if case == "gaps in time" else None)
    classes = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2]) if case == "classes" else None
    reach = steps_left(data, classes).clamp(max=gap)
    draws = 2000
    rows = torch.arange(len(data)).repeat_interleave(draws)
    found = later(rows, reach, Generator().manual_seed(0)).view(len(data), draws)
    for row, expected in enumerate(partners(data, gap, classes)):
        values, counts = found[row].unique(return_counts=True)
        assert values.tolist() == expected, f"frame {row} meets {values.tolist()}, not {expected}"
        assert (counts - draws / len(expected)).abs().max() < 5 * (draws / len(expected)) ** 0.5


def test_an_image_without_time_has_no_partners() -> None:
    with pytest.raises(ValueError, match=r"data\.gap=0"):
        steps_left(ImageData(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), {}))


def learner(config: MethodConfig, data: ImageData, gap: int, label: str | None = None) -> Learner:
    encoder = PixelEncoderConfig(strides=(2, 2), channels=4, latent_dim=6, trunk="relu", init="torch").make(data.shape)
    length = plan(len(data), batch_size=len(data), epochs=None, updates=3)
    return Learner(config, encoder, data, optimiser=OptimiserConfig(), length=length, label=label, seed=0, gap=gap)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_views_of_frames_a_few_steps_apart(method: str) -> None:
    """A shift leaves a frame of one level as it is, so that a view tells which frame it is of."""
    classes = torch.arange(sum(LENGTHS)) % 2
    few = ("classes=2", "per_class=2", "fraction=1.0", *(["images=2"] if method == "comatch" else []))
    words = [f"method.labelled.{word}" for word in few] if method in ("suncet", "comatch") else []
    config: Any = composed(method, "augment=random_shift", *words).method
    assert all(isinstance(view, RandomShift) for view in config.views)
    allowed = partners(frames(), 3, classes if method == "supcon" else None)
    made, moved = learner(config, frames(classes=classes), 3), set[int]()
    for _ in range(8):
        first, *others = (view[:, 0, 0, 0].tolist() for view in made.next_batch().views)
        for other in others:
            assert all(there in allowed[here] for here, there in zip(first, other, strict=True))
            moved.update(there - here for here, there in zip(first, other, strict=True))
        made.updates += 1
    single = {name for name in METHODS if name.endswith("autoencoder")}
    single |= {"ascl", "cross_entropy", "elr", "fedprox", "moon"}
    wanted = {**{name: set[int]() for name in single}, "supcon": {0}}
    assert moved == wanted.get(method, {0, 1, 2, 3}), "one view has no partner; classes differ from step to step here"


def test_a_resumed_run_draws_the_same_partners() -> None:
    config = composed("simclr", "augment=random_shift").method
    whole, resumed = (learner(config, frames(), 3) for _ in range(2))
    whole.update()
    resumed.load_state(whole.state())
    assert all(torch.equal(a, b) for a, b in zip(whole.next_batch().views, resumed.next_batch().views, strict=True))


def test_without_a_gap_all_views_are_of_one_frame() -> None:
    batch = learner(composed("simclr", "augment=random_shift").method, frames(), 0).next_batch()
    assert torch.equal(batch.views[0][:, 0, 0, 0], batch.views[1][:, 0, 0, 0])


@pytest.mark.parametrize("data", ["atari_frames", "dmc_frames", "toy_frames", "frames"])
def test_frames_are_shifted_and_their_positives_up_to_three_steps_apart(data: str) -> None:
    made = compose_pretraining(["method=simclr", f"data={data}", "preset=cpu", *(["data.path=x"] * (data == "frames"))])
    assert isinstance(made.config.data, Frames) or data != "frames"
    assert made.tree["data"]["gap"] == 3
    assert [view["_target_"] for view in made.tree["method"]["views"]] == ["rlrep.views.RandomShift"] * 2
    assert all(view["size"] is None for view in made.tree["method"]["views"]), "whatever size the frames have"


def test_data_without_time_refuses_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("data=digits", "data.gap=3"), "data.gap needs frames with their time, data=digits has none: leave it out"),
        (("data=toy_frames", "data.stack=0"), "stack must be from 1 to 64 frames, not 0"),
        (("data=toy_frames", "data.stack=1000000"), "stack must be from 1 to 64 frames, not 1000000"),
        (("data=toy_frames", "data.gap=-1"), "gap must be 0 (off) or a number of agent steps, not -1"),
    ):
        assert main(["method=simclr", "preset=debug", *words, f"out={tmp_path / 'x'}"]) != 0
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
