"""Return labels against the slow twin: segments, bins, partners, across wrap-around, deaths and unfinished episodes."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrep.replay import UNKNOWN, Batch, Needs, Partners, ReturnLabels, SameReturn
from rlrep.replay.returns import Groups, bin_edges, discounted_returns
from rlrep.replay.ring import Window

from .replay_twin import CPU, Script, make_script, make_spec, scripts

DRAWS = 2048
Key = tuple[int, int]

SEGMENT_LABELS = [
    ReturnLabels("reward_event"),
    ReturnLabels("reward_event", max_length=3),
    ReturnLabels("return_threshold", threshold=1.0),
    ReturnLabels("return_threshold", threshold=2.5, max_length=8, horizon=4),
    ReturnLabels("return_threshold", segments=3, discount=1.0, horizon=None),
    ReturnLabels("return_threshold", segments=2, max_length=5, discount=1.0, horizon=2),
]


BIN_LABELS = [
    ReturnLabels("return_bin", bins=4, discount=1.0, horizon=None),
    ReturnLabels("return_bin", bins=3, binning="equal_width", discount=0.8, horizon=3),
    ReturnLabels("return_bin", bins=1, horizon=2),
]
LABELS = SEGMENT_LABELS + BIN_LABELS


def pairs_of(batch: Batch) -> Partners:
    (partners,) = batch.pairs["head"].found.values()
    assert isinstance(partners, Partners)
    return partners


def group_of(groups: list[list[Key]]) -> dict[Key, list[Key]]:
    return {key: group for group in groups for key in group}


def check_segments(script: Script, labels: ReturnLabels, anchors_drawn: bool) -> None:
    """Partners are exactly the other stored members of the anchor's segment; lengths and known bins are right."""
    if not script.replay.can_sample():
        return
    batch = script.replay.sample(DRAWS)
    pairs = pairs_of(batch)
    groups = script.twin.segments(labels)
    group = group_of(groups)
    action = pairs.anchor_action if pairs.anchor_action is not None else batch.action
    anchors, partners = script.keys(action), script.keys(pairs.action)
    assert set(anchors) <= set(group) if anchors_drawn else set(anchors) == script.twin.samplable()
    assert pairs.labelled.tolist() == [len(group[key]) > 1 for key in anchors]
    check_numbers(anchors, group, pairs.group)
    assert pairs.length.tolist() == [len(group[key]) for key in anchors]
    drawn: dict[Key, set[Key]] = {}
    for anchor, partner in zip(anchors, partners, strict=True):
        drawn.setdefault(anchor, set()).add(partner)
    for anchor, found in drawn.items():
        others = set(group[anchor]) - {anchor}
        assert found <= (others or {anchor})
    check_bins(script, labels, anchors, pairs.anchor_bin)
    check_bins(script, labels, partners, pairs.positive_bin)
    if pairs.anchor_obs is not None:
        check_obs(script, anchors, pairs.anchor_obs)
    check_obs(script, partners, pairs.obs)


def check_numbers(anchors: list[Key], group: dict[Key, list[Key]], numbers: torch.Tensor) -> None:
    """Two anchors have one number exactly if they share a segment."""
    links = {(number, group[key][0]) for key, number in zip(anchors, numbers.tolist(), strict=True)}
    assert len(links) == len({number for number, _ in links}) == len({first for _, first in links})
    assert all(number != UNKNOWN for number, _ in links)


def check_bins(script: Script, labels: ReturnLabels, keys: list[Key], bins: torch.Tensor) -> None:
    """Bins are known exactly where the return is, equal for equal returns, and grow with the return."""
    returns = script.twin.returns(labels)
    assert [number == UNKNOWN for number in bins.tolist()] == [key not in returns for key in keys]
    known = sorted({(returns[key], number) for key, number in zip(keys, bins.tolist(), strict=True) if key in returns})
    for (low, first), (high, second) in pairwise(known):
        assert 0 <= first <= second < labels.bins
        assert first == second or high - low > 1e-6


