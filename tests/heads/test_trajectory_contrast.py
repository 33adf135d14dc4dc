"""Trajectory contrast: every setting against a slow twin, its masks, its gradients, and what it asks for."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import distance_metric, wasserstein_logits
from rlrep.heads import Encoded, Encoders, TrajectoryContrast
from rlrep.heads.trajectory_contrast import TrajectoryContrastHead
from rlrep.nn import Gaussians
from rlrep.replay import Transitions, Windows, WindowSpec
from tests.contrast import contrast_twins as twins

from .test_aux import BOX, WIDTH, given
from .test_aux_contrast import batch_of

TASKS, LENGTH, DIM = 6, 3, 4
GROUP = [0, 1, 2, 1, 4, 5]
VALID = [True, True, True, True, True, False]


class ContextEncoder(nn.Module):
    """A linear map of transitions to Gaussians."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * WIDTH + 3, 2 * DIM)

    def forward(self, windows: Transitions) -> Gaussians:
        joined = torch.cat([windows.obs, windows.action, windows.reward[..., None], windows.next_obs], -1)
        mean, spread = self.layer(joined).chunk(2, -1)
        return Gaussians(mean, nn.functional.softplus(spread))


class Setting:
    """Online and target encoders of observations and of transitions."""

    def __init__(self) -> None:
        self.online, self.target = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.context, self.target_context = ContextEncoder(), ContextEncoder()
        self.encoders = Encoders(self.online, self.target, self.context, self.target_context)

    def loss(self, head: TrajectoryContrastHead, windows: Windows) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batch_of(given(windows=windows))
        return head.loss(batch, batch.pairs["head"], Encoded(self.online(batch.obs)), self.encoders)


def transitions() -> Transitions:
    shape = (TASKS, LENGTH)
    return Transitions(
        torch.randn(*shape, WIDTH), torch.randn(*shape, 2), torch.randn(shape), torch.randn(*shape, WIDTH)
    )


def make_windows(group: list[int] = GROUP, valid: list[bool] = VALID) -> Windows:
    torch.manual_seed(1)
    return Windows(transitions(), transitions(), torch.tensor(valid), torch.tensor(group))


def make_head(**options: Any) -> TrajectoryContrastHead:
    torch.manual_seed(0)
    return TrajectoryContrast(**options).make_context("head", DIM, 200)


def pooled(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """Products of Gaussians, window by window, transition by transition."""
    means, variances = [], []
    for mean, var in zip(gaussians.mean.double(), gaussians.var.double(), strict=True):
        precision, weighted = torch.zeros(DIM).double(), torch.zeros(DIM).double()
        for m, v in zip(mean, var, strict=True):
            precision, weighted = precision + 1 / v, weighted + m / v
        means.append(weighted / precision)
        variances.append(1 / precision)
    return torch.stack(means).detach(), torch.stack(variances).detach()


Score = Callable[[int, int], float]


def score_of(head: TrajectoryContrastHead, query: tuple[Tensor, Tensor], key: tuple[Tensor, Tensor]) -> Score:
    (mq, vq), (mk, vk) = query, key
    kind = head.config.similarity
    if kind == "bilinear":
        assert head.bilinear is not None
        form = head.bilinear.weight.detach().double()
        return lambda i, j: float(mq[i] @ form @ mk[j])
    if kind == "cosine":
        return lambda i, j: twins.cosine(mq[i].tolist(), mk[j].tolist())
    if kind == "mahalanobis":
        return lambda i, j: -float(((mq[i] - mk[j]) ** 2 / (1e-3 + (vq[i] + vk[j]) / 2)).sum())
    return lambda i, j: -float(((mq[i] - mk[j]) ** 2).sum() + ((vq[i].sqrt() - vk[j].sqrt()) ** 2).sum())


def repels(i: int, j: int, negatives: int | None = None) -> bool:
    near = negatives is None or (j - i) % TASKS <= negatives
    return VALID[j] and GROUP[i] != GROUP[j] and near


def slow_loss(score: Score, temperature: float, negatives: int | None) -> float:
    losses = []
    for i in range(TASKS):
        others = [j for j in range(TASKS) if repels(i, j, negatives)]
        if VALID[i] and others:
            logits = [score(i, j) / temperature for j in [i, *others]]
            top = max(logits)
            losses.append(top + math.log(sum(math.exp(x - top) for x in logits)) - logits[0])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("negatives", [None, 1, 2])
@pytest.mark.parametrize(
    ("similarity", "temperature"), [("bilinear", 1.0), ("cosine", 0.1), ("mahalanobis", 1.0), ("wasserstein", 1.0)]
)
def test_loss_equals_its_slow_twin(similarity: str, temperature: float, negatives: int | None) -> None:
    """Rows 1 and 3 are of one group, row 5 is not valid."""
    setting, head, windows = Setting(), make_head(similarity=similarity, negatives=negatives), make_windows()
    loss, health = setting.loss(head, windows)
    query, key = pooled(setting.context(windows.first)), pooled(setting.target_context(windows.second))
    score = score_of(head, query, key)
    assert loss.item() == pytest.approx(slow_loss(score, temperature, negatives), rel=1e-4)
    rows = [i for i in range(TASKS) if VALID[i] and any(repels(i, j, negatives) for j in range(TASKS))]
    others = {i: [j for j in range(TASKS) if repels(i, j, negatives)] for i in rows}
    hits = [all(score(i, i) > score(i, j) for j in others[i]) for i in rows]
    pairs = [score(i, j) for i in rows for j in others[i]]
    assert health["accuracy"].item() == pytest.approx(sum(hits) / len(rows))
    assert health["positive_similarity"].item() == pytest.approx(sum(score(i, i) for i in rows) / len(rows), rel=1e-3)
    assert health["negative_similarity"].item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-3)
    assert health["negatives"].item() == pytest.approx(len(pairs) / len(rows))
    assert health["valid"].item() == pytest.approx(5 / 6)


