"""Heads that contrast within a batch or against a queue: objectives, masks, queues, later frames, return labels."""

import re
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

import rlrep.heads
from rlrep.contrast import cacr, debiased_nt_xent, hard_nt_xent, info_nce, nt_xent, sup_con
from rlrep.contrast.parts import (
    Among,
    HardMixing,
    KeyQueue,
    NTXent,
    Objective,
    Queue,
    SupCon,
    Views,
    label_health,
    masked_share,
    pair,
)
from rlrep.heads import InstanceContrast, RedundancyReduction, ReturnContrast, TemporalContrast
from rlrep.heads.instance_contrast import InstanceContrastHead
from rlrep.heads.negatives import NegativeMask, Origin
from rlrep.heads.objective import ContrastConfig
from rlrep.heads.return_contrast import ReturnContrastHead
from rlrep.replay import Batch, Later, LaterSteps, Pairs, SecondView, Time
from rlrep.settings import ConfigError, build, groups
from rlrep.ssl import JointEmbedding

from .test_aux import BOX, ROWS, WIDTH, Setting, given, make_pairs


def batch_of(found: Pairs) -> Batch:
    obs = torch.randn(ROWS, WIDTH)
    return Batch(obs, torch.randn(ROWS, 2), torch.zeros(ROWS), torch.ones(ROWS), obs, {"head": found})


def make_head(**options: Any) -> InstanceContrastHead:
    return InstanceContrast(temperature=0.3, embedding_dim=4, hidden_dim=7, **options).make("head", WIDTH, BOX)


def embeddings(head: InstanceContrastHead, setting: Setting, batch: Batch) -> tuple[Tensor, Tensor]:
    view = batch.pairs["head"][SecondView()]
    assert head.branches.follow is not None
    keys = head.branches.follow(setting.target(view))
    return head.branches.project(setting.online(batch.obs)), keys


@pytest.mark.parametrize(
    ("options", "objective"),
    [
        ({"objective": "info_nce"}, info_nce),
        ({"objective": "nt_xent"}, nt_xent),
        ({"objective": "debiased", "tau_plus": 0.2}, lambda a, b, **t: debiased_nt_xent(a, b, tau_plus=0.2, **t)),
        ({"objective": "hard_negative"}, lambda a, b, **t: hard_nt_xent(a, b, tau_plus=0.1, beta=1.0, **t)),
    ],
)
def test_objective_is_the_cores(options: dict[str, Any], objective: Any) -> None:
    """The value, and gradient into the online encoder and the projector but never into the target."""
    setting, batch = Setting(), batch_of(given(second_view=torch.randn(ROWS, WIDTH)))
    head = make_head(**options)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    query, key = embeddings(head, setting, batch)
    torch.testing.assert_close(loss, objective(query, key, temperature=0.3))
    loss.backward()
    assert setting.online.weight.grad is not None and setting.target.weight.grad is None
    assert {name for name, p in head.named_parameters() if p.grad is None} == {
        name for name, p in head.named_parameters() if not p.requires_grad
    }
    hits = (normalize(query) @ normalize(key).T).argmax(1) == torch.arange(ROWS)
    assert health["accuracy"] == hits.float().mean()


def test_wide_latents_are_projected_between_layer_norms_as_in_curls_rainbow() -> None:
    project, dim = InstanceContrast().project(576)
    z = project(10 * torch.rand(5, 576))
    assert dim == 128 and z.shape == (5, 128)
    torch.testing.assert_close(z.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    # Two of them under CURL's bilinear form are its logits, which its code multiplies by 0.1.
    torch.testing.assert_close(z.square().mean(1), torch.full((5,), 0.1), atol=1e-3, rtol=0)
    assert [type(part).__name__ for part in InstanceContrast().project(50)[0].modules()] == ["Identity"]


def test_online_target_gives_gradient_to_both_views() -> None:
    setting, batch = Setting(), batch_of(given(second_view=torch.randn(ROWS, WIDTH)))
    head = make_head(objective="nt_xent", target="online")
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    view = batch.pairs["head"][SecondView()]
    assert head.branches.follow is None
    both = [head.branches.project(setting.online(obs)) for obs in (batch.obs, view)]
    expected = torch.autograd.grad(nt_xent(*both, temperature=0.3), setting.online.weight)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, setting.online.weight)[0], expected)


