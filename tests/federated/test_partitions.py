"""Every image to just one party, in the way that the partition says."""

from typing import Any

import numpy as np
import pytest
import torch

from rlrep.federated import ByEnv, ByEpisode, ByLabel, Dirichlet, Iid, Partition
from rlrep.ssl.data import ImageData


def frames(count: int = 600, classes: int = 10, envs: int = 5) -> ImageData:
    """Return images of random classes in episodes of 20 steps, the episodes of an environment together."""
    labels = np.random.default_rng(0).integers(0, classes, count)
    rows = torch.arange(count)
    known = {"digit": torch.from_numpy(labels), "env": rows * envs // count}
    return ImageData(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), known, rows // 20, rows % 20)


def deal(partition: Partition, parties: int = 5, seed: int = 0, **data: Any) -> list[list[int]]:
    return [rows.tolist() for rows in partition.deal(frames(**data), parties, label="digit", seed=seed)]


@pytest.mark.parametrize("partition", [Iid(), Dirichlet(0.1), Dirichlet(5.0), ByLabel(2), ByEpisode(), ByEnv()])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_image_has_one_party(partition: Partition, seed: int) -> None:
    dealt = deal(partition, seed=seed)
    assert len(dealt) == 5 and min(map(len, dealt)) >= 10
    assert sorted(row for rows in dealt for row in rows) == list(range(600))
    assert all(rows == sorted(rows) for rows in dealt)
    assert dealt == deal(partition, seed=seed)
    assert isinstance(partition, ByEnv) or dealt != deal(partition, seed=seed + 7)


def test_one_party_has_all_images_in_their_order() -> None:
    assert deal(Iid(), parties=1) == [list(range(600))]


def most_of_one_class(partition: Partition) -> float:
    """Return the mean share of a party's commonest class."""
    labels = frames().labels["digit"]
    return float(np.mean([np.bincount(labels[rows]).max() / len(rows) for rows in deal(partition)]))


def test_a_smaller_beta_gives_parties_fewer_classes() -> None:
    assert most_of_one_class(Dirichlet(0.1)) > 0.4 > most_of_one_class(Dirichlet(5.0)) > most_of_one_class(Iid()) > 0.1


def test_by_label_gives_each_party_its_classes() -> None:
    labels = frames().labels["digit"]
    for classes, parties in ((2, 5), (3, 5), (1, 10)):
        held = [set(labels[rows].tolist()) for rows in deal(ByLabel(classes), parties)]
        assert all(len(each) == classes for each in held) and set.union(*held) == set(range(10))


def test_episodes_and_environments_stay_whole() -> None:
    data = frames()
    assert data.episode is not None
    for partition, label in ((ByEpisode(), data.episode), (ByEnv(), data.labels["env"])):
        held = [set(label[rows].tolist()) for rows in deal(partition)]
        assert sum(map(len, held)) == len(label.unique())


@pytest.mark.parametrize(
    ("partition", "parties", "message"),
    [
        (Iid(), 601, "600 images are fewer than 601, one for each party: give fewer parties="),
        (Dirichlet(), 61, "fewer than 610, partition.least=10 for each party"),
        (Dirichlet(0.01), 55, "1000 draws left a party without 10 images: give a larger partition.beta"),
        (ByLabel(1), 5, "5 parties of partition.classes=1 do not fit 10 classes"),
        (ByLabel(11), 5, "do not fit 10 classes"),
        (ByEpisode(), 31, "30 episodes are fewer than 31"),
        (ByEnv(), 4, "the data is of 5 environments: give parties=5, not 4"),
        (ByEnv("game"), 5, "needs the label game"),
    ],
)
def test_what_cannot_be_dealt_is_one_line(partition: Partition, parties: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deal(partition, parties)


def test_by_episode_needs_episodes() -> None:
    single = ImageData(frames().images, {})
    with pytest.raises(ValueError, match="needs frames of episodes"):
        ByEpisode().deal(single, 2, label=None, seed=0)


def test_settings_out_of_range_are_refused() -> None:
    for make in (lambda: Dirichlet(0.0), lambda: Dirichlet(least=0), lambda: ByLabel(0)):
        with pytest.raises(ValueError, match="must be"):
            make()
