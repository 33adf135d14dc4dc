"""Probes against scikit-learn, and meters on features whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from rlrep.ssl import probes
from rlrep.ssl.data import ImageData, Split
from rlrep.ssl.data.labels import labelled_subset
from rlrep.ssl.evaluation import (
    ProbeConfig,
    ProbeData,
    collapse_meters,
    encode,
    pixel_features,
    principal_plane,
    score_features,
    summarise,
)
from rlrep.ssl.probes import (
    Fold,
    accuracy,
    linear_classes,
    linear_classes_jointly,
    linear_classes_of_few,
    macro_f1,
    merge_classes,
    nearest_neighbours,
    r_squared,
    ridge_values,
)


def classes(count: int = 300, noise: float = 1.5) -> Fold:
    """Return three overlapping classes, named 2, 5 and 9, in five dimensions of different scales."""
    y = torch.randint(0, 3, (2, count))
    centres = torch.randn(3, 5)
    x = (centres[y] + noise * torch.randn(2, count, 5)) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + 4.0
    names = torch.tensor([2, 5, 9])
    return Fold(x[0], names[y[0]], x[1], names[y[1]])


def standard(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(fold.train_x.double())
    return scaler.transform(fold.train_x.double()), scaler.transform(fold.test_x.double())


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_linear_classes_are_scikit_learns(strength: float) -> None:
    fold = classes()
    train, test = standard(fold)
    oracle = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(train, fold.train_y)
    found = linear_classes(fold, strength=strength)
    assert accuracy(found, torch.from_numpy(oracle.predict(test))) >= 0.99
    assert 0.4 < accuracy(found, fold.test_y) < 0.95, "the classes overlap, or nothing is tested"


@pytest.mark.parametrize("dims", [3, 40])
def test_few_labels_are_scikit_learns_draw_by_draw(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More features than images (the draws' space is theirs) and fewer; a feature that the draw leaves constant."""
    fold = classes()
    mix = torch.randn(5, dims)
    fold = fold._replace(train_x=fold.train_x @ mix, test_x=fold.test_x @ mix)
    fold.train_x[:, 0], fold.test_x[:, 0] = 7.0, torch.randn(300)
    draws = torch.stack([labelled_subset(fold.train_y, seed=seed, per_class=4) for seed in range(6)])
    found = linear_classes_of_few(fold, draws)
    scores = []
    for rows, predicted in zip(draws, found, strict=True):
        few = fold._replace(train_x=fold.train_x[rows], train_y=fold.train_y[rows])
        train, test = standard(few)
        oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(train, few.train_y)
        assert accuracy(predicted, torch.from_numpy(oracle.predict(test))) >= 0.99
        scores.append(accuracy(predicted, fold.test_y))
    assert len(set(scores)) > 3, "draws differ, or nothing is tested"
    monkeypatch.setattr(probes, "_TOGETHER", 2 * draws.shape[1] * dims)
    apart = linear_classes_of_few(fold, draws)
    assert all(accuracy(a, b) >= 0.99 for a, b in zip(found, apart, strict=True)), "two at a time"


def test_draws_of_few_labels_are_the_same_for_all_features() -> None:
    """Features that are equal up to a rotation score alike draw by draw, and the summary has mean and deviation."""
    data, config = split(frames=False), ProbeConfig(labels_per_class=(2,), draws=5)
    x = torch.stack([data.train.labels["level"], torch.rand(60)], 1)
    turned = x @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    first, second = (
        [s for s in score_features(name, z, z, data, config) if s.probe == "linear_2_per_class"]
        for name, z in (("plain", x), ("turned", turned))
    )
    assert [s.draw for s in first] == [0, 1, 2, 3, 4]
    assert [s.value for s in first] == pytest.approx([s.value for s in second]) and len({s.value for s in first}) > 1
    summary, values = summarise(first), [s.value for s in first]
    assert summary == pytest.approx(
        {
            "probe/plain/linear_2_per_class_accuracy": np.mean(values),
            "probe/plain/linear_2_per_class_accuracy_sd": np.std(values, ddof=1),
        }
    )
    one = summarise([score for score in first if score.draw == 0])
    assert list(one) == ["probe/plain/linear_2_per_class_accuracy"], "one draw has no deviation"


