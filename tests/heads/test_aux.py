"""Heads: against plain re-statements, gradient sources, label masks, actions of both kinds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast.parts import in_batch_health, same_known
from rlrep.heads import Encoded, Encoders, InstanceContrast, ReturnContrast
from rlrep.heads.actions import action_dim, join_action
from rlrep.heads.negatives import has_negative
from rlrep.heads.return_contrast import ReturnContrastHead, label_quality, nearest_negative
from rlrep.replay import (
    Batch,
    LaterSteps,
    Noise,
    Pairs,
    Partners,
    ReturnLabels,
    SameReturn,
    SecondView,
    SeenAt,
    WindowSpec,
)

ROWS, WIDTH = 6, 5
BOX = spaces.Box(-1, 1, (2,), np.float32)


KINDS = {
    "second_view": SecondView,
    "partners": SameReturn,
    "later": LaterSteps,
    "time": SeenAt,
    "noise": Noise,
    "windows": WindowSpec,
}


class Given(Pairs):
    """What a head gets, by the kind of its request, whatever the request says."""

    def __getitem__(self, request: Any) -> Any:
        return self.found[type(request)]  # type: ignore[index]


def given(**found: Any) -> Pairs:
    """Pairs as a sampler would give them, by name of their kind."""
    return Given({KINDS[name]: value for name, value in found.items()})  # type: ignore[misc]


def make_pairs(
    anchor_bin: list[int],
    positive_bin: list[int],
    labelled: list[bool] | None = None,
    group: list[int] | None = None,
) -> Partners:
    """Pairs of random observations, each of a group of its own unless `group` says otherwise."""
    rows = len(anchor_bin)
    return Partners(
        obs=torch.randn(rows, WIDTH),
        action=torch.randn(rows, 2),
        labelled=torch.tensor(labelled or [True] * rows),
        group=torch.arange(rows) if group is None else torch.tensor(group),
        anchor_bin=torch.tensor(anchor_bin),
        positive_bin=torch.tensor(positive_bin),
        length=torch.arange(rows),
    )


def make_batch(pairs: Partners | None = None) -> Batch:
    obs = torch.randn(ROWS, WIDTH)
    found = given(second_view=torch.randn(ROWS, WIDTH), partners=pairs)
    return Batch(obs, torch.randn(ROWS, 2), torch.zeros(ROWS), torch.ones(ROWS), obs, {"head": found})


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
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    view = batch.pairs["head"][SecondView()]
    assert head.contrast.bilinear is not None
    weight = head.contrast.bilinear.weight
    logits = setting.online(batch.obs) @ weight @ setting.target(view).T / 0.5
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, torch.arange(ROWS)))
    assert set(health) == {"accuracy", "positive_similarity", "negative_similarity"}
    assert (weight >= 0).all() and (weight < 1).all()


@pytest.mark.parametrize("objective", ["bilinear_info_nce", "pair_regression"])
def test_return_contrast_trains_its_parts_and_never_the_targets(objective: str) -> None:
    setting, batch = Setting(), make_batch(make_pairs([0, 1, 2, 3, 4, -1], [0, 1, 2, 3, 4, -1]))
    head = ReturnContrastHead(ReturnContrast(objective=objective), WIDTH, 2)  # type: ignore[arg-type]
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
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
        head = ReturnContrastHead(ReturnContrast(mask_same_return=masked, temperature=10.0), WIDTH, 2)
        first, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
        second, _ = head.loss(batch, given(partners=moved), setting.encode(batch), setting.encoders)
        assert torch.isclose(first, second) == masked


@pytest.mark.parametrize("objective", ["bilinear_info_nce", "pair_regression"])
def test_no_labelled_anchor_gives_zero_loss_and_finite_gradient(objective: str) -> None:
    setting, batch = Setting(), make_batch(make_pairs([-1] * ROWS, [-1] * ROWS, [False] * ROWS))
    head = ReturnContrastHead(ReturnContrast(objective=objective, mode="return_bin"), WIDTH, 2)  # type: ignore[arg-type]
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    loss.backward()
    assert loss.item() == 0 and setting.online.weight.grad is not None and not setting.online.weight.grad.any()


def test_pair_regression_head_is_the_mean_over_counted_pairs() -> None:
    pairs = make_pairs([0, 1, 1, 3, 4, 5], [0, 1, 1, 3, 4, 5], [True, True, True, False, True, True])
    setting, batch = Setting(), make_batch(pairs)
    head = ReturnContrastHead(ReturnContrast(objective="pair_regression"), WIDTH, 2)
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    query = head.projector(torch.cat([setting.online(batch.obs), batch.action], 1))
    key = head.target_projector(torch.cat([setting.target(pairs.obs), pairs.action], 1))
    residuals = []
    for i in (0, 1, 2, 4, 5):
        j = 0 if i == 2 else (i - 1) % ROWS  # the row before anchor 2 has its bin, the one before that has not
        residuals.append(head.score(query[i : i + 1], key[i : i + 1]).square())
        residuals.append((head.score(query[i : i + 1], key[j : j + 1]) - 1).square())
    torch.testing.assert_close(loss, torch.cat(residuals).mean())


def test_the_nearest_negative_is_looked_for_backwards() -> None:
    """Against a loop; a row without any gets itself, which then has no weight."""
    negative = torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) < 0.3
    negative[3] = False
    for i, found in enumerate(nearest_negative(negative).tolist()):
        backwards = [(i - back) % 7 for back in range(1, 7)]
        assert found == next((j for j in backwards if negative[i, j]), i)
        assert bool(has_negative(negative)[i]) == any(negative[i, j] for j in backwards)
    assert nearest_negative(torch.ones(1, 1, dtype=torch.bool)).tolist() == [0]
    assert has_negative(torch.ones(1, 1, dtype=torch.bool)).tolist() == [False]


OBJECTIVES = ["bilinear_info_nce", "pair_regression", "sup_con"]


def loss_and_gradient(head: ReturnContrastHead, pairs: Partners, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The head's loss and its gradient with respect to the anchors' latents."""
    torch.manual_seed(seed)
    setting, batch = Setting(), make_batch(pairs)
    latent = setting.online(batch.obs).detach().requires_grad_()
    loss, _ = head.loss(batch, batch.pairs["head"], Encoded(latent), setting.encoders)
    return loss.detach(), torch.autograd.grad(loss, latent, allow_unused=True)[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("masked", [False, True])
def test_rows_of_the_anchors_own_group_never_repel_it(objective: str, masked: bool) -> None:
    """Rows 0 to 2 share a segment, of unknown or unlike returns: partners 0 and 1 do not matter to anchor 2."""
    bins = [-1, -1, -1, -1, -1, -1] if objective != "sup_con" else [1, 1, 0, 0, 2, 2]
    head = ReturnContrast(objective=objective, mask_same_return=masked)  # type: ignore[arg-type]
    task = ReturnContrastHead(head, WIDTH, 2)
    for group, ignored in (([4, 4, 4, 9, 9, 8], True), ([5, 5, 4, 9, 9, 8], False)):
        pairs = make_pairs(bins, bins, [row == 2 for row in range(ROWS)], group)
        moved = replace(pairs, obs=pairs.obs + torch.tensor([3.0, -4.0, 0.0, 0.0, 0.0, 0.0])[:, None])
        first, second = (loss_and_gradient(task, each)[1][2] for each in (pairs, moved))
        assert first.any() and torch.allclose(first, second, atol=1e-6) == ignored


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_anchors_without_a_negative_are_left_out(objective: str) -> None:
    """A batch of one segment has no loss at all; one other row gives the others their negative."""
    bins = [0, 1, 2, 3, 4, 5] if objective != "sup_con" else [0] * 6
    task = ReturnContrastHead(ReturnContrast(objective=objective), WIDTH, 2)  # type: ignore[arg-type]
    loss, gradient = loss_and_gradient(task, make_pairs(bins, bins, group=[3] * ROWS))
    assert loss == 0 and not gradient.any()
    two = make_pairs([*bins[:-1], 6], [*bins[:-1], 6], group=[3, 3, 3, 3, 3, 7])
    setting, batch = Setting(), make_batch(two)
    _, health = task.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert health["counted"] == 1 and health["labelled"] == 1
    setting, batch = Setting(), make_batch(replace(two, labelled=torch.tensor([False, True, True, True, True, True])))
    _, health = task.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert health["counted"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lone_rows_are_no_anchors(objective: str) -> None:
    """A row whose partner is itself does not move the loss, but repels others."""
    bins = [0, 0, 1, 1, 2, 3]
    pairs = make_pairs(bins, bins, [True, True, True, True, True, False])
    task = ReturnContrastHead(ReturnContrast(objective=objective), WIDTH, 2)  # type: ignore[arg-type]
    assert not loss_and_gradient(task, pairs)[1][5].any() or objective == "sup_con"
    unlabelled = replace(pairs, labelled=torch.zeros(ROWS, dtype=torch.bool))
    loss, gradient = loss_and_gradient(task, unlabelled)
    assert loss == 0 and not gradient.any()


def test_groups_are_masked_with_their_partners_in_pairs() -> None:
    pairs = make_pairs([-1] * 6, [-1] * 6, group=[2, 2, 5, -1, -1, 2])
    task = ReturnContrastHead(ReturnContrast(), WIDTH, 2)
    setting, batch = Setting(), make_batch(pairs)
    _, health = task.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert health["masked"] == pytest.approx(6 / 30)  # ordered pairs among rows 0, 1 and 5; unknown groups repel


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 0.0}, "threshold must be above 0, not 0.0"),
        ({"threshold": float("nan")}, "threshold must be above 0, not nan"),
        ({"segments": 0}, "segments must be at least 1, not 0"),
        ({"max_length": 1}, "max_length must be at least 2, not 1"),
        ({"bins": 0}, "bins must be at least 1, not 0"),
        ({"horizon": 0}, "horizon must be at least 1, not 0"),
        ({"discount": 1.5}, r"discount must lie in \[0, 1\], not 1.5"),
    ],
)
def test_labels_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReturnContrast(**wrong)
    with pytest.raises(ValueError, match=message):
        ReturnLabels("return_bin", **wrong)
    if not {"threshold", "segments", "max_length"} & set(wrong):
        with pytest.raises(ValueError, match=message):
            InstanceContrast(**wrong)