@pytest.mark.parametrize("similarity", ["bilinear", "cosine", "mahalanobis", "wasserstein"])
def test_per_transition_equals_its_slow_twin(similarity: str) -> None:
    """The other transitions of the own row repel, those of other rows of its group do not."""
    setting, windows = Setting(), make_windows()
    head = make_head(similarity=similarity, positives="per_transition", temperature=0.5)
    loss, _ = setting.loss(head, windows)
    query, key = (
        (found.mean.flatten(0, 1).detach().double(), found.var.flatten(0, 1).detach().double())
        for found in (setting.context(windows.first), setting.target_context(windows.second))
    )
    score, losses = score_of(head, query, key), []
    for n in range(TASKS * LENGTH):
        i = n // LENGTH
        if VALID[i]:
            others = [m for m in range(TASKS * LENGTH) if m != n and (m // LENGTH == i or repels(i, m // LENGTH))]
            total = sum(math.exp(score(n, m) / 0.5) for m in [n, *others])
            losses.append(math.log(total) - score(n, n) / 0.5)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("target", ["online", "ema"])
def test_focal_equals_its_slow_twin(target: str) -> None:
    setting, windows = Setting(), make_windows()
    loss, health = setting.loss(make_head(objective="focal", positives="same_task", target=target), windows)
    other = setting.context if target == "online" else setting.target_context
    means = torch.cat([pooled(setting.context(windows.first))[0], pooled(other(windows.second))[0]])
    weight = [float(flag) for flag in VALID] * 2
    assert loss.item() == pytest.approx(twins.distance_metric(means, GROUP * 2, weight), rel=1e-4)
    assert health["positive_similarity"] < 0
    loss.backward()
    assert setting.context.layer.weight.grad is not None and setting.target_context.layer.weight.grad is None


def test_closed_forms() -> None:
    """N(0, 1) and N(3, 4) lie sqrt(3^2 + (1 - 2)^2) apart; equal embeddings cost log R, or 1 / 0.1 under focal."""
    one, other = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [4.0]])
    torch.testing.assert_close(wasserstein_logits(one, other, one, other), torch.tensor([[0.0, -10.0], [-10.0, 0.0]]))
    same = torch.ones(4, 3)
    assert distance_metric(same, torch.arange(4)).item() == pytest.approx(10.0)
    assert distance_metric(same, torch.zeros(4)).item() == pytest.approx(1e-3**0.5)
    setting, windows = Setting(), make_windows(list(range(6)), [True] * 6)
    for encoder in (setting.context, setting.target_context):
        nn.init.zeros_(encoder.layer.weight)
    loss, health = setting.loss(make_head(similarity="mahalanobis"), windows)
    assert loss.item() == pytest.approx(math.log(6)) and health["embedding_std"].item() == pytest.approx(0.0, abs=1e-6)
    assert health["posterior_std"] > 0


def test_windows_that_agree_are_told_apart() -> None:
    setting, windows = Setting(), make_windows(list(range(6)), [True] * 6)
    setting.target_context.load_state_dict(setting.context.state_dict())
    _, health = setting.loss(make_head(similarity="mahalanobis"), replace(windows, second=windows.first))
    assert health["accuracy"] == 1 and health["positive_similarity"] == 0 > health["negative_similarity"]


