"""Heads: against plain re-statements, gradient sources, label masks, actions of both kinds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.aux import Encoded, Encoders, InstanceContrast, ReturnContrast
from rlrep.aux.actions import action_dim, join_action
from rlrep.aux.health import in_batch_health, label_quality
from rlrep.aux.negatives import same_known
from rlrep.replay import Batch, Extra, Pairs

ROWS, WIDTH = 6, 5
BOX = spaces.Box(-1, 1, (2,), np.float32)


def make_pairs(anchor_bin: list[int], positive_bin: list[int], labelled: list[bool] | None = None) -> Pairs:
    rows = len(anchor_bin)
    return Pairs(
        obs=torch.randn(rows, WIDTH),
        action=torch.randn(rows, 2),
        labelled=torch.tensor(labelled or [True] * rows),
        anchor_bin=torch.tensor(anchor_bin),
        positive_bin=torch.tensor(positive_bin),
        length=torch.arange(rows),
    )


def make_batch(pairs: Pairs | None = None) -> Batch:
    obs = torch.randn(ROWS, WIDTH)
    extra = Extra(second_view=torch.randn(ROWS, WIDTH), pairs=pairs)
    return Batch(obs, torch.randn(ROWS, 2), torch.zeros(ROWS), torch.ones(ROWS), obs, {"head": extra})


class Setting:
    """An online and a target encoder, both linear."""

    def __init__(self) -> None:
        self.online, self.target = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.encoders = Encoders(self.online, self.target)

    def encode(self, batch: Batch) -> Encoded:
        return Encoded(self.online(batch.obs))


def test_curl_is_the_papers_cross_entropy() -> None:
    setting, batch = Setting(), make_batch()
    head = InstanceContrast(temperature=0.5).make("head", WIDTH, BOX)
    loss, health = head.loss(batch, setting.encode(batch), setting.encoders)
    view = batch.extra["head"].second_view
    assert view is not None
    assert head.contrast.bilinear is not None
    weight = head.contrast.bilinear.weight
    logits = setting.online(batch.obs) @ weight @ setting.target(view).T / 0.5
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, torch.arange(ROWS)))
    assert set(health) == {"accuracy", "positive_similarity", "negative_similarity"}
    assert (weight >= 0).all() and (weight < 1).all()


@pytest.mark.parametrize("objective", ["bilinear_info_nce", "pair_regression"])
def test_return_contrast_trains_its_parts_and_never_the_targets(objective: str) -> None:
    setting, batch = Setting(), make_batch(make_pairs([0, 1, 2, 3, 4, -1], [0, 1, 2, 3, 4, -1]))
    head = ReturnContrast(objective=objective).make("head", WIDTH, BOX)  # type: ignore[arg-type]
    loss, health = head.loss(batch, setting.encode(batch), setting.encoders)
    loss.backward()
    assert setting.online.weight.grad is not None and setting.target.weight.grad is None
    trained = {name for name, p in head.named_parameters() if p.grad is not None}
    expected = {name for name, p in head.named_parameters() if p.requires_grad}
    assert trained == expected and not any(name.startswith("target_projector") for name in trained)
    assert {"same_return_rate", "false_negative_rate", "segment_length", "accuracy"} <= set(health)


def test_masked_negatives_do_not_move_the_loss() -> None:
    """Anchor 0 shares its bin with partner 1: changing partner 1 changes row 0's loss only when masking is off."""
    pairs = make_pairs([7, 7, 2, 3, 4, 5], [7, 7, 2, 3, 4, 5], [True] + [False] * 5)
    moved = replace(pairs, obs=pairs.obs + 10 * torch.eye(ROWS)[1][:, None])
    for masked in (True, False):
        setting, batch = Setting(), make_batch(pairs)
        head = ReturnContrast(mask_same_return=masked, temperature=10.0).make("head", WIDTH, BOX)
        first, _ = head.loss(batch, setting.encode(batch), setting.encoders)
        second, _ = head.loss(
            replace(batch, extra={"head": Extra(pairs=moved)}), setting.encode(batch), setting.encoders
        )
        assert torch.isclose(first, second) == masked