def test_ridge_values_are_scikit_learns() -> None:
    fold = classes()
    value = fold.train_x @ torch.tensor([1.0, -0.2, 5.0, 0.0, 2.0]) + torch.randn(300)
    fold = fold._replace(train_y=value, test_y=fold.test_x.sum(1))
    train, test = standard(fold)
    expected = Ridge(alpha=1.0).fit(train, fold.train_y.double()).predict(test)
    np.testing.assert_allclose(ridge_values(fold).numpy(), expected, rtol=1e-4)
    score = r2_score(fold.test_y.double().numpy(), expected)
    assert r_squared(ridge_values(fold), fold.test_y) == pytest.approx(score, rel=1e-3)


def test_many_variables_at_once_are_each_its_own_regression() -> None:
    """A feature a hundred times the others and one that follows another slow plain L-BFGS down."""
    x = torch.randn(1200, 12)
    x[:, 3] = x[:, 2] + 0.05 * torch.randn(1200)
    x[:, 0] *= 100.0
    scores = x[:, 1:4] @ torch.randn(3, 5) * 4.0
    variables = [(x[:, 2] > 0).long(), scores.argmax(1) * 7, (x[:, 3] - x[:, 2] > 0).long(), torch.zeros(1200).long()]
    train, test = slice(0, 900), slice(900, None)
    found = linear_classes_jointly(x[train], [y[train] for y in variables], x[test])
    for y, predicted in zip(variables, found, strict=True):
        alone = linear_classes(Fold(x[train], y[train], x[test], y[test]))
        assert accuracy(predicted, alone) > 0.98 and accuracy(predicted, y[test]) > 0.9
    assert set(found[1].tolist()) <= {0, 7, 14, 21, 28}, "in the variable's own names"


def test_rare_values_are_merged_with_their_neighbours() -> None:
    few, rare = torch.tensor([0, 5, 5]), torch.tensor([5, 0])
    assert merge_classes(few, rare, 2) == (few, rare)
    train = torch.arange(0, 200, 2).repeat(3)
    merged, test = merge_classes(train, torch.tensor([0, 1, 99, 198, 255]), 4)
    assert merged.unique(return_counts=True)[1].tolist() == [75] * 4
    assert (merged[:100].diff() >= 0).all(), "neighbours stay together"
    assert test.tolist() == [0, 0, 2, 3, 3]
    lumpy = torch.cat([torch.full((90,), 7), torch.arange(10, 20)])
    assert len(merge_classes(lumpy, lumpy, 4)[0].unique()) == 2


def test_macro_f1_is_scikit_learns_with_classes_that_only_one_side_has() -> None:
    predicted, target = torch.tensor([1, 1, 2, 7, 3, 3, 3]), torch.tensor([1, 2, 2, 1, 3, 3, 4])
    assert macro_f1(predicted, target) == pytest.approx(f1_score(target, predicted, average="macro"))
    assert macro_f1(target, target) == 1.0


def test_neighbours_vote_by_weight_not_by_number() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.1], [0.0, 0.9]])
    fold = Fold(train, torch.tensor([4, 8, 8, 8]), torch.tensor([[1.0, 0.1], [0.1, 1.0]]), torch.tensor([4, 8]))
    assert nearest_neighbours(fold, neighbours=4, temperature=0.1).tolist() == [4, 8]
    assert nearest_neighbours(fold, neighbours=4, temperature=100.0).tolist() == [8, 8]
    assert nearest_neighbours(fold, neighbours=1, temperature=100.0).tolist() == [4, 8]


def slow_neighbours(fold: Fold, neighbours: int, temperature: float) -> list[int]:
    found = []
    for row in fold.test_x:
        similar = torch.cosine_similarity(row[None], fold.train_x)
        votes: dict[int, float] = {}
        for index in similar.argsort(descending=True)[:neighbours].tolist():
            name = int(fold.train_y[index])
            votes[name] = votes.get(name, 0.0) + float((similar[index] / temperature).exp())
        found.append(max(votes, key=lambda name: votes[name]))
    return found


def test_neighbours_equal_the_loop() -> None:
    fold = classes(60)
    assert nearest_neighbours(fold, neighbours=7, temperature=0.2).tolist() == slow_neighbours(fold, 7, 0.2)


