"""Draws from a table of episodes: exactly uniform, never across an end, never overlapping where they must not."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrep.replay import Needs, Priority, Transitions, Windows, WindowSpec
from rlrep.replay.episodes import Episodes
from tests.runs import differences

from .replay_twin import CPU, Script, copy_replay, make_script, make_spec

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
    flags = {"disjoint": False, "ordered": True, "same": True} | options
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


def slow_runs(group: int, count: int, used: tuple[int, ...] = ()) -> dict[tuple[int, ...], float]:
    """Twin of `Episodes.runs`: every run of positions, with its probability."""
    if count <= 0:
        return {(): 1.0}
    rows = [(first, length) for own, first, length in EPISODES if own == group and length]
    found: dict[tuple[int, ...], float] = {}
    for first, length in rows:
        share = length / sum(length for _, length in rows)
        room = 1 if used else max(length - count + 1, 1)  # only the first episode may begin later
        for start in range(room):
            part = tuple(range(first + start, first + min(start + count, length)))
            for rest, chance in slow_runs(group, count - len(part), part).items():
                found[part + rest] = found.get(part + rest, 0.0) + share / room * chance
    return found


@pytest.mark.parametrize(("group", "count"), [(7, 1), (7, 4), (7, 8), (7, 12), (2, 12), (5, 7)])
def test_runs_stay_in_one_episode_or_go_on_in_others(group: int, count: int) -> None:
    positions = make().runs(torch.full((20000,), group), count, generator())
    expected = slow_runs(group, count)
    rare = {run: chance for run, chance in expected.items() if 20000 * chance < 5}
    common = {run: chance for run, chance in expected.items() if run not in rare} | {"rare": sum(rare.values()) or 1e-9}
    drawn = [run if run not in rare else "rare" for run in map(tuple, positions.tolist())]
    assert positions.shape == (20000, count)
    assert_in_proportion(drawn, common)


def test_runs_of_several_groups() -> None:
    positions = make().runs(torch.tensor([5, 99, 2, 5]), 5, generator())
    assert positions[[0, 3]].tolist() == [[60, 61, 60, 61, 60]] * 2 and positions[1].tolist() == [0] * 5
    assert {EPISODES[episode_of(position)][0] for position in positions[2].tolist()} == {2}
    assert make([]).runs(torch.tensor([2]), 3, generator()).tolist() == [[0] * 3]


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
    groups, flags = torch.tensor([5, 7, 2, 99, 7]), {"disjoint": disjoint, "ordered": True, "same": True}
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


# Windows in the replay of a single task


def least(spec: WindowSpec) -> int:
    return 2 * spec.length if spec.disjoint else spec.length


def stored_starts(script: Script, spec: WindowSpec) -> set[tuple[int, int]]:
    """Step and environment of every transition that a window may begin with (or hold, if it is not ordered)."""
    twin, low, found = script.twin, script.twin.low(), set()
    for episode in twin.episodes:
        first, stop = max(low, episode.first_step), episode.first_step + len(episode.rewards)
        if not episode.dropped and stop - first >= least(spec):
            last = stop - spec.length if spec.ordered else stop - 1
            found |= {(step, episode.env) for step in range(first, last + 1)}
    if spec.disjoint:  # a place in the middle may have no room on either side
        found = {key for key in found if room_beside(script, spec, *key)}
    return found


def room_beside(script: Script, spec: WindowSpec, step: int, env: int) -> bool:
    episode, index = script.twin.where[step, env]
    before = step - max(script.twin.low(), episode.first_step)
    return before >= spec.length or len(episode.rewards) - index >= 2 * spec.length


def check_windows(script: Script, spec: WindowSpec) -> None:
    """All that may be drawn is, nothing else, and it holds what was stored."""
    extra: Windows = script.replay.sample(8).pairs["head"][spec]
    allowed = stored_starts(script, spec)
    assert extra.valid.tolist() == [bool(allowed)] * len(extra.valid)
    if not allowed:
        return
    keys = [keys_of(script, part) for part in (extra.first, extra.second)]
    for part, own in zip((extra.first, extra.second), keys, strict=True):
        check_content(script, part, own)
    for first, second, group in zip(*keys, extra.group.tolist(), strict=True):
        episode, _ = script.twin.where[first[0]]
        assert all(script.twin.where[key][0] is episode for key in first + second)
        assert group == episode.first_step * script.replay.spec.num_envs + episode.env
        assert not (spec.disjoint and set(first) & set(second))
        if spec.ordered:
            assert all(part == [(part[0][0] + k, part[0][1]) for k in range(spec.length)] for part in (first, second))
    ends = 1 if spec.ordered else spec.length
    assert {key for part in keys for row in part for key in row[:ends]} == allowed


def keys_of(script: Script, part: Transitions) -> list[list[tuple[int, int]]]:
    """Step and environment of every transition, which its action names."""
    numbers = part.action if part.action.ndim == 2 else part.action[..., 0]
    return [[divmod(int(number), script.replay.spec.num_envs) for number in row] for row in numbers.tolist()]


def check_content(script: Script, part: Transitions, keys: list[list[tuple[int, int]]]) -> None:
    """Compare some of the windows with the twin's memory."""
    for row, k in product(range(12), range(part.reward.shape[1])):
        episode, index = script.twin.where[keys[row][k]]
        assert part.reward[row, k].item() == episode.rewards[index]
        np.testing.assert_array_equal(part.obs[row, k].numpy(), script.twin.stack(episode, index))
        np.testing.assert_array_equal(part.next_obs[row, k].numpy(), script.twin.stack(episode, index + 1))


