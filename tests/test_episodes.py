"""Draws from a table of episodes: exactly uniform, never across an end, never overlapping where they must not."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrep.replay.episodes import Episodes

CPU = torch.device("cpu")
GROUP = [7, 2, 7, 2, 7, 5, 2]
LENGTH = [6, 3, 9, 8, 1, 2, 0]
FIRST = [100, 0, 40, 200, 30, 60, 10]
EPISODES = list(zip(GROUP, FIRST, LENGTH, strict=True))


def make(rows: list[tuple[int, int, int]] = EPISODES) -> Episodes:
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Episodes(table[:, 0], table[:, 1], table[:, 2], CPU)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_in_proportion(drawn: Iterable[Any], expected: dict[Any, float]) -> None:
    """Chi-square of the draws against weights, four standard deviations wide; nothing else may be drawn."""
    rows = list(drawn)
    counts = dict.fromkeys(expected, 0)
    for row in rows:
        counts[row] += 1
    scale = len(rows) / sum(expected.values())
    statistic = sum((counts[key] - scale * weight) ** 2 / (scale * weight) for key, weight in expected.items())
    free = len(expected) - 1
    assert abs(statistic - free) < 4 * np.sqrt(2 * free) + 1e-9, statistic


def episode_of(position: int) -> int:
    (found,) = (e for e, (_, first, length) in enumerate(EPISODES) if first <= position < first + length)
    return found


def places(group: int, span: int) -> list[tuple[int, int]]:
    """Every (episode, start) of `span` transitions of a group."""
    rows = [(e, length) for e, (own, _, length) in enumerate(EPISODES) if own == group]
    return [(e, start) for e, length in rows for start in range(length - span + 1)]


def draw(group: int, length: int, **options: bool) -> tuple[Tensor, Tensor]:
    flags = {"pairs": True, "disjoint": False, "ordered": True, "same": True} | options
    return make().windows(torch.full((20000,), group), length, generator(), **flags)


def starts(positions: Tensor) -> list[tuple[int, int]]:
    """Episode and offset of the first transition of windows `(T, W)`, which must be W in a row of one episode."""
    assert (positions.diff(dim=1) == 1).all()
    ends = positions[:, [0, -1]].tolist()
    found = [(episode_of(first), episode_of(last)) for first, last in ends]
    assert all(first == last for first, last in found)
    return [(e, first - FIRST[e]) for (e, _), (first, _) in zip(found, ends, strict=True)]


def test_counts() -> None:
    assert make().counts(torch.tensor([2, 7, 5, 7, 3, 99])).tolist() == [11, 16, 2, 16, 0, 0]
    assert make([]).counts(torch.tensor([2])).tolist() == [0]


def test_transitions_are_uniform_over_their_group() -> None:
    groups = torch.tensor([7, 2, 5, 7])
    positions = make().transitions(groups, 8000, generator())
    assert positions.shape == (4, 8000)
    for group, row in zip(groups.tolist(), positions.tolist(), strict=True):
        assert_in_proportion(row, {EPISODES[e][1] + start: 1.0 for e, start in places(group, 1)})
    assert not torch.equal(positions[0], positions[3])


def test_single_windows_start_anywhere() -> None:
    positions, valid = draw(7, 4, pairs=False)
    assert positions.shape == (1, 20000, 4) and valid.all()
    assert_in_proportion(starts(positions[0]), dict.fromkeys(places(7, 4), 1.0))


def test_pairs_of_one_episode() -> None:
    """An episode in proportion to its places, then both windows independently."""
    positions, _ = draw(7, 4)
    pairs = list(zip(starts(positions[0]), starts(positions[1]), strict=True))
    spots = places(7, 4)
    share = {e: sum(own == e for own, _ in spots) for e, _ in spots}
    assert_in_proportion(pairs, {(a, b): 1.0 / share[a[0]] for a, b in product(spots, spots) if a[0] == b[0]})


def test_pairs_of_episodes_of_their_own() -> None:
    positions, _ = draw(7, 5, same=False)
    pairs = zip(starts(positions[0]), starts(positions[1]), strict=True)
    assert_in_proportion(pairs, dict.fromkeys(product(places(7, 5), places(7, 5)), 1.0))


def test_disjoint_pairs_never_overlap_and_every_such_pair_is_as_likely() -> None:
    positions, _ = draw(7, 3, disjoint=True)
    first, second = starts(positions[0]), starts(positions[1])
    expected: dict[Any, float] = {}
    for e, length in ((0, 6), (2, 9)):
        both = [(a, b) for a, b in product(range(length - 2), range(length - 2)) if abs(a - b) >= 3]
        weight = (length - 5) / len(both)  # an episode in proportion to the places of six in a row
        expected |= {((e, a), (e, b)): weight for a, b in both}
    assert_in_proportion(zip(first, second, strict=True), expected)


def test_unordered_windows_of_one_episode() -> None:
    positions, _ = draw(2, 3, ordered=False)
    rows = torch.cat([*positions], 1).tolist()
    episodes = [{episode_of(position) for position in row} for row in rows]
    assert all(len(found) == 1 for found in episodes)
    weight = {1: 1 / 3, 3: 6 / 8}  # one place in the episode of 3, six in the one of 8
    expected = {FIRST[e] + k: weight[e] for e in weight for k in range(LENGTH[e])}
    assert_in_proportion((row[4] for row in rows), expected)
    one = [tuple(row[1:3]) for row in rows if row[0] < 200]
    assert_in_proportion(one, dict.fromkeys(product(range(3), range(3)), 1.0))


def test_unordered_windows_of_the_group() -> None:
    positions, valid = draw(7, 2, ordered=False, same=False)
    assert valid.all()
    spots = [EPISODES[e][1] + start for e, start in places(7, 1)]
    for pair in (positions[0], positions[:, :, 0].T, positions[:, :, 1].T):
        assert_in_proportion(map(tuple, pair.tolist()), dict.fromkeys(product(spots, spots), 1.0))


@pytest.mark.parametrize("disjoint", [False, True])
def test_groups_without_a_long_enough_episode_are_not_valid(disjoint: bool) -> None:
    groups, flags = torch.tensor([5, 7, 2, 99, 7]), {"pairs": True, "disjoint": disjoint, "ordered": True, "same": True}
    positions, valid = make().windows(groups, 4, generator(), **flags)
    assert valid.tolist() == [False, True, True, False, True]
    assert (positions[:, ~valid] == 0).all()
    positions, valid = make([]).windows(groups, 4, generator(), **flags)
    assert not valid.any() and positions.shape == (2, 5, 4)
    assert make([]).transitions(groups, 3, generator()).tolist() == [[0] * 3] * 5


def test_windows_that_make_no_sense_are_refused() -> None:
    for wrong in ({"disjoint": True, "ordered": False}, {"disjoint": True, "same": False}):
        with pytest.raises(ValueError, match="disjoint"):
            draw(7, 2, **wrong)
    with pytest.raises(ValueError, match="length"):
        draw(7, 0)
