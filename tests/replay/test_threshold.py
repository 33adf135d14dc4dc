"""Thresholds that follow what episodes earn, and returns of windows, on episodes played by hand."""

from collections.abc import Sequence

import numpy as np
import torch

from rlrep.replay import UNKNOWN, Needs, Partners, Replay, ReturnLabels, SameReturn
from rlrep.replay.threshold import Threshold

from .replay_twin import CPU, copy_replay, make_spec

RELATIVE = ReturnLabels("return_threshold", segments=5)


def make_replay(labels: ReturnLabels = RELATIVE, steps: int = 2000) -> Replay:
    replay = Replay(
        make_spec(num_envs=1, steps=steps), device=CPU, seed=0, needs={"head": Needs((SameReturn(labels),))}
    )
    replay.begin(np.zeros((1, 4), np.float32))
    return replay


def partners(replay: Replay, draws: int) -> Partners:
    (found,) = replay.sample(draws).pairs["head"].found.values()
    assert isinstance(found, Partners)
    return found


def play(replay: Replay, rewards: Sequence[float], *, end: str = "truncated") -> None:
    """Play one episode of one environment; actions count its steps from 0."""
    frame = np.zeros((1, 4), np.float32)
    for step, reward in enumerate(rewards):
        last = step == len(rewards) - 1
        flags = [np.array([last and end == kind]) for kind in ("terminated", "truncated", "died")]
        action = np.full((1, 2), step, np.float32)
        replay.add(action, np.array([reward], np.float32), flags[0], flags[1], frame, frame, flags[2])


def lengths(replay: Replay, steps: int) -> list[int]:
    """Length of the segment of each of the last steps."""
    segments = next(iter(replay._samplers._samplers.values()))._segments  # type: ignore[attr-defined]
    assert segments is not None
    head = replay._window.head
    rows = replay._window.rows(torch.arange(head - steps, head), 0)
    first, stop = segments.extent(rows, torch.zeros_like(rows))
    return [int(length) for length in stop - first]


def test_the_first_episode_is_one_segment_and_the_next_has_as_many_as_asked_for() -> None:
    replay = make_replay()
    play(replay, [0.5] * 40)
    assert lengths(replay, 40) == [40] * 40
    play(replay, [0.5] * 40)
    assert lengths(replay, 40) == [8] * 40


def test_rewards_of_either_sign_and_any_scale_make_as_many_segments() -> None:
    for scale in (-1e-6, 3e5, 6.8):
        replay = make_replay()
        for _ in range(2):
            play(replay, [scale] * 30)
        assert lengths(replay, 30) == [6] * 30


def test_the_threshold_follows_growing_returns() -> None:
    """With 30 times the reward, segments keep their length once the memory holds only such episodes."""
    replay = make_replay()
    for _ in range(3):
        play(replay, [0.25] * 40)
    play(replay, [7.5] * 40)
    assert lengths(replay, 40) == [2] * 40  # the shortest there are
    for _ in range(20):
        play(replay, [7.5] * 40)
    assert lengths(replay, 40) == [8] * 40


def test_a_sparse_task_has_one_segment_an_episode_until_it_earns_something() -> None:
    replay = make_replay()
    for _ in range(3):
        play(replay, [0.0] * 20)
        assert lengths(replay, 20) == [20] * 20
    play(replay, [0.0] * 10 + [1.0] * 10)
    assert lengths(replay, 20) == [20] * 20
    play(replay, [0.0] * 20)  # says nothing of rewards: the threshold stays at 10 / 5
    assert lengths(replay, 20) == [20] * 20
    play(replay, [0.0] * 10 + [1.0] * 10)
    assert lengths(replay, 20) == [12] * 12 + [2] * 8


def test_no_episode_is_too_short_for_partners() -> None:
    """Fewer steps than segments: they are of two steps, not one; a step left over is alone and has no label."""
    replay = make_replay(ReturnLabels("return_threshold"))
    for _ in range(2):
        play(replay, [1.0] * 7)
    assert lengths(replay, 7) == [2] * 6 + [1]
    pairs = partners(replay, 512)
    assert torch.equal(pairs.labelled, pairs.length > 1) and not pairs.labelled.all()


def test_a_number_that_was_given_stays() -> None:
    replay = make_replay(ReturnLabels("return_threshold", threshold=5.0))
    for _ in range(2):
        play(replay, [6.8] * 10)
    assert lengths(replay, 10) == [1] * 10
    pairs = partners(replay, 64)
    assert not pairs.labelled.any() and (pairs.group != UNKNOWN).all()


def test_lost_and_cut_episodes_do_not_count() -> None:
    threshold = Threshold(RELATIVE, 2)
    yes, no = np.array([True, True]), np.array([False, False])
    threshold.add(np.array([3.0, -4.0]), no, no)
    assert threshold.value == np.inf
    threshold.add(np.array([1.0, 1.0]), yes, np.array([True, False]))
    assert threshold.value == 5.0 / 5
    threshold.add(np.array([9.0, 9.0]), no, no)
    threshold.cut()
    threshold.add(np.array([0.0, 10.0]), yes, no)
    assert threshold.value == (5.0 + 10.0) / 2 / 5
    other = Threshold(RELATIVE, 2)
    other.load_state(threshold.state())
    assert other.value == threshold.value


def test_segments_go_on_alike_after_a_restart_in_the_middle_of_an_episode() -> None:
    replay = make_replay()
    play(replay, [0.5] * 40)
    play(replay, [0.5] * 11, end="not yet")
    other = copy_replay(replay)
    for each in (replay, other):
        play(each, [0.5] * 29)
        play(each, [1.0] * 40)
    assert lengths(replay, 80) == lengths(other, 80) == [8] * 40 + [4] * 40


def known_bins(replay: Replay, steps: int) -> list[bool]:
    bins = next(iter(replay._samplers._samplers.values()))._bins  # type: ignore[attr-defined]
    head = replay._window.head
    return [number != UNKNOWN for number in bins.of(replay._window.rows(torch.arange(head - steps, head), 0)).tolist()]


def test_a_window_that_a_time_limit_cut_off_is_unknown() -> None:
    labels = ReturnLabels("return_bin", horizon=4)
    for end, known in (("truncated", 7), ("terminated", 10), ("died", 0), ("not yet", 0)):
        replay = make_replay(labels)
        play(replay, [1.0] * 10, end=end)
        assert known_bins(replay, 10) == [True] * known + [False] * (10 - known), end
        replay = make_replay(labels)
        play(replay, [1.0] * 3, end=end)
        assert known_bins(replay, 3) == [end == "terminated"] * 3


def test_windows_tell_rewards_not_the_time() -> None:
    """With a constant reward every full window is worth the same; the return to go counts the steps left."""
    for labels, values in (
        (ReturnLabels("return_bin", bins=4, discount=0.9, horizon=5), 1),
        (ReturnLabels("return_bin", bins=4, discount=1.0, horizon=None), 4),
    ):
        replay = make_replay(labels)
        play(replay, [1.0] * 40)
        pairs = partners(replay, 512)
        assert len(pairs.anchor_bin[pairs.anchor_bin != UNKNOWN].unique()) == values


def test_a_row_alone_in_its_bin_has_no_label() -> None:
    replay = make_replay(ReturnLabels("return_bin", bins=2, binning="equal_width", horizon=1))
    play(replay, [0.0] * 9 + [1.0])
    pairs = partners(replay, 512)
    assert torch.equal(pairs.labelled, pairs.anchor_bin == 0) and not pairs.labelled.all()
    assert torch.equal(pairs.group, pairs.anchor_bin) and (pairs.length[~pairs.labelled] == 1).all()