def test_cacr_takes_all_views() -> None:
    setting, batch = Setting(), batch_of(given(second_view=torch.randn(3 * ROWS, WIDTH)))
    head = make_head(objective="cacr", views=4, t_neg=0.9)
    assert head.needs.of(SecondView) == [SecondView(3)]
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    query, keys = embeddings(head, setting, batch)
    views = torch.stack([query, *keys.split(ROWS)])
    torch.testing.assert_close(loss, cacr(views, t_pos=1.0, t_neg=0.9))


def test_queue_holds_the_keys_of_earlier_batches() -> None:
    setting, head = Setting(), make_head(objective="info_nce", negatives="queue", queue_size=2 * ROWS)
    pushed: list[Tensor] = []
    for _ in range(4):
        batch = batch_of(given(second_view=torch.randn(ROWS, WIDTH)))
        loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
        query, key = embeddings(head, setting, batch)
        earlier = torch.cat([torch.zeros(0, 4), *pushed[-2:]])
        torch.testing.assert_close(loss, info_nce(query, key, temperature=0.3, negatives=earlier))
        assert health["queue_filled"] == min(len(pushed), 2) / 2
        head.after_update()
        pushed.append(key)


def test_evaluating_the_loss_stages_nothing() -> None:
    setting, head = Setting(), make_head(objective="mochi", hardest=2, mixed=1, query_mixed=1, queue_size=20)
    head.eval()
    batch = batch_of(given(second_view=torch.randn(ROWS, WIDTH), noise=torch.rand(ROWS, 5)))
    head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    head.after_update()
    assert head.contrast.queue is not None and not head.contrast.queue.filled.any()