@pytest.mark.parametrize("similarity", ["bilinear", "wasserstein"])
def test_the_row_maximum_does_not_matter(similarity: str) -> None:
    """Logits of 1e6 and more: what is taken off each row leaves its loss, in value and gradient."""
    setting, head, windows = Setting(), make_head(similarity=similarity, temperature=1e-6), make_windows()
    loss, _ = setting.loss(head, windows)
    query, key = pooled(setting.context(windows.first)), pooled(setting.target_context(windows.second))
    assert loss.item() == pytest.approx(slow_loss(score_of(head, query, key), 1e-6, None), rel=1e-3)
    (gradient,) = torch.autograd.grad(loss, setting.context.layer.weight)
    assert gradient.isfinite().all() and gradient.any()


def test_the_order_of_transitions_matters_to_single_ones_only() -> None:
    setting, windows = Setting(), make_windows()
    order = torch.tensor([2, 0, 1])
    first = Transitions(*(part[:, order] for part in vars(windows.first).values()))
    for positives in ("same_trajectory", "per_transition"):
        head = make_head(positives=positives)
        plain, moved = (setting.loss(head, case)[0] for case in (windows, replace(windows, first=first)))
        assert torch.isclose(plain, moved) == (positives == "same_trajectory")


@pytest.mark.parametrize("options", [{}, {"positives": "per_transition"}, {"objective": "focal"}])
def test_rows_that_are_not_valid_have_no_say(options: dict[str, Any]) -> None:
    setting, windows, head = Setting(), make_windows(), make_head(**options)

    def moved(row: int) -> Windows:
        far = 9.0 * torch.eye(TASKS)[row][:, None, None]
        first, second = (replace(part, obs=part.obs + far) for part in (windows.first, windows.second))
        return replace(windows, first=first, second=second)

    plain = setting.loss(head, windows)[0]
    torch.testing.assert_close(setting.loss(head, moved(5))[0], plain)
    assert not torch.isclose(setting.loss(head, moved(4))[0], plain)


@pytest.mark.parametrize("options", [{}, {"positives": "per_transition"}])
def test_rows_of_one_group_do_not_repel(options: dict[str, Any]) -> None:
    """With rows 1 and 3 alone the key of one does not matter to the other; a third row tells."""
    setting, head = Setting(), make_head(**options)
    windows = make_windows(valid=[True, True, False, False, False, False])
    alone, _ = setting.loss(head, windows)
    beside, _ = setting.loss(head, replace(windows, group=torch.tensor([1, 1, 2, 3, 4, 5])))
    assert alone > 0 == beside


@pytest.mark.parametrize("options", [{}, {"positives": "per_transition"}, {"objective": "focal"}])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_cost_nothing(options: dict[str, Any], count: int) -> None:
    setting, head = Setting(), make_head(**options)
    loss, health = setting.loss(head, make_windows(valid=[row < count for row in range(TASKS)]))
    loss.backward()
    gradient = setting.context.layer.weight.grad
    assert loss.item() == 0 and gradient is not None and not gradient.any()
    assert all(value.isfinite() for value in health.values())


def test_one_gaussian_per_window_will_do() -> None:
    """A recurrent encoder's."""
    setting, windows = Setting(), make_windows()
    last = Encoders(
        setting.online,
        setting.target,
        lambda found: Gaussians(*(part[:, -1:] for part in setting.context(found))),
        lambda found: Gaussians(*(part[:, -1:] for part in setting.target_context(found))),
    )
    batch = batch_of(given(windows=windows))
    losses = [
        make_head(positives=positives).loss(batch, batch.pairs["head"], Encoded(batch.obs), last)[0]
        for positives in ("same_trajectory", "per_transition")
    ]
    torch.testing.assert_close(*losses)


def test_only_what_is_online_gets_gradient() -> None:
    setting, windows, head = Setting(), make_windows(), make_head(similarity="bilinear")
    setting.loss(head, windows)[0].backward()
    assert setting.context.layer.weight.grad is not None and setting.target_context.layer.weight.grad is None
    assert head.bilinear is not None and head.bilinear.weight.grad is not None
    assert setting.online.weight.grad is None and list(head.parameters()) == [head.bilinear.weight]


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("target", ["ema", "online"])
def test_a_single_task_has_a_transition_encoder_of_its_own(target: Any, discrete: bool) -> None:
    setting, windows = Setting(), make_windows()
    if discrete:
        actions = torch.arange(TASKS * LENGTH).view(TASKS, LENGTH) % 3
        windows = replace(
            windows, first=replace(windows.first, action=actions), second=replace(windows.second, action=actions)
        )
    config = TrajectoryContrast(similarity="mahalanobis", hidden_dim=8, embedding_dim=DIM, target=target, tau=0.25)
    head = config.make("head", WIDTH, spaces.Discrete(3) if discrete else BOX)
    loss, _ = setting.loss(head, windows)
    assert head.encoder is not None and (head.follow is None) == (target == "online")
    sides = []
    for part, online in ((windows.first, True), (windows.second, target == "online")):
        observe, embed = (setting.online, head.encoder) if online else (setting.target, head.follow)
        assert embed is not None
        rows = [embed(observe(part.obs[i]), part.action[i], part.reward[i]) for i in range(TASKS)]
        sides.append(pooled(Gaussians(*(torch.stack(side) for side in zip(*rows, strict=True)))))
    assert loss.item() == pytest.approx(slow_loss(score_of(head, *sides), 1.0, None), rel=1e-4)
    loss.backward()
    assert setting.online.weight.grad is not None and setting.target.weight.grad is None
    assert {name for name, p in head.named_parameters() if p.grad is not None} == {
        name for name, _ in head.named_parameters() if name.startswith("encoder")
    }
    before = [p.clone() for p in head.encoder.parameters()]
    with torch.no_grad():
        next(head.encoder.parameters()).add_(1)
    head.after_update()
    if head.follow is not None:
        torch.testing.assert_close(next(head.follow.parameters()), before[0] + 0.25)