def check_obs(script: Script, keys: list[Key], obs: torch.Tensor) -> None:
    for key, row in {key: row for row, key in enumerate(keys)}.items():
        np.testing.assert_array_equal(obs[row].numpy(), script.twin.expected(*key).obs)


def test_rewards_of_either_sign_close_a_segment() -> None:
    script = make_script(make_spec(num_envs=1), {"head": Needs((SameReturn(ReturnLabels("reward_event")),))}, end=0.0)
    frame, no = np.zeros((1, 4), np.float32), np.array([False])
    for step, reward in enumerate([0.0, -1.0, 0.0, 0.0, 1.0, 0.0]):
        script.replay.add(np.full((1, 2), step, np.float32), np.array([reward]), no, no, frame, frame, no)
    batch = script.replay.sample(256)
    lengths = set(zip(batch.action[:, 0].tolist(), pairs_of(batch).length.tolist(), strict=True))
    assert lengths == {(0, 2), (1, 2), (2, 3), (3, 3), (4, 3), (5, 1)}


def test_dropped_segments_are_never_drawn_while_they_expire() -> None:
    labels = ReturnLabels("reward_event", max_length=2)
    needs = {"head": Needs((SameReturn(labels, "segment"),))}
    script = make_script(make_spec(steps=8), needs, end=0.1, death=0.2)
    for _ in range(60):
        script.step()
        check_segments(script, labels, anchors_drawn=True)


def chi_square(counts: list[int], expected: list[float]) -> float:
    """Standard deviations by which the chi-square statistic exceeds its mean."""
    statistic = sum((count - want) ** 2 / want for count, want in zip(counts, expected, strict=True))
    freedom = max(1, len(counts) - 1)
    return float((statistic - freedom) / (2 * freedom) ** 0.5)


def test_partners_are_uniform_over_the_rest_of_the_segment() -> None:
    labels = ReturnLabels("return_threshold", threshold=2.0)
    script = make_script(make_spec(num_envs=2, steps=25), {"head": Needs((SameReturn(labels),))}, seed=3, steps=60)
    batch = script.replay.sample(200_000)
    keys = list(zip(script.keys(batch.action), script.keys(pairs_of(batch).action), strict=True))
    group = group_of(script.twin.segments(labels))
    for anchor in sorted(group, key=lambda key: -len(group[key]))[:3]:
        others = [key for key in group[anchor] if key != anchor]
        assert len(others) > 3
        drawn = [partner for key, partner in keys if key == anchor]
        assert chi_square([drawn.count(key) for key in others], [len(drawn) / len(others)] * len(others)) < 4


def test_drawn_anchors_are_uniform_over_segments_then_steps() -> None:
    labels = ReturnLabels("reward_event")
    needs = {"head": Needs((SameReturn(labels, "segment"),))}
    script = make_script(make_spec(num_envs=2, steps=15), needs, seed=5, death=0.02, steps=50)
    anchors = pairs_of(script.replay.sample(40_000)).anchor_action
    assert anchors is not None
    keys = script.keys(anchors)
    groups = script.twin.segments(labels)
    expected = {key: 40_000 / len(groups) / len(group) for group in groups for key in group}
    assert chi_square([keys.count(key) for key in expected], list(expected.values())) < 4


