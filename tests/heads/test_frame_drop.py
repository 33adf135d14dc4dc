"""VideoMoCo's head: which stack is encoded, what reaches whom, and what it does without the adversary."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import info_nce
from rlrep.heads import Encoded, Encoders, FrameDropContrast, InstanceContrast
from rlrep.heads.frame_drop import FrameDropHead
from rlrep.heads.instance_contrast import InstanceContrastHead
from rlrep.replay import Batch, Noise, Pairs, SecondView

ROWS, SHAPE = 6, (8, 5, 5)
BOX = spaces.Box(-1, 1, (2,), np.float32)
SETTINGS = FrameDropContrast(queue_size=30, hidden_dim=8, embedding_dim=4, drop=1)


def make_head(**options: Any) -> FrameDropHead:
    torch.manual_seed(0)
    head = replace(SETTINGS, **options).fitted(SHAPE, 4).make("head", 5, BOX)
    if head.dropper is not None:
        nn.init.normal_(head.dropper.score.weight, std=0.2)
    return head


class Flat(nn.Module):
    """A linear encoder of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(SHAPE[0] * 25, 5)

    def forward(self, obs: Tensor) -> Tensor:
        latent: Tensor = self.layer(obs.flatten(1).float() / 255.0)
        return latent


class Setting:
    def __init__(self) -> None:
        torch.manual_seed(1)
        self.online, self.target = Flat(), Flat()
        self.encoders = Encoders(self.online, self.target)

    def batch(self, seed: int) -> tuple[Batch, Pairs]:
        draw = torch.Generator().manual_seed(seed)
        obs, other = (torch.randint(0, 256, (ROWS, *SHAPE), dtype=torch.uint8, generator=draw) for _ in range(2))
        found = Pairs({SecondView(): other, Noise(4): torch.rand(ROWS, 4, generator=draw)})
        return Batch(obs, torch.zeros(ROWS, 2), torch.zeros(ROWS), torch.ones(ROWS), obs), found


def losses(head: InstanceContrastHead, setting: Setting, count: int = 3) -> list[Tensor]:
    found = []
    for seed in range(count):
        batch, pairs = setting.batch(seed)
        found.append(head.loss(batch, pairs, Encoded(setting.online(batch.obs)), setting.encoders)[0])
        head.after_update()
    return found


def test_the_left_stack_is_contrasted_with_keys_that_fade() -> None:
    head, setting, keys = make_head(queue_decay=0.9), Setting(), list[Tensor]()
    for seed in range(3):
        batch, pairs = setting.batch(seed)
        assert head.dropper is not None and head.branches.follow is not None
        drop = head.dropper(batch.obs, pairs[head.noise])
        query = head.branches.project(setting.online(drop.clip))
        key = head.branches.follow(setting.target(pairs[SecondView()]))
        negatives = [unit(past) * 0.9 ** (seed - age) for age, past in enumerate(keys)]
        expected = info_nce(
            unit(query),
            unit(key),
            temperature=0.2,
            negatives=torch.cat([torch.zeros(0, 4), *negatives]),
            similarity="dot",
        )
        whole = head.branches.project(setting.online(batch.obs))
        change = (unit(query) - unit(whole)).abs().mean(1)
        loss, health = head.loss(batch, pairs, Encoded(setting.online(batch.obs)), setting.encoders)
        torch.testing.assert_close(loss, expected + head.dropper.loss(drop, change))
        torch.testing.assert_close(health["change"], change.mean())
        head.after_update()
        keys.append(key)


def unit(z: Tensor) -> Tensor:
    return nn.functional.normalize(z, dim=1)


def test_both_learn_and_the_undropped_encoding_gets_no_gradient() -> None:
    head, setting = make_head(), Setting()
    batch, pairs = setting.batch(0)
    losses(head, setting, 1)  # so that there are negatives
    latent = setting.online(batch.obs).detach().requires_grad_()
    loss, _ = head.loss(batch, pairs, Encoded(latent), setting.encoders)
    assert head.dropper is not None
    found = torch.autograd.grad(
        loss, [latent, head.dropper.score.weight, *setting.online.parameters()], allow_unused=True
    )
    assert [g is None or not float(g.abs().sum()) for g in found] == [True, False, False, False]


def test_without_dropping_and_fading_it_is_curls_with_a_queue() -> None:
    curl = InstanceContrast(objective="info_nce", negatives="queue", queue_size=30, hidden_dim=8, embedding_dim=4)
    torch.manual_seed(0)
    plain = curl.make("head", 5, BOX)
    ours_all = losses(make_head(drop=0, queue_decay=1.0), Setting())
    for ours, theirs in zip(ours_all, losses(plain, Setting()), strict=True):
        assert torch.equal(ours, theirs)


def test_what_has_no_frames_to_drop_is_refused() -> None:
    for shape, frames in (((5,), 1), (SHAPE, 1)):
        with pytest.raises(ValueError, match=r"aux\.head drops frames"):
            SETTINGS.fitted(shape, frames).make("head", 5, BOX)
    with pytest.raises(ValueError, match="leaves nothing"):
        replace(SETTINGS, drop=4).fitted(SHAPE, 4).make("head", 5, BOX)
    with pytest.raises(ValueError, match="negatives=queue"):
        InstanceContrast(queue_decay=0.9)