@pytest.mark.parametrize("objective", ["bilinear_info_nce", "pair_regression"])
def test_no_labelled_anchor_gives_zero_loss_and_finite_gradient(objective: str) -> None:
    setting, batch = Setting(), make_batch(make_pairs([-1] * ROWS, [-1] * ROWS, [False] * ROWS))
    head = ReturnContrast(objective=objective, mode="return_bin").make("head", WIDTH, BOX)  # type: ignore[arg-type]
    loss, _ = head.loss(batch, setting.encode(batch), setting.encoders)
    loss.backward()
    assert loss.item() == 0 and setting.online.weight.grad is not None and not setting.online.weight.grad.any()


def test_pair_regression_head_is_the_mean_over_counted_pairs() -> None:
    pairs = make_pairs([0, 1, 1, 3, 4, 5], [0, 1, 1, 3, 4, 5], [True, True, True, False, True, True])
    setting, batch = Setting(), make_batch(pairs)
    head = ReturnContrast(objective="pair_regression").make("head", WIDTH, BOX)
    loss, _ = head.loss(batch, setting.encode(batch), setting.encoders)
    query = head.projector(torch.cat([setting.online(batch.obs), batch.action], 1))
    key = head.target_projector(torch.cat([setting.target(pairs.obs), pairs.action], 1))
    residuals = []
    for i in range(ROWS):
        j = (i - 1) % ROWS
        if pairs.labelled[i]:
            residuals.append(head.score(query[i : i + 1], key[i : i + 1]).square())
            if pairs.anchor_bin[i] != pairs.positive_bin[j]:
                residuals.append((head.score(query[i : i + 1], key[j : j + 1]) - 1).square())
    assert len(residuals) == 9  # five positives, five negatives less the one of equal bin
    torch.testing.assert_close(loss, torch.cat(residuals).mean())


def test_segment_anchors_are_encoded_by_the_head() -> None:
    pairs = replace(
        make_pairs([0] * ROWS, [1] * ROWS), anchor_obs=torch.randn(ROWS, WIDTH), anchor_action=torch.randn(ROWS, 2)
    )
    setting, batch = Setting(), make_batch(pairs)
    head = ReturnContrast(anchors="segment").make("head", WIDTH, BOX)
    detached = Encoded(torch.zeros(ROWS, WIDTH))
    loss, _ = head.loss(batch, detached, setting.encoders)
    loss.backward()
    assert setting.online.weight.grad is not None


def test_momentum_projector_follows() -> None:
    head = ReturnContrast(tau=0.25).make("head", WIDTH, BOX)
    before = next(head.target_projector.parameters()).clone()
    with torch.no_grad():
        next(head.projector.parameters()).add_(1)
    head.after_update()
    torch.testing.assert_close(next(head.target_projector.parameters()), before + 0.25)


def test_discrete_actions_enter_one_hot() -> None:
    joined = join_action(torch.zeros(2, 3), torch.tensor([2, 0]), 4)
    assert joined[:, 3:].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert action_dim(spaces.Discrete(4)) == 4 and action_dim(BOX) == 2
    with pytest.raises(ValueError, match="Box or Discrete"):
        action_dim(spaces.MultiBinary(3))


def test_health_counts() -> None:
    pairs = make_pairs([0, 1, -1, 0], [0, 2, 1, 0])
    quality = {name: float(value) for name, value in label_quality(pairs).items()}
    assert quality["same_return_rate"] == pytest.approx(2 / 3)  # rows 0 and 3 of the known 0, 1, 3
    known = [(i, j) for i in (0, 1, 3) for j in range(4) if i != j]
    false = [(i, j) for i, j in known if pairs.anchor_bin[i] == pairs.positive_bin[j]]
    assert quality["false_negative_rate"] == pytest.approx(len(false) / len(known))
    assert not same_known(pairs.anchor_bin, pairs.positive_bin)[2].any()
    eye = torch.eye(4)
    health = in_batch_health(eye, eye, eye)
    assert health["accuracy"] == 1 and health["positive_similarity"] == 1 and health["negative_similarity"] == 0
    assert in_batch_health(eye[:1], eye[:1], eye)["negative_similarity"] == 0


def test_compiled_tensor_only() -> None:
    """Heads must not synchronise: their losses trace into one graph."""
    setting, batch = Setting(), make_batch(make_pairs([0] * ROWS, [1] * ROWS))
    head = ReturnContrast().make("head", WIDTH, BOX)

    def run(batch: Batch) -> Tensor:
        return head.loss(batch, setting.encode(batch), setting.encoders)[0]

    traced = torch.compile(run, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(batch), run(batch))