def check_groups(script: Script, labels: ReturnLabels, anchors_drawn: bool) -> None:
    """Partners share the anchor's known bin, are stored and finished, and differ unless the anchor is alone."""
    if not script.replay.can_sample():
        return
    batch = script.replay.sample(DRAWS)
    pairs = pairs_of(batch)
    returns = script.twin.returns(labels)
    low = script.twin.low()
    action = pairs.anchor_action if pairs.anchor_action is not None else batch.action
    anchors, partners = script.keys(action), script.keys(pairs.action)
    labelled = pairs.labelled.tolist()
    assert labelled == [partner != anchor for anchor, partner in zip(anchors, partners, strict=True)]
    assert torch.equal(pairs.anchor_bin, pairs.positive_bin) and torch.equal(pairs.anchor_bin, pairs.group)
    check_bins(script, labels, anchors, pairs.anchor_bin)
    for anchor, partner, size in zip(anchors, partners, pairs.length.tolist(), strict=True):
        assert partner[0] >= low
        if anchor not in returns:
            assert partner == anchor and size == 1
        elif size > 1:
            assert partner in returns and partner != anchor
    check_obs(script, partners, pairs.obs)


def check(script: Script, request: SameReturn) -> None:
    of_bins = request.labels.mode == "return_bin"
    (check_groups if of_bins else check_segments)(script, request.labels, request.anchors == "segment")