def test_what_the_sampler_is_asked_for() -> None:
    config = TrajectoryContrast()
    context, single = config.make_context("head", DIM, 200).windows, config.make("head", WIDTH, BOX).windows
    assert (context.length, context.disjoint, context.ordered, context.next_obs) == (64, True, True, True)
    assert (single.length, single.disjoint, single.positives, single.next_obs) == (8, True, "same_trajectory", False)
    published = TrajectoryContrast(positives="per_transition", window=5)
    context = published.make_context("head", DIM, 200).windows
    single = replace(published, rows=7).make("head", 1, BOX).windows
    assert (context.positives, context.disjoint, context.length) == ("same_task", False, 5)
    assert (single.positives, single.disjoint, single.rows) == ("same_trajectory", False, 7)
    with pytest.raises(ValueError, match="rows is for single tasks"):
        replace(published, rows=7).make_context("head", DIM, 200)
    of_agent: list[dict[str, Any]] = [{"tau": 0.1}, {"hidden_dim": 8}, {"layers": 2}, {"embedding_dim": 4}]
    for option in of_agent:
        with pytest.raises(
            ValueError, match=rf"aux\.head\.{next(iter(option))} is for single tasks: on a family set agent\."
        ):
            replace(config, **option).make_context("head", DIM, 200)
    short = config.make_context("head", DIM, 21)
    assert short.needs.of(WindowSpec) == [short.windows] and short.windows.length == 10


def test_misfits_are_refused_in_words() -> None:
    plain = TrajectoryContrast()
    of_tasks: list[dict[str, Any]] = [{"objective": "focal"}, {"positives": "same_task"}]
    for options in of_tasks:
        with pytest.raises(ValueError, match=r"aux\.head.*meta-RL"):
            replace(plain, **options).make("head", WIDTH, BOX)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"objective": "focal", "positives": "per_transition"}, "focal"),
        ({"objective": "focal", "negatives": 2}, "focal"),
        ({"objective": "focal", "similarity": "cosine"}, "distance of its own"),
        ({"objective": "focal", "temperature": 0.5}, "distance of its own"),
        ({"negatives": 0}, "negatives"),
        ({"temperature": 0.0}, "temperature"),
        ({"window": 0}, "length"),
        ({"disjoint": True, "positives": "same_task"}, "disjoint"),
        ({"disjoint": True, "ordered": False}, "disjoint"),
    ]
    for settings, word in wrong:
        with pytest.raises(ValueError, match=word):
            replace(plain, **settings)
    with pytest.raises(ValueError, match="Box or Discrete"):
        TrajectoryContrast().make("head", WIDTH, spaces.MultiBinary(3))


def test_it_learns_what_tells_trajectories_apart() -> None:
    """Windows of noise around a vector per trajectory; the encoders start by looking elsewhere."""
    torch.manual_seed(0)
    setting, head = Setting(), make_head(similarity="cosine")
    setting.target_context.load_state_dict(setting.context.state_dict())
    optimiser = torch.optim.Adam([*setting.context.parameters()], lr=0.01)
    values = []
    for _ in range(150):
        vector = torch.randn(TASKS, 1, WIDTH)
        first, second = (replace(transitions(), obs=torch.randn(TASKS, LENGTH, WIDTH) + vector) for _ in range(2))
        windows = Windows(first, second, torch.ones(TASKS, dtype=torch.bool), torch.arange(TASKS))
        loss, health = setting.loss(head, windows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(setting.target_context.parameters(), setting.context.parameters(), strict=True):
                slow.lerp_(fast, 0.05)
        values.append((loss.item(), health["accuracy"].item()))
    early, late = (torch.tensor(part).mean(0) for part in (values[:30], values[-30:]))
    assert late[0] < 0.7 * early[0] and late[1] > early[1] + 0.1
