"""Frames of several environments in one data set."""

import pytest
import torch

from rlrep.federated import ByEnv
from rlrep.loops.pretraining.collected import CollectedTasks
from rlrep.ssl.data import ImageData, Split
from rlrep.ssl.data.joined import joined


def part(count: int, label: str, *, size: int = 2, value: float = 1.0) -> Split:
    rows = torch.arange(count)
    data = ImageData(torch.zeros(count, 1, size, size, dtype=torch.uint8), {label: rows * value}, rows // 3, rows % 3)
    return Split(data, data.rows(rows[:3]))


def test_labels_are_of_their_environment_and_episodes_go_on() -> None:
    train = joined({"a": part(6, "x"), "b": part(9, "x", value=2.0)}).train
    assert train.labels["env"].tolist() == [0] * 6 + [1] * 9
    assert train.known("a/x").tolist() == [True] * 6 + [False] * 9
    assert train.labels["b/x"][6:].tolist() == [2.0 * row for row in range(9)]
    assert train.episode is not None and train.time is not None
    assert train.episode.tolist() == [row // 3 for row in range(15)] and train.time.tolist() == [0, 1, 2] * 5
    assert [len(rows) for rows in ByEnv().deal(train, 2, label=None, seed=0)] == [6, 9]


def test_what_does_not_join_is_one_line() -> None:
    with pytest.raises(ValueError, match="need one shape"):
        joined({"a": part(6, "x"), "b": part(6, "x", size=3)})
    with pytest.raises(ValueError, match="label b/n is a whole number"):
        joined({"a": part(6, "x"), "b": part(6, "n", value=1)})
    with pytest.raises(ValueError, match="two or more different environments, not a, a"):
        CollectedTasks(envs=("a", "a"))