@settings(max_examples=36)
@given(data=st.data(), labels=st.sampled_from(LABELS), anchors=st.sampled_from(["batch", "segment"]))
def test_partners_equal_the_twins(data: st.DataObject, labels: ReturnLabels, anchors: Any) -> None:
    request = SameReturn(labels, anchors)
    script = data.draw(scripts({"head": Needs((request,))}, frame_stack=st.just(2)))
    steps = script.replay.spec.steps
    for count in (1, 2, steps, steps // 2 + 1, 1, 2 * steps, 1):
        script.run(count)
        check(script, request)


@pytest.mark.parametrize("labels", LABELS)
def test_beginning_again_ends_segments_and_lets_go_of_what_is_gone(labels: ReturnLabels) -> None:
    request, bins = SameReturn(labels, "segment"), labels.mode == "return_bin"
    spec = make_spec(steps=20, frame_stack=2 if bins else 1, pixels=True)
    script = make_script(spec, {"head": Needs((request,))}, end=0.8 if bins else 0.2, steps=60 if bins else 11)
    for count in (0, 5, 40, 0, 0, 0):
        script.begin()
        check(script, request)
        script.run(count)
        check(script, request)


@pytest.mark.parametrize("anchors_drawn", [False, True])
def test_partners_are_uniform_over_the_rest_of_the_bin(anchors_drawn: bool) -> None:
    labels = ReturnLabels("return_bin", bins=3, discount=0.9, horizon=None)
    needs = {"head": Needs((SameReturn(labels, "segment" if anchors_drawn else "batch"),))}
    script = make_script(make_spec(num_envs=1, steps=200), needs, seed=1, end=0.1, steps=40)
    script.end = 2.0
    script.step()  # ends the episode; all 41 returns are known, and the edges are fresh
    returns = script.twin.returns(labels)
    values = sorted(np.float32(value) for value in returns.values())
    edges = [values[k * len(values) // 3] for k in (1, 2)]
    bin_of = {key: sum(np.float32(value) >= edge for edge in edges) for key, value in returns.items()}
    batch = script.replay.sample(60_000)
    pairs = pairs_of(batch)
    action = pairs.anchor_action if pairs.anchor_action is not None else batch.action
    anchors, partners = script.keys(action), script.keys(pairs.action)
    assert pairs.anchor_bin.tolist() == [bin_of[key] for key in anchors]
    members = {number: [key for key in bin_of if bin_of[key] == number] for number in range(3)}
    assert pairs.length.tolist() == [len(members[bin_of[key]]) for key in anchors]
    anchor = members[0][0]
    drawn = [partner for key, partner in zip(anchors, partners, strict=True) if key == anchor]
    others = [key for key in members[0] if key != anchor]
    assert chi_square([drawn.count(key) for key in others], [len(drawn) / len(others)] * len(others)) < 4
    if anchors_drawn:
        share = {key: 60_000 / 3 / len(members[bin_of[key]]) for key in bin_of}
        assert chi_square([anchors.count(key) for key in share], list(share.values())) < 4


def test_groups_outlive_the_steps_between_refreshes() -> None:
    """In a full ring, most labelled anchors keep partners, although steps expire at every step."""
    labels = ReturnLabels("return_bin", bins=2, horizon=2)
    script = make_script(make_spec(num_envs=2, steps=100), {"head": Needs((SameReturn(labels),))}, end=0.2, steps=150)
    for _ in range(60):
        script.step()
        pairs = pairs_of(script.replay.sample(64))
        assert (pairs.length[pairs.labelled] > 5).float().mean() > 0.9


def test_a_row_that_left_the_groups_may_meet_every_member() -> None:
    groups = Groups(Window(steps=10, num_envs=1, head=10), 1, CPU)
    inner = torch.zeros(0, dtype=torch.int64)
    groups.fill(torch.arange(10), inner, 0)
    groups.fill(torch.arange(4, 8), inner, 4)
    row = torch.full((500,), 5)
    for anchor, want in ((row, {4, 6, 7}), (torch.full_like(row, 2), {4, 5, 6, 7})):
        found, size = groups.partners(anchor, torch.zeros_like(row), torch.Generator().manual_seed(0))
        assert set(found.tolist()) == want and set(size.tolist()) == {4}


def test_heads_with_equal_labels_share_pairs_and_others_do_not() -> None:
    first, second = ReturnLabels("reward_event"), ReturnLabels("return_bin")
    event, of_bin = SameReturn(first), SameReturn(second)
    needs = {"a": Needs((event,)), "b": Needs((SameReturn(first),)), "c": Needs((of_bin,)), "d": Needs()}
    pairs = make_script(make_spec(), needs, steps=30).replay.sample(8).pairs
    assert pairs["a"][event] is pairs["b"][event] and pairs["a"][event] is not pairs["c"][of_bin]
    assert not pairs["d"].found


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("discount", [1.0, 0.99, 0.0])
@pytest.mark.parametrize("horizon", [1, 2, 5, 20, 200, None])
def test_discounted_returns(length: int, discount: float, horizon: int | None) -> None:
    reward = torch.randn(length, generator=torch.Generator().manual_seed(length))
    values, stop = reward.tolist(), horizon or length
    want = [sum(discount**k * value for k, value in enumerate(values[t : t + stop])) for t in range(length)]
    torch.testing.assert_close(discounted_returns(reward, discount, horizon), torch.tensor(want))


def test_constant_rewards_have_the_geometric_series() -> None:
    found = discounted_returns(torch.ones(30), 0.5, 4)
    assert found[:27].tolist() == [1.875] * 27 and found[27:].tolist() == [1.75, 1.5, 1.0]


@given(horizon=st.integers(1, 40), discount=st.sampled_from([1.0, 0.95, 0.9, 0.3]), seed=st.integers(0, 99))
def test_equal_windows_have_equal_returns_bit_for_bit(horizon: int, discount: float, seed: int) -> None:
    """Wherever the window lies, and whatever follows it: else rounding would tell them apart by quantile."""
    window = torch.randn(horizon, generator=torch.Generator().manual_seed(seed)).tolist()
    reward = torch.tensor([3.0, *window, 1e6, 7.0, -1.0, *window, *window, 5.0])
    found = discounted_returns(reward, discount, horizon)
    assert found[1] == found[4 + horizon] == found[4 + 2 * horizon]
    silent = discounted_returns(torch.tensor([0.0] * horizon + [1e6]), discount, horizon)
    assert silent[0] == 0


def test_bin_edges() -> None:
    values = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 8.0])
    assert bin_edges(values, ReturnLabels("return_bin", bins=4)).tolist() == [0.0, 1.0, 3.0]
    assert bin_edges(values, ReturnLabels("return_bin", bins=4, binning="equal_width")).tolist() == [2.0, 4.0, 6.0]
    assert bin_edges(values[:0], ReturnLabels("return_bin", bins=3)).tolist() == [torch.inf] * 2