def split(*, frames: bool) -> ProbeData:
    """Return 60 images whose mean brightness is `level` and whose class is its third."""
    parts = []
    for _ in range(2):
        level = torch.rand(60)
        noise = torch.rand(60, 1, 6, 6) * 20
        data = {"level": level, "class": (level * 3).long(), "constant": torch.zeros(60, dtype=torch.int64)}
        episode = torch.arange(60) // 10 if frames else None
        time = torch.arange(60) % 10 if frames else None
        images = (level.view(-1, 1, 1, 1) * 230 + noise).to(torch.uint8)
        parts.append(ImageData(images, data, episode, time))
    return ProbeData.of(Split(*parts), ProbeConfig())


def test_scores_by_kind_of_variable() -> None:
    for frames in (False, True):
        data = split(frames=frames)
        train_x, test_x = (pixel_features(each.images, 2048) for each in (data.train, data.test))
        scores = score_features("pixels", train_x, test_x, data, ProbeConfig(neighbours=5))
        found = {(score.variable, score.probe, score.metric): score.value for score in scores}
        assert ("constant", "linear", "accuracy") not in found
        assert found["level", "linear", "r2"] > 0.95
        assert found["class", "linear", "accuracy"] > 0.85
        assert (("class", "linear", "macro_f1") in found) == frames
        assert (("class", "knn", "accuracy") in found) == (not frames)
        assert (("class", "linear_10_per_class", "accuracy") in found) == (not frames)
        summary = summarise(scores)
        assert summary["probe/pixels/linear_r2"] == found["level", "linear", "r2"]


def test_data_is_thinned_evenly_and_pixels_are_pooled() -> None:
    data = ImageData(torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 3, 20, 20), {})
    thin = ProbeData.of(Split(data, data), ProbeConfig(max_train=5, max_test=40))
    assert thin.train.images[:][:, 0, 0, 0].tolist() == [0, 10, 20, 29, 39]
    assert len(thin.test) == 40
    assert pixel_features(data.images, 10_000).shape == (40, 1200)
    pooled = pixel_features(data.images, 300)
    assert pooled.shape == (40, 300)
    torch.testing.assert_close(pooled[7], torch.full((300,), 7 / 255))


def test_encoding_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network.train()
    network[1].eval()
    statistics = [buffer.clone() for buffer in network.buffers()]
    features = encode(_Floats(network), torch.randint(0, 255, (300, 1, 2, 2), dtype=torch.uint8))
    assert features.shape == (300, 2) and not features.requires_grad
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(a, b) for a, b in zip(statistics, network.buffers(), strict=True))


class _Floats(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images.float())
        return features


def test_meters_tell_collapse_from_health() -> None:
    healthy, line = torch.randn(500, 16), torch.randn(500, 1) * torch.ones(16)
    meters = collapse_meters({"healthy": healthy, "line": line, "point": torch.ones(500, 16)})
    assert meters["rep/healthy/spread"] == pytest.approx(1.0, abs=0.05)
    assert meters["rep/point/spread"] == pytest.approx(0.0, abs=1e-6)
    assert meters["rep/healthy/effective_rank"] > 15 and meters["rep/line/effective_rank"] == pytest.approx(1, abs=0.01)
    assert meters["rep/healthy/correlation"] < 0.1 and meters["rep/line/correlation"] > 0.99
    assert meters["rep/healthy/uniformity"] < -3 and meters["rep/point/uniformity"] == pytest.approx(0.0, abs=1e-5)


def test_the_principal_plane_is_where_the_variance_is() -> None:
    x = torch.randn(200, 1) * torch.tensor([[0.0, 3.0, 0.0]]) + torch.randn(200, 1) * torch.tensor([[1.0, 0.0, 0.0]])
    plane = principal_plane(x)
    assert float(torch.corrcoef(torch.stack([plane[:, 0], x[:, 1].double()]))[0, 1].abs()) > 0.99
    assert principal_plane(torch.randn(10, 1)).shape == (10, 2)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"neighbours": 0}, {"temperature": 0.0}, {"labels_per_class": (1, 0)}, {"draws": 0}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must be (at least 1|above 0)"):
            replace(ProbeConfig(), **wrong)