@pytest.mark.parametrize("head", [ReturnContrast, InstanceContrast])
@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"tau": 1.5}, {"hidden_dim": 0}, {"embedding_dim": 0}])
def test_embeddings_out_of_range_are_refused(head: Any, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must"):
        head(**wrong)
    with pytest.raises(ValueError, match="temperature must be"):
        head(temperature=0.0, **({} if head is ReturnContrast else {"objective": "info_nce"}))
    with pytest.raises(ValueError, match="tau_plus must be"):
        InstanceContrast(objective="debiased", tau_plus=1.0)


def test_segment_anchors_are_encoded_by_the_head() -> None:
    pairs = replace(
        make_pairs([0] * ROWS, [1] * ROWS), anchor_obs=torch.randn(ROWS, WIDTH), anchor_action=torch.randn(ROWS, 2)
    )
    setting, batch = Setting(), make_batch(pairs)
    head = ReturnContrastHead(ReturnContrast(anchors="segment"), WIDTH, 2)
    detached = Encoded(torch.zeros(ROWS, WIDTH))
    loss, _ = head.loss(batch, batch.pairs["head"], detached, setting.encoders)
    loss.backward()
    assert setting.online.weight.grad is not None


def test_momentum_projector_follows() -> None:
    head = ReturnContrastHead(ReturnContrast(tau=0.25), WIDTH, 2)
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
    lone = replace(pairs, labelled=torch.tensor([False, True, False, True]), group=torch.tensor([3, 4, -1, 4]))
    shares = {name: float(value) for name, value in label_quality(lone).items()}
    assert (shares["labelled"], shares["lone"], shares["same_return_rate"]) == (0.5, 0.25, 0.5)
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


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_compiled_tensor_only(objective: str) -> None:
    """Heads must not synchronise: their losses trace into one graph."""
    setting, batch = Setting(), make_batch(make_pairs([0] * ROWS, [1] * ROWS))
    head = ReturnContrastHead(ReturnContrast(objective=objective), WIDTH, 2)  # type: ignore[arg-type]

    def run(batch: Batch) -> Tensor:
        return head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)[0]

    traced = torch.compile(run, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(batch), run(batch))
