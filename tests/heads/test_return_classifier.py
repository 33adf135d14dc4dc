"""Classification by return bin: what early learning and pseudo-bins add, and that nothing is left of them at 0."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from rlrep.contrast import graph_contrast
from rlrep.heads import CoMatchReturn, Encoded, Encoders, ReturnContrast
from rlrep.heads.comatch_return import CoMatchReturnHead
from rlrep.heads.return_classifier import ReturnClassifierHead, early_regulariser
from rlrep.replay import Batch, Needs, Numbered, Pairs, Replay, ReturnLabels
from tests.replay.replay_twin import CPU, make_spec

WIDTH, BINS = 5, 4
BOX = spaces.Box(-1, 1, (2,), np.float32)
CLASSIFY = ReturnContrast(objective="classify", bins=BINS, hidden_dim=8, embedding_dim=6)
COMATCH = CoMatchReturn(bins=BINS, hidden_dim=8, embedding_dim=6, threshold=0.3, edge=0.2, memory=50)
KNOWN = torch.tensor([0, 3, -1, 1, -1, 2])


class Setting:
    def __init__(self, config: Any, bins: Tensor = KNOWN) -> None:
        torch.manual_seed(0)
        self.online, self.target = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head: Any = config.make("head", WIDTH, BOX)
        self.obs, self.second = torch.randn(2, len(bins), WIDTH)
        self.batch = Batch(self.obs, torch.randn(len(bins), 2), torch.zeros(1), torch.zeros(1), self.obs)

    def loss(self, bins: Tensor = KNOWN) -> tuple[Tensor, dict[str, Tensor]]:
        head = self.head
        found: dict[Any, Any] = {head.bins: bins, head.view: self.second, Numbered(): torch.arange(len(bins)) + 70}
        encoders, encoded = Encoders(self.online, self.target), Encoded(self.online(self.obs))
        loss, health = head.loss(self.batch, Pairs(found), encoded, encoders)
        return loss, health

    def both(self) -> tuple[Any, Any]:
        return (
            self.head.judge(self.online(self.obs), self.batch.action),
            self.head.judge_target(self.target(self.second), self.batch.action),
        )


def test_classify_is_cross_entropy_of_known_bins_and_early_learning_beside_it() -> None:
    plain, held = Setting(replace(CLASSIFY, early=0.0)), Setting(CLASSIFY)
    assert type(plain.head) is ReturnClassifierHead
    (judged, other), known = plain.both(), KNOWN >= 0
    error = cross_entropy(judged.logits[known], KNOWN[known])
    torch.testing.assert_close(plain.loss()[0], error)
    dots = (judged.logits[known].softmax(1) * other.logits[known].softmax(1)).sum(1)
    torch.testing.assert_close(held.loss()[0], error + 3.0 * (1 - dots).log().mean(), atol=1e-3, rtol=0)


def test_early_learning_pulls_at_predictions_only_and_is_finite_when_sure() -> None:
    logits, believed = torch.tensor([[40.0, 0.0], [0.0, 1.0]], requires_grad=True), torch.tensor([[40.0, 0.0]] * 2)
    loss = early_regulariser(logits, believed, torch.tensor([True, False]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite() and loss < 0 and gradient.isfinite().all() and not gradient[1].any()


@pytest.mark.parametrize("config", [CLASSIFY, replace(COMATCH, threshold=2.0, contrast=0.0)])
def test_without_a_known_bin_nothing_is_learnt_from_labels(config: Any) -> None:
    nothing = torch.full_like(KNOWN, -1)
    setting = Setting(
        replace(config, early=3.0) if config is CLASSIFY else replace(config, threshold=2.0, contrast=0.0)
    )
    assert setting.loss(nothing)[0] == 0


def test_comatch_is_its_three_losses_and_each_goes_with_its_weight() -> None:
    setting = Setting(COMATCH)
    (judged, other), known = setting.both(), KNOWN >= 0
    z = normalize(other.z, dim=1)
    near = (z @ z[known].T / 0.2).softmax(1) @ one_hot(KNOWN[known], BINS).float()
    pseudo = 0.9 * other.logits.softmax(1) + 0.1 * near
    pseudo[known] = one_hot(KNOWN[known], BINS).float()
    error = cross_entropy(judged.logits[known], KNOWN[known])
    sure = pseudo[~known].amax(1) >= COMATCH.threshold
    unlabelled = (sure * cross_entropy(judged.logits[~known], pseudo[~known], reduction="none")).mean()
    graph = graph_contrast(judged.z, other.z, pseudo, temperature=0.2, threshold=0.2)
    assert sure.any()
    for weights, expected in (((0, 0), error), ((1, 0), error + unlabelled), ((1, 2), error + unlabelled + 2 * graph)):
        setting.head.config = replace(COMATCH, unlabelled=weights[0], contrast=weights[1])
        torch.testing.assert_close(setting.loss()[0], expected)


def test_pseudo_bins_are_scored_once_their_bins_are_known() -> None:
    setting = Setting(COMATCH)
    head: CoMatchReturnHead = setting.head
    head.eval()
    setting.loss()
    assert (head.numbers == -1).all()  # without an update it leaves no trace
    head.train()
    setting.loss()
    head.after_update()
    assert not head.scored.any()
    guess = head.pseudo_bins(setting.both()[1], KNOWN).argmax(1)
    truth = torch.where(KNOWN >= 0, KNOWN, guess)
    truth[4] = (guess[4] + 1) % BINS  # of the two that were guessed one is wrong
    setting.loss(truth)
    head.after_update()
    torch.testing.assert_close(head.scored, 0.01 * torch.tensor([1.0, 2.0]))
    assert setting.loss(truth)[1]["pseudo_accuracy"] == 0.5


def test_numbers_are_the_transitions_own_although_the_replay_wraps() -> None:
    spec, number = make_spec(num_envs=2, steps=4), Numbered()
    replay, no = Replay(spec, device=CPU, seed=0, needs={"head": Needs((number,))}), np.zeros(2, bool)
    frame = np.zeros((2, *spec.frame_shape), np.float32)
    replay.begin(frame)
    for step in range(11):
        value = np.array([2 * step, 2 * step + 1], np.float32)
        replay.add(np.zeros((2, *spec.action_shape), np.float32), value, no, no, frame, frame, no)
    batch = replay.sample(50)
    assert set(batch.pairs["head"][number].tolist()) <= set(range(14, 22))
    torch.testing.assert_close(batch.pairs["head"][number].float(), batch.reward)


def test_options_out_of_range_are_named() -> None:
    for wrong, name in (({"smoothing": 1.5}, "smoothing"), ({"memory": 0}, "memory"), ({"unlabelled": -1.0}, "unlab")):
        with pytest.raises(ValueError, match=name):
            replace(COMATCH, **wrong)
    with pytest.raises(ValueError, match="early"):
        replace(CLASSIFY, early=-1.0)
    assert COMATCH.binned == ReturnLabels("return_bin", bins=BINS)
