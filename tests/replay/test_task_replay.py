"""Replay of tasks: whose rows are drawn, from which episodes, how often, and what a resumed one draws next."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrep.contract.meta import Trajectory
from rlrep.replay import Needs, ReturnLabels, SameReturn, SeenAt, TaskReplay, TaskSpec, Transitions, Windows, WindowSpec
from tests.runs import differences

CPU = torch.device("cpu")
SPEC = TaskSpec(obs_dim=3, action_dim=1, tasks=3, capacity=60, discount=0.9, context_size=5, reward_scale=10.0)
LENGTHS = {0: [4, 9, 7], 1: [6], 2: [5, 8]}
"""Episodes of each task, added round robin: 0, 1, 2, 0, 2, 0."""


def episode(task: int, number: int, length: int, *, terminated: bool = False) -> Trajectory:
    """Observation k is (task, number, k); rewards are 100 number + k, and a quarter of that in a context."""
    at = np.arange(length + 1, dtype=np.float32)
    obs = np.stack([np.full_like(at, task), np.full_like(at, number), at], 1)
    reward = 100.0 * number + at[:-1]
    return Trajectory(obs, -at[:-1, None], reward, reward / 4, terminated)


def make(spec: TaskSpec = SPEC, needs: Mapping[str, Needs] | None = None, seed: int = 0) -> TaskReplay:
    return TaskReplay(spec, device=CPU, seed=seed, needs=needs)


def filled(spec: TaskSpec = SPEC, needs: Mapping[str, Needs] | None = None) -> TaskReplay:
    replay = make(spec, needs)
    for number in range(3):
        for task, lengths in LENGTHS.items():
            if number < len(lengths):
                replay.add(task, episode(task, number, lengths[number], terminated=number == 1), context=True)
    return replay


def tasks(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def keys(obs: Tensor) -> list[tuple[int, int, int]]:
    """Return (task, episode, step) of observations `(..., 3)`."""
    return [(int(a), int(b), int(c)) for a, b, c in obs.reshape(-1, 3).tolist()]


def stored(replay: TaskReplay, task: int, count: int = 400) -> set[int]:
    """Return which episodes of a task the RL batch is drawn from."""
    return {number for _, number, _ in keys(replay.sample(tasks(task), count).obs)}


def in_context(replay: TaskReplay, task: int) -> set[int]:
    return {number for _, number, _ in keys(replay.context(tasks(task), size=400).obs)}


def assert_uniform(counts: "Counter[Any]", over: int) -> None:
    """Chi-square against `over` equally likely keys, four standard deviations wide."""
    assert len(counts) == over
    expected = sum(counts.values()) / over
    statistic = sum((seen - expected) ** 2 / expected for seen in counts.values())
    assert abs(statistic - (over - 1)) < 4 * np.sqrt(2 * (over - 1)), statistic


def test_rows_are_of_the_asked_tasks_in_their_order_and_uniform_over_all_episodes() -> None:
    replay = filled()
    batch = replay.sample(tasks(2, 0), 8000)
    assert batch.tasks is not None and batch.tasks.tolist() == [2, 0]
    second, first = (keys(part) for part in batch.obs.view(2, 8000, 3))
    for task, drawn in ((2, second), (0, first)):
        assert {key[0] for key in drawn} == {task}
        assert_uniform(Counter(drawn), sum(LENGTHS[task]))
    assert len(replay) == 39 and replay.counts().tolist() == [20, 6, 13]


def test_a_row_is_one_transition_and_its_reward_is_scaled_once() -> None:
    batch = filled().sample(tasks(0, 1, 2), 200)
    for (task, episode_, at), key in zip(keys(batch.obs), keys(batch.next_obs), strict=True):
        assert key == (task, episode_, at + 1)
    _, number, step = batch.obs.unbind(1)
    assert torch.equal(batch.action[:, 0], -step)
    torch.testing.assert_close(batch.reward, 10 * (100 * number + step), rtol=1e-6, atol=0)
    lengths = torch.tensor([LENGTHS[task][number] for task, number, _ in keys(batch.obs)])
    ended = (number == 1) & (step == lengths - 1)
    assert ended.any() and torch.equal(batch.discount, torch.where(ended, 0.0, 0.9))


def test_contexts_are_of_their_task_and_show_the_unscaled_reward_of_the_test() -> None:
    for source in (filled().sample(tasks(1, 2, 0, 2), 4).context, filled().context(tasks(1, 2, 0, 2))):
        assert isinstance(source, Transitions) and source.obs.shape == (4, 5, 3) and source.reward.shape == (4, 5)
        assert [{key[0] for key in keys(row)} for row in source.obs] == [{1}, {2}, {0}, {2}]
        _, number, step = source.obs.unbind(2)
        torch.testing.assert_close(source.reward, (100 * number + step) / 4)
        torch.testing.assert_close(source.next_obs - source.obs, torch.tensor([0.0, 0.0, 1.0]).expand(4, 5, 3))
        assert torch.equal(source.action[..., 0], -step)
    without = filled(replace(SPEC, context_size=0))
    without.forget_context(0)
    assert without.sample(tasks(0), 4).context is None and without.able().tolist() == [0, 1, 2]


def test_a_context_by_transitions_is_uniform_over_the_recent_episodes() -> None:
    replay = filled()
    replay.forget_context(2)
    replay.add(2, episode(2, 7, 3), context=True)
    replay.add(2, episode(2, 8, 6), context=True)
    assert_uniform(Counter(keys(replay.context(tasks(2), size=9000).obs)), 9)


@pytest.mark.parametrize("draw", ["transitions", "window"])
def test_forgotten_episodes_are_context_no_more_and_still_trained_on(draw: Any) -> None:
    replay = filled(replace(SPEC, draw=draw, context_size=3))
    assert all(map(replay.has_context, range(3)))
    replay.forget_context(0)
    assert [replay.has_context(task) for task in range(3)] == [False, True, True]
    replay.add(0, episode(0, 8, 5), context=False)
    assert not replay.has_context(0), "extra episodes never are context"
    assert replay.able().tolist() == [1, 2]
    replay.add(0, episode(0, 9, 6), context=True)
    found = {n for _ in range(30) for n in {key[1] for key in keys(replay.context(tasks(0)).obs)}}
    assert found == {9}
    assert stored(replay, 0) == {0, 1, 2, 8, 9} and {key[0] for key in keys(replay.context(tasks(1)).obs)} == {1}


def test_a_window_is_of_one_recent_episode_in_a_row_and_goes_on_in_another_where_that_is_shorter() -> None:
    replay = filled(replace(SPEC, draw="window"))
    replay.forget_context(2)
    replay.add(2, episode(2, 7, 9), context=True)
    counts: Counter[int] = Counter()
    for _ in range(1500):
        for row, task in zip(replay.context(tasks(0, 2)).obs, (0, 2), strict=True):
            (_, number, step), *_ = found = keys(row)
            whole = min((LENGTHS[0][number] if task == 0 else 9) - step, 5)
            assert found[:whole] == [(task, number, step + k) for k in range(whole)]
            assert [key[2] for key in found[whole:]] == list(range(5 - whole)) and (task == 0 or number == 7)
            counts[number] += task == 0
    assert all(abs(counts[n] / 1500 - length / 20) < 0.05 for n, length in enumerate(LENGTHS[0]))


def test_short_episodes_make_a_context_too() -> None:
    replay = filled(replace(SPEC, draw="window", context_size=20))
    assert replay.able().tolist() == [0, 1, 2]
    assert [key[2] for key in keys(replay.context(tasks(1)).obs)] == [*range(6), *range(6), *range(6), 0, 1]


def test_the_oldest_episodes_give_way_whole_whatever_their_task() -> None:
    replay = make(replace(SPEC, capacity=20))
    replay.add(0, episode(0, 0, 6), context=True)
    replay.add(1, episode(1, 1, 6), context=True)
    replay.add(0, episode(0, 2, 6), context=True)
    assert replay.counts().tolist() == [12, 6, 0]
    replay.add(2, episode(2, 3, 3), context=True)  # 21 transitions: one row too many costs the whole first episode
    assert replay.counts().tolist() == [6, 6, 3] and stored(replay, 0) == {2} == in_context(replay, 0)
    replay.add(2, episode(2, 4, 19), context=True)
    assert replay.counts().tolist() == [0, 0, 19] and replay.able().tolist() == [2] and stored(replay, 2) == {4}
    replay.add(1, episode(1, 5, 20), context=True)
    assert replay.counts().tolist() == [0, 20, 0]


def test_what_has_wrapped_around_is_read_back_right() -> None:
    replay = make(replace(SPEC, capacity=20, draw="window"))
    for number in range(7):
        replay.add(number % 2, episode(number % 2, number, 9), context=True)
    assert replay.counts().tolist() == [9, 9, 0] and (stored(replay, 1), stored(replay, 0)) == ({5}, {6})
    assert 54 % 20 > 62 % 20, "the last episode lies around the ring's end"
    batch = replay.sample(tasks(0, 1), 300)
    assert set(keys(batch.obs)) == {(task, number, k) for task, number in ((1, 5), (0, 6)) for k in range(9)}
    assert all(b == (*a[:2], a[2] + 1) for a, b in zip(keys(batch.obs), keys(batch.next_obs), strict=True))
    for _ in range(50):
        for row in replay.context(tasks(0, 1)).obs:
            assert (row[:, 2].diff() == 1).all() and len(row[:, 1].unique()) == 1


def windows(replay: TaskReplay, *asked: int) -> Windows:
    found: Windows
    (found,) = replay.sample(tasks(*asked), 2).pairs["head"].found.values()
    return found


@pytest.mark.parametrize("disjoint", [True, False])
def test_a_heads_windows_are_two_of_one_recent_episode_of_each_task(disjoint: bool) -> None:
    need = Needs((WindowSpec(length=3, disjoint=disjoint),))
    replay = filled(needs={"head": need})
    replay.forget_context(0)
    replay.add(0, episode(0, 5, 7), context=True)
    overlap = False
    for _ in range(60):
        found = windows(replay, 0, 2)
        assert found.group.tolist() == [0, 2] and found.valid.all()
        for one, two, task in zip(found.first.obs, found.second.obs, (0, 2), strict=True):
            (one_task, first, _), (two_task, second, _) = keys(one)[0], keys(two)[0]
            assert one_task == two_task == task and first == second and (task != 0 or first == 5)
            assert (one[:, 2].diff() == 1).all() and (two[:, 2].diff() == 1).all()
            overlap |= bool(set(keys(one)) & set(keys(two)))
        _, number, step = found.first.obs.unbind(2)
        torch.testing.assert_close(found.first.reward, (100 * number + step) / 4)  # not scaled: it is a context
    assert overlap is not disjoint


def test_windows_of_a_task_come_from_several_episodes_and_unordered_ones_from_all_over() -> None:
    need = Needs((WindowSpec(length=4, positives="same_task", disjoint=False),))
    replay = filled(needs={"head": need})
    pairs = [windows(replay, 0) for _ in range(40)]
    assert any(keys(w.first.obs)[0][1] != keys(w.second.obs)[0][1] for w in pairs)
    assert all((w.first.obs[0, :, 2].diff() == 1).all() for w in pairs)
    loose = filled(needs={"head": Needs((WindowSpec(length=4, ordered=False, disjoint=False),))})
    drawn = [windows(loose, 0) for _ in range(40)]
    assert all(len(w.first.obs[0, :, 1].unique()) == 1 for w in drawn)
    assert any(not (w.first.obs[0, :, 2].diff() == 1).all() for w in drawn)


def test_a_task_without_an_episode_long_enough_for_windows_is_marked() -> None:
    need = Needs((WindowSpec(length=4),))
    assert windows(filled(needs={"head": need}), 0, 1, 2).valid.tolist() == [True, False, True]


@pytest.mark.parametrize("draw", ["transitions", "window"])
def test_a_restored_replay_draws_the_same_bit_for_bit(draw: Any) -> None:
    spec, needs = replace(SPEC, capacity=30, draw=draw), {"head": Needs((WindowSpec(length=2),))}
    replay = filled(spec, needs)
    replay.forget_context(2)
    replay.add(2, episode(2, 5, 6), context=True)
    replay.sample(tasks(0, 2), 7)
    ring, state = replay.rings["transitions"], replay.state()
    other = make(spec, needs, seed=9)
    other.rings["transitions"].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(state)
    for step in range(3):
        ours, theirs = (dict(vars(r.sample(tasks(2, 0), 9))) for r in (replay, other))
        assert torch.equal(ours["obs"], theirs["obs"]) and torch.equal(ours["reward"], theirs["reward"])
        assert torch.equal(ours["context"].obs, theirs["context"].obs)
        (one,), (two,) = (each["pairs"]["head"].found.values() for each in (ours, theirs))
        assert torch.equal(one.first.obs, two.first.obs) and torch.equal(one.second.reward, two.second.reward)
        for each in (replay, other):
            each.add(0, episode(0, 10 + step, 5), context=True)
    assert differences(replay.state(), other.state()) == []
    columns, others = (each.rings["transitions"].columns for each in (replay, other))
    assert differences(columns, others) == []


def test_a_saved_state_is_a_copy() -> None:
    replay = filled()
    table = replay.state()["table"]
    replay.forget_context(0)
    assert (table[:, 3] == 1).all()


def test_misuse_is_refused_in_words() -> None:
    replay = make(replace(SPEC, capacity=5))
    with pytest.raises(ValueError, match="an episode of 6 steps does not fit a replay of 5 transitions"):
        replay.add(0, episode(0, 0, 6), context=True)
    with pytest.raises(ValueError, match="an episode of 0 steps"):
        replay.add(0, episode(0, 0, 0), context=True)
    assert len(replay) == 0 and not replay.has_context(0)
    for request in (SeenAt(), SameReturn(ReturnLabels("reward_event"))):
        with pytest.raises(
            ValueError, match=rf"aux\.head asks for {type(request).__name__}, which a replay of tasks cannot give"
        ):
            make(needs={"head": Needs((WindowSpec(2), request))})
    assert "60 transitions of 3 tasks in main memory" in make().describe()
