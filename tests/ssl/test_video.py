"""Clips: VideoMoCo beside MoCo, moving digits, frames that are apart."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlrep.contrast.parts import Dropper, Estimator, InfoNCE, Momentum, Projection, Queue
from rlrep.nn import PixelEncoderConfig
from rlrep.settings import UserError
from rlrep.ssl import DataShape, ImageBatch, VideoContrast
from rlrep.ssl.data import Frames, ImageData, MovingDigits, save_frames
from rlrep.ssl.data.moving_digits import place
from rlrep.ssl.video import VideoContrastMethod

from .ssl_rig import SAME, gradients, learner

CPU = torch.device("cpu")
SHAPE = (4, 16, 16)
CLIPS = ("data=moving_digits", "data.size=16", "data.clips=1", "encoder=small_cnn", "encoder.channels=[4,4,4]")
SPLITS = "method.splits=1"


def method(estimator: Estimator) -> VideoContrastMethod:
    torch.manual_seed(0)
    config = VideoContrast(
        SAME,
        Projection(hidden_dim=8, out_dim=5),
        InfoNCE(0.2),
        target=Momentum(0.1),
        queue=Queue(20, decay=0.9),
        directions="one",
        dropper=Dropper(4, 1, estimator, after=0.5),
    )
    encoder = PixelEncoderConfig(strides=(2, 2), channels=4, latent_dim=6, trunk="relu", init="torch").make(SHAPE)
    made = config.make(encoder, DataShape(SHAPE, 0, 8))
    assert isinstance(made, VideoContrastMethod)
    return made


def batch() -> ImageBatch:
    generator = torch.Generator().manual_seed(3)
    return ImageBatch(tuple(torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8, generator=generator) for _ in SAME))


def test_without_fading_and_dropping_it_is_moco_bit_for_bit() -> None:
    plain = ("method.queue.decay=1.0", "method.dropper.drop=0", SPLITS)
    video = learner("video_moco", *CLIPS, *plain)
    moco = learner("moco_v2", *CLIPS, SPLITS, "method.projector.norm=none")
    for _ in range(3):
        video.update()
        moco.update()
    ours, theirs = video.method.state_dict(), moco.method.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    faded = learner("video_moco", *CLIPS, "method.queue.decay=0.9", "method.dropper.drop=0", SPLITS)
    for _ in range(3):
        faded.update()
    assert not torch.equal(faded.method.state_dict()["queue.bank"], ours["queue.bank"])


@pytest.mark.parametrize("estimator", ["score_function", "straight_through"])
def test_the_two_losses_reach_their_own_parts_only(estimator: Estimator) -> None:
    """The encoder's gradient is that of the contrast of the left clip; the adversary's comes from the change alone."""
    made, views = method(estimator), batch()
    made.after_step(0.6)
    assert made.dropper is not None
    torch.nn.init.normal_(made.dropper.score.weight, std=0.1)
    torch.manual_seed(7)
    loss, metrics = made.loss(views)
    torch.manual_seed(7)
    drop = made.dropper(views.views[0], torch.rand(8, 4))
    contrast, _ = super(VideoContrastMethod, made).loss(replace(views, views=(drop.clip, views.views[1])))
    torch.testing.assert_close(metrics["contrast"], contrast.detach())
    for ours, alone in zip(gradients(loss, made.online), gradients(contrast, made.online), strict=True):
        torch.testing.assert_close(ours, alone)
    assert any(float(gradient.abs().sum()) > 0 for gradient in gradients(loss, made.dropper))
    assert not any(float(gradient.abs().sum()) for gradient in gradients(contrast, made.dropper))


def test_frames_are_dropped_when_their_share_of_training_comes() -> None:
    made = method("random")
    assert "change" not in made.loss(batch())[1]
    made.after_step(0.5)
    assert float(made.loss(batch())[1]["change"]) > 0


def test_it_resumes_bit_for_bit() -> None:
    words = (*CLIPS, "method.dropper.after=0.0", SPLITS)
    whole, first = learner("video_moco", *words), learner("video_moco", *words)
    for _ in range(2):
        first.update()
        whole.update()
    second = learner("video_moco", *words)
    second.load_state(first.state())
    for _ in range(2):
        second.update()
        whole.update()
    ours, theirs = second.method.state_dict(), whole.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_clips_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="are no 5 frames"):
        learner("video_moco", *CLIPS, "method.dropper.frames=5", SPLITS)


def test_digits_move_as_their_label_says() -> None:
    split = MovingDigits(frames=4, size=14, clips=1).make(CPU)
    images, velocity = split.train.images[:], split.train.labels["velocity"]
    assert images.shape[1:] == (4, 14, 14) and len(split.train) + len(split.test) == 1797
    assert velocity.unique().tolist() == list(range(9))
    for row in range(0, 200, 7):
        down, right = divmod(int(velocity[row]), 3)
        moved = torch.roll(images[row, :-1], (down - 1, right - 1), (1, 2))
        assert torch.equal(moved, images[row, 1:])
    still = MovingDigits(frames=4, size=14, clips=1).make(CPU)
    other = MovingDigits(frames=4, size=14, clips=1, seed=1).make(CPU)
    assert torch.equal(still.test.images[:], split.test.images[:]) and not torch.equal(
        other.test.images[:], split.test.images[:]
    )


def test_a_digit_is_put_where_it_is_said_to_be() -> None:
    digits = torch.arange(1, 5, dtype=torch.uint8).view(1, 2, 2)
    clips = place(digits, torch.tensor([[0, 3]]), torch.tensor([[1, -1]]), frames=3, size=5)
    for time in range(3):
        frame = torch.zeros(5, 5, dtype=torch.uint8)
        frame[time : time + 2, 3 - time : 5 - time] = digits[0]
        assert torch.equal(clips[0, time], frame)
    with pytest.raises(ValueError, match="size of 15 at least"):
        MovingDigits(size=14)


def test_frames_of_a_clip_are_a_stride_apart(tmp_path: Path) -> None:
    time = torch.arange(5).repeat(2)
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    save_frames(tmp_path / "f.safetensors", ImageData(images, {}, torch.arange(2).repeat_interleave(5), time), {})
    found: Tensor = (
        Frames(path=str(tmp_path / "f.safetensors"), stack=3, stride=2, test_fraction=0.5).make(CPU).train.images[:]
    )
    first = int(found[0, 0])
    assert (found[:, :, 0, 0] - first).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 3], [0, 2, 4]]
    with pytest.raises(ValueError, match="stride"):
        Frames(path="x", stride=0)