def test_queued_keys_of_the_same_return_are_left_out() -> None:
    queue = KeyQueue(Queue(5), 3)
    queue.stage(torch.randn(4, 3), torch.tensor([0, 1, -1, 1]))
    queue.push()
    _, valid = queue.negatives(torch.randn(3, 3), torch.tensor([1, -1, 2]), None)
    assert valid.int().tolist() == [[1, 0, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="queue_size=5"):
        queue.stage(torch.randn(6, 3), None)


def test_mixed_negatives_are_mochis() -> None:
    """Against a loop: from the hardest valid keys, with the given numbers, on the sphere, without gradient."""
    query, keys = torch.randn(3, 4, requires_grad=True), normalize(torch.randn(7, 4))
    valid = torch.ones(3, 7, dtype=torch.bool)
    valid[0, :4], valid[1, :2] = False, False
    noise = torch.rand(3, 3 * 2 + 2 * 1)
    made, counts = HardMixing(hardest=4, mixed=2, query_mixed=1).given(query, keys, valid, noise)
    assert not made.requires_grad and counts.tolist() == [[False] * 3, [True] * 3, [True] * 3]
    for row in (1, 2):
        q = normalize(query[row].detach(), dim=0)
        scores = [float(q @ key) if valid[row, j] else -9.0 for j, key in enumerate(keys)]
        hard = [keys[j] for j in sorted(range(7), key=lambda j: -scores[j])[:4]]
        share = noise[row, 5:]
        for k in range(3):
            candidates = []
            for a in range(4):
                for b in range(4):
                    ends = (hard[a], hard[b]) if k < 2 else (q, hard[b])
                    weight = share[k] if k < 2 else 0.5 * share[k]
                    candidates.append(normalize(weight * ends[0] + (1 - weight) * ends[1], dim=0))
            assert min((candidate - made[row, k]).norm() for candidate in candidates) < 1e-5
    assert not torch.allclose(made[1, 0], made[1, 1])


def times(episode: list[int], step: list[int]) -> Time:
    return Time(torch.tensor(episode), torch.tensor(step))


def test_masks_by_return_and_time() -> None:
    """Against a loop over pairs, for each rule alone and both."""
    origin = Origin(torch.tensor([0, 0, 1, -1, -1]), times([7, 7, 7, 8, 8], [3, 5, 6, 5, 5]))
    for same, within in ((True, None), (False, 2), (True, 0), (False, 0)):
        config = NegativeMask(mask_same_return=same, mask_within=within)
        assert (config.bin_request is None, config.time_request is None) == (not same, within is None)
        known = origin if same else origin._replace(bin=None)
        valid = config.valid(known, known)
        assert valid is not None
        for i in range(5):
            for j in range(5):
                assert origin.bin is not None and origin.time is not None
                equal = same and bool(origin.bin[i] == origin.bin[j] != -1)
                apart = abs(int(origin.time.step[i] - origin.time.step[j]))
                near = within is not None and bool(origin.time.episode[i] == origin.time.episode[j]) and apart <= within
                assert bool(valid[i, j]) == (not equal and not near), (i, j, same, within)
    assert NegativeMask().valid(Origin(), Origin()) is None
    assert masked_share(torch.tensor([[False, True], [False, False]])) == 0.5


@pytest.mark.parametrize("objective", ["bilinear", "info_nce", "nt_xent", "debiased", "hard_negative", "cacr"])
def test_masked_samples_do_not_repel(objective: str) -> None:
    """With all others masked by time, moving the other samples leaves sample 0's gradient alone."""
    time = times([4] * ROWS, list(range(ROWS)))
    view = torch.randn(ROWS, WIDTH)
    moved = torch.cat([view[:1], torch.randn(ROWS - 1, WIDTH)])
    for within, alone in ((ROWS, True), (None, False)):
        torch.manual_seed(0)
        setting, head = Setting(), make_head(objective=objective, mask_within=within)
        batch, gradients = batch_of(given()), []
        for seen in (view, moved):
            latent = setting.online(batch.obs).detach().requires_grad_()
            encoded = replace(setting.encode(batch), latent=latent)
            loss, _ = head.loss(batch, given(second_view=seen, time=time), encoded, setting.encoders)
            gradients.append(torch.autograd.grad(loss, latent)[0][0])
        assert torch.allclose(gradients[0], gradients[1], atol=1e-6) == alone


def test_temporal_is_atcs_cross_entropy_over_the_anchors_that_have_a_positive() -> None:
    setting, head = Setting(), TemporalContrast(predictor_dim=6, temperature=0.5).make("head", WIDTH, BOX)
    valid = torch.tensor([[True, True, False, True, False, True]])
    later = Later(torch.randn(1, ROWS, WIDTH), valid, torch.randn(1, ROWS, 2))
    batch = batch_of(given(later=later))
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert head.predictor is not None and head.contrast.bilinear is not None
    latent = setting.online(batch.obs)
    query = latent + head.predictor(latent)
    logits = query @ head.contrast.bilinear.weight @ setting.target(later.obs[0]).T / 0.5
    losses = cross_entropy(logits, torch.arange(ROWS), reduction="none")
    torch.testing.assert_close(loss, losses[valid[0]].mean())
    assert health["with_later"] == pytest.approx(4 / 6) and head.needs.of(LaterSteps) == [LaterSteps((1,))]
    loss.backward()
    assert setting.online.weight.grad is not None and setting.target.weight.grad is None
    nothing = replace(later, valid=torch.zeros_like(valid))
    assert head.loss(batch, given(later=nothing), setting.encode(batch), setting.encoders)[0] == 0


def test_sup_con_attracts_known_equal_returns_only() -> None:
    """Equal to SupCon on the rows of known return, whatever the others are."""
    pairs = make_pairs([0, 1, 1, -1, 2, 0], [0, 1, 1, -1, 2, 0], [True, True, True, False, True, True])
    setting, batch = Setting(), batch_of(given(partners=pairs))
    head = ReturnContrastHead(ReturnContrast(objective="sup_con", mode="return_bin", temperature=0.2), WIDTH, 2)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    query = head.projector(torch.cat([setting.online(batch.obs), batch.action], 1))
    key = head.target_projector(torch.cat([setting.target(pairs.obs), pairs.action], 1))
    z, bins = torch.cat([query, key]), torch.cat([pairs.anchor_bin, pairs.positive_bin])
    torch.testing.assert_close(loss, sup_con(z[bins >= 0][:, None], bins[bins >= 0], temperature=0.2))
    assert {"accuracy", "same_return_rate", "positive_similarity"} <= set(health)
    loss.backward()
    assert setting.online.weight.grad is not None and setting.target.weight.grad is None
    assert {name for name, p in head.named_parameters() if p.requires_grad} == {
        name for name, p in head.named_parameters() if p.grad is not None
    }
    unknown = make_pairs([-1] * ROWS, [-1] * ROWS, [False] * ROWS)
    nothing, _ = head.loss(batch, given(partners=unknown), setting.encode(batch), setting.encoders)
    nothing.backward()
    assert nothing == 0


def test_label_health_counts() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1])
    health = label_health(z, labels[:, None] == labels)
    assert health["accuracy"] == pytest.approx(3 / 4)  # row 2's nearest is row 1
    cosine = normalize(z) @ normalize(z).T
    torch.testing.assert_close(health["positive_similarity"], (cosine[0, 1] + cosine[2, 3]) / 2)
    torch.testing.assert_close(health["negative_similarity"], cosine[:2, 2:].mean())
    assert label_health(z, torch.zeros(4, 4, dtype=torch.bool))["accuracy"] == 0