SPECS = (
    WindowSpec(3, rows=2000),
    WindowSpec(4, rows=2000, disjoint=False),
    WindowSpec(2, rows=2000, disjoint=False, ordered=False),
)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    "options",
    [
        {"frame_stack": 3, "n_step": 3, "discrete": True},
        {"frame_stack": 2, "pixels": True, "steps": 24},
        {"num_envs": 3, "priority": Priority()},
    ],
)
def test_windows_hold_what_was_stored(spec: WindowSpec, options: dict[str, Any]) -> None:
    """Before and after wrap-around, running episodes too, those whose worker died never."""
    script = make_script(make_spec(**options), {"head": Needs((spec,))}, end=0.08, death=0.03, steps=4)
    for steps in (2, 5, 20, 50):
        script.run(steps)
        check_windows(script, spec)
    script.begin()
    check_windows(script, spec)


def test_windows_survive_a_save() -> None:
    script = make_script(make_spec(), {"head": Needs((WindowSpec(3),))}, end=0.1, death=0.02, steps=70)
    script.followers = [copy_replay(script.replay)]
    for _ in range(3):
        ours, theirs = (replay.sample(20).pairs["head"][WindowSpec(3)] for replay in (script.replay, *script.followers))
        assert len(ours.valid) == 16
        assert differences(asdict(ours), asdict(theirs)) == []
        script.run(9)


def test_episodes_too_short_give_no_row() -> None:
    script = make_script(make_spec(), {"head": Needs((WindowSpec(3, disjoint=False),))}, end=2.0, steps=20)
    windows = script.replay.sample(5).pairs["head"][WindowSpec(3, disjoint=False)]
    assert windows.valid.tolist() == [False] * 5
    assert windows.first.obs.shape == (5, 3, 4)


def test_views_reach_every_observation() -> None:
    spec = WindowSpec(2, rows=3, next_obs=False, disjoint=False)
    script = make_script(make_spec(pixels=True), {"head": Needs((spec,))}, end=0.0, steps=8)
    pairs = script.replay.sample(5).pairs["head"]
    windows, seen = pairs[spec], pairs.viewed(lambda frames: frames[:, :, 1:, 1:] + 1)[spec]
    for plain, viewed in ((windows.first, seen.first), (windows.second, seen.second)):
        assert torch.equal(viewed.obs, plain.obs[..., 1:, 1:] + 1) and viewed.obs.shape == (3, 2, 3, 19, 19)
        assert plain.next_obs.numel() == viewed.next_obs.numel() == 0


def test_windows_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="several tasks"):
        make_script(make_spec(), {"head": Needs((WindowSpec(3, positives="same_task", disjoint=False),))})
    fine = WindowSpec(2)
    for wrong in ({"length": 0}, {"rows": 1}, {"ordered": False}, {"positives": "same_task"}):
        with pytest.raises(ValueError, match="windows"):
            replace(fine, **wrong)
    assert WindowSpec(4).least_episode == 8 and WindowSpec(4, disjoint=False).least_episode == 4
    assert WindowSpec(4, positives="same_task", ordered=False, disjoint=False).least_episode == 1