def test_settings_that_do_not_go_together_are_refused() -> None:
    for options, word in (
        ({"objective": "nt_xent", "negatives": "queue"}, "queue"),
        ({"objective": "mochi", "mask_within": 3}, "mask_within"),
        ({"objective": "nt_xent", "views": 3}, "cacr"),
        ({"mask_within": -1}, "mask_within"),
        ({"objective": "mochi", "hardest": 0}, "hardest"),
    ):
        with pytest.raises(ValueError, match=word):
            InstanceContrast(**options)


@dataclass(frozen=True)
class Closest(Objective):
    """An objective that the house does not have: the mean distance of first and second view."""

    power: float = 2.0

    def __call__(self, views: Views, among: Among) -> Tensor:
        first, second = pair(views)
        distance: Tensor = torch.linalg.vector_norm(first - second, dim=1)
        return distance.pow(self.power).mean()


def test_heads_and_image_methods_take_an_objective_from_outside() -> None:
    """Built by the reader of configs, from its `_target_`."""
    node = {"_target_": f"{__name__}.Closest", "power": 3}
    config = build(InstanceContrast, {"objective": node, "embedding_dim": 4}, "aux.curl")
    head, setting = config.make("head", WIDTH, BOX), Setting()
    batch = batch_of(given(second_view=torch.randn(ROWS, WIDTH)))
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    torch.testing.assert_close(loss, Closest(3.0)(embeddings(head, setting, batch), Among()))
    same = build(JointEmbedding, {"views": [], "projector": {}, "objective": node}, "method")
    assert same.objective == config.objective == Closest(3.0)


HEADS_WITH_OBJECTIVES = [
    kind for kind in vars(rlrep.heads).values() if is_dataclass(kind) and "objective" in kind.__dataclass_fields__
]


@pytest.mark.parametrize("kind", HEADS_WITH_OBJECTIVES)
def test_a_head_takes_every_objective_that_it_lists(kind: type[Any]) -> None:
    with pytest.raises(ConfigError, match="is not a choice") as error:
        build(kind, {"objective": "none of them"}, "aux.x")
    names = str(error.value).partition("valid: ")[2].split(", ")
    assert len(names) > 1
    in_batch = {"negatives": "batch", "queue_decay": 1.0} if issubclass(kind, ContrastConfig) else {}
    for name in names:
        head = build(kind, {"objective": name, **in_batch}, "aux.x").fitted((9, 8, 8), 3)
        assert head.make_context("x", WIDTH, 9) if name == "focal" else head.make("x", WIDTH, BOX)
    if kind is InstanceContrast:
        (listed,) = re.findall(r"^objective: \w+ # (.*)$", (groups.ROOT / "aux/curl.yaml").read_text(), re.MULTILINE)
        assert sorted(listed.split(" | ")) == names


@pytest.mark.parametrize(
    ("kind", "objective", "words"),
    [
        (InstanceContrast, "debaised", "objective=debaised is not a choice: did you mean debiased?"),
        (InstanceContrast, "vicreg", "objective=vicreg is not a choice"),
        (InstanceContrast, SupCon(), "objective=SupCon does not fit: this head contrasts rows with rows"),
        (RedundancyReduction, "nt_xent", "objective=nt_xent is not a choice"),
        (RedundancyReduction, NTXent(), "objective=NTXent does not fit: this head takes the batch as a whole"),
    ],
)
def test_an_objective_that_a_head_cannot_take_is_refused(kind: type[Any], objective: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        kind(objective=objective)
