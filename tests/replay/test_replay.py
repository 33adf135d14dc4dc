"""Replay against its slow twin: stacks, n-step returns, ends, wrap-around, deaths, resume, bytes."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrep.replay import Needs, Replay, ReplaySpec, ReturnLabels, Ring, SameReturn, SecondView
from rlrep.replay.shared import Shared, SharedSpans
from rlrep.replay.spans import Spans, carve, draw_below
from rlrep.replay.store import _choose_home

from .replay_twin import CPU, Script, copy_replay, copy_ring, make_script, make_spec, scripts

DRAWS = 2048


def check_batches(script: Script, draws: int = DRAWS) -> None:
    """Every sampled field is the twin's, and exactly the transitions that may be sampled are."""
    allowed = script.twin.samplable()
    assert script.replay.can_sample() == bool(allowed)
    assert len(script.replay) == (script.twin.head - script.twin.low()) * script.replay.spec.num_envs
    if not allowed:
        return
    batch = script.replay.sample(draws)
    keys = script.keys(batch.action)
    assert set(keys) == allowed
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    for key, row in first.items():
        want = script.twin.expected(*key)
        np.testing.assert_array_equal(batch.obs[row].numpy(), want.obs)
        np.testing.assert_array_equal(batch.next_obs[row].numpy(), want.next_obs)
        assert batch.reward[row].item() == pytest.approx(want.reward, abs=1e-5)
        assert batch.discount[row].item() == pytest.approx(want.discount, abs=1e-6)


@settings(max_examples=30)
@given(script=scripts())
def test_every_field_equals_the_twins(script: Script) -> None:
    steps = script.replay.spec.steps
    for count in (1, 2, steps, steps // 2 + 1, 2 * steps):
        script.run(count)
        check_batches(script)


@pytest.mark.parametrize(("n_step", "discount"), [(1, 0.5), (2, 0.7), (4, 0.9)])
def test_fewer_rewards_may_be_summed_than_the_layout_allows(n_step: int, discount: float) -> None:
    """The fields are those of a replay of so many steps; what may be sampled stays."""
    script = make_script(make_spec(n_step=4, num_envs=3), end=0.2, steps=70)
    script.replay.sum_rewards(n_step, discount)
    allowed = script.twin.samplable()
    script.twin.spec = replace(script.twin.spec, n_step=n_step, discount=discount)
    batch = script.replay.sample(DRAWS)
    assert set(script.keys(batch.action)) == allowed
    for row, key in enumerate(script.keys(batch.action)):
        want = script.twin.expected(*key)
        assert batch.reward[row].item() == pytest.approx(want.reward, abs=1e-5)
        assert batch.discount[row].item() == pytest.approx(want.discount, abs=1e-6)
        np.testing.assert_array_equal(batch.next_obs[row].numpy(), want.next_obs)


def test_small_frames_keep_the_full_capacity_even_if_every_step_ends() -> None:
    script = make_script(make_spec(steps=20, frame_stack=3), end=2.0, steps=100)
    assert len(script.replay) == 40


def test_large_frames_lose_old_steps_rather_than_corrupt_them() -> None:
    script = make_script(make_spec(steps=40, frame_stack=3, pixels=True), end=1.0, steps=200)
    assert 0 < len(script.replay) < 80
    check_batches(script)


def test_uniform_over_transitions() -> None:
    script = make_script(make_spec(num_envs=3, steps=12, n_step=3), end=0.2, death=0.03, steps=40)
    assert any(episode.dropped for episode in script.twin.episodes[-12:])
    allowed = script.twin.samplable()
    draws = 400 * len(allowed)
    keys = script.keys(script.replay.sample(draws).action)
    counts = np.array([keys.count(key) for key in allowed])
    statistic = ((counts - 400) ** 2 / 400).sum()
    assert statistic < len(allowed) + 4 * np.sqrt(2 * len(allowed))


@pytest.mark.parametrize(("terminated", "discount"), [(True, 0.0), (False, 0.9)])
def test_only_termination_stops_bootstrapping(terminated: bool, discount: float) -> None:
    replay = Replay(make_spec(num_envs=1, n_step=3), device=CPU, seed=0)
    first, final, reset = (np.full((1, 4), value, np.float32) for value in (1, 2, 3))
    replay.begin(first)
    flag, no = np.array([terminated]), np.array([False])
    replay.add(np.zeros((1, 2), np.float32), np.ones(1), flag, ~flag, final, reset, no)
    batch = replay.sample(2)
    assert batch.discount.tolist() == pytest.approx([discount] * 2)
    assert batch.next_obs.tolist() == [[2.0] * 4] * 2
    assert batch.reward.tolist() == [1.0, 1.0]


def test_an_incomplete_window_waits() -> None:
    script = make_script(make_spec(num_envs=1, n_step=3), end=0.0, steps=2)
    assert not script.replay.can_sample()
    with pytest.raises(RuntimeError, match="nothing to sample"):
        script.replay.sample(1)
    script.run(1)
    assert set(script.keys(script.replay.sample(64).action)) == {(0, 0)}


def test_beginning_again_drops_the_running_episodes() -> None:
    script = make_script(make_spec(num_envs=2, steps=30), end=0.3, steps=15)
    script.begin()
    check_batches(script)
    script.run(10)
    check_batches(script)
    script.run(60)
    check_batches(script)


def test_beginning_again_may_take_the_frames_of_old_steps() -> None:
    script = make_script(make_spec(num_envs=2, steps=20, frame_stack=2, pixels=True), ALL_NEEDS, end=0.8, steps=60)
    for _ in range(4):
        script.begin()
        check_batches(script)
    script.run(3)
    check_batches(script)


def test_second_view_comes_from_the_same_indices() -> None:
    script = make_script(make_spec(), {"curl": Needs((SecondView(),)), "plain": Needs()}, steps=20)
    batch = script.replay.sample(16)
    assert torch.equal(batch.pairs["curl"][SecondView()], batch.obs)
    assert not batch.pairs["plain"].found


ALL_NEEDS = {
    "event": Needs((SameReturn(ReturnLabels("reward_event", max_length=5)),)),
    "sum": Needs((SameReturn(ReturnLabels("return_threshold", threshold=1.5, discount=0.9), "segment"),)),
    "relative": Needs((SameReturn(ReturnLabels("return_threshold", segments=3, horizon=4)),)),
    "bin": Needs((SameReturn(ReturnLabels("return_bin", bins=4, horizon=3)),)),
    "binned": Needs((SameReturn(ReturnLabels("return_bin", bins=5, binning="equal_width"), "segment"),)),
}


def flat(value: Any) -> list[torch.Tensor]:
    """Tensors of a batch, in a fixed order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in flat(part)]
    if hasattr(value, "__dataclass_fields__"):
        return [tensor for name in value.__dataclass_fields__ for tensor in flat(getattr(value, name))]
    return []


@pytest.mark.parametrize("steps", [0, 3, 25, 130])
@pytest.mark.parametrize("pixels", [False, True])
def test_resumes_bit_for_bit(steps: int, pixels: bool) -> None:
    spec = make_spec(num_envs=3, steps=30, frame_stack=2, n_step=2, pixels=pixels)
    script = make_script(spec, ALL_NEEDS, end=0.2, death=0.02, steps=steps)
    if script.replay.can_sample():
        script.replay.sample(5)
    other = copy_replay(script.replay)
    script.followers.append(other)
    for _ in range(35):
        script.step()
        if script.replay.can_sample():
            mine, theirs = flat(script.replay.sample(16)), flat(other.sample(16))
            assert len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))


def test_state_is_a_plain_tree() -> None:
    script = make_script(make_spec(), ALL_NEEDS, end=0.3, death=0.05, steps=80)
    leaves = (torch.Tensor, np.ndarray)
    json.dumps(script.replay.state(), default=lambda leaf: "leaf" if isinstance(leaf, leaves) else 1 / 0)


def test_state_is_a_snapshot() -> None:
    script = make_script(make_spec(), ALL_NEEDS, end=0.3, steps=40)
    state = script.replay.state()
    before = str(state)
    script.run(30)
    assert str(state) == before


def measured_bytes(root: object) -> int:
    """Bytes of all tensors and arrays reachable from an object, each storage once."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    queue = [root]
    while queue:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, np.ndarray):
            found[value.__array_interface__["data"][0]] = value.nbytes
        elif isinstance(value, dict):
            queue += value.values()
        elif isinstance(value, list | tuple):
            queue += value
        elif hasattr(value, "__dict__"):
            queue += vars(value).values()
    return sum(found.values())


def test_bytes_per_transition_of_curls_frames() -> None:
    spec = ReplaySpec((3, 100, 100), torch.uint8, 3, (6,), torch.float32, 1, 100_000)
    replay = Replay(spec, device=CPU, seed=0, needs=ALL_NEEDS)
    assert replay.bytes_per_transition <= 31_000
    assert measured_bytes(replay) == pytest.approx(replay.nbytes, rel=1e-3)
    assert f"{replay.nbytes:,} bytes" in replay.describe() and "main memory" in replay.describe()


def test_home_is_the_gpu_only_if_the_replay_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ReplaySpec((3, 100, 100), torch.uint8, 3, (6,), torch.float32, 1, 100_000)
    cuda = torch.device("cuda")
    for free, home in ((8e9, "cuda"), (3e9, "cpu")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), int(9e9)))
        assert _choose_home(spec, cuda).type == home
    assert _choose_home(spec, CPU) == CPU


def test_bad_input_is_named() -> None:
    spec = make_spec(num_envs=2, pixels=True)
    replay = Replay(spec, device=CPU, seed=0)
    frames, no = np.zeros((2, 3, 20, 20), np.uint8), np.zeros(2, np.bool_)
    action = np.zeros((2, 2), np.float32)
    with pytest.raises(RuntimeError, match="begin"):
        replay.add(action, np.zeros(2), no, no, frames, frames, no)
    with pytest.raises(ValueError, match=r"\(3, 20, 20\)"):
        replay.begin(frames[:, :1])
    with pytest.raises(ValueError, match="uint8"):
        replay.begin(frames.astype(np.float32))
    replay.begin(frames)
    with pytest.raises(ValueError, match="2 rows"):
        replay.add(action[:1], np.zeros(2), no, no, frames, frames, no)
    with pytest.raises(ValueError, match="capacity"):
        make_spec(num_envs=4, steps=1, n_step=2)


def make_ring(capacity: int = 5) -> Ring:
    layout = {"a": ((), torch.int64), "b": ((2,), torch.float32), "c": ((), torch.bool)}
    return Ring(capacity, layout, device=CPU)


def ring_rows(start: int, stop: int) -> dict[str, torch.Tensor]:
    number = torch.arange(start, stop)
    return {"a": number, "b": number[:, None].expand(-1, 2).double(), "c": number % 2 == 0}


@pytest.mark.parametrize("packs", [False, True])
def test_ring_keeps_the_newest_rows(packs: bool) -> None:
    """Also where they come in one piece, as on a GPU."""
    ring = make_ring()
    ring._packs = packs
    for start, stop in ((0, 3), (3, 4), (4, 9), (9, 9), (9, 11)):
        ring.append(ring_rows(start, stop))
        assert (ring.oldest, ring.written) == (max(0, stop - 5), stop)
        for name, rows in ring.read(ring.oldest, stop).items():
            assert torch.equal(rows, ring_rows(ring.oldest, stop)[name].to(rows.dtype))
    copy = make_ring()
    copy_ring(ring, copy, chunk=2)
    assert all(torch.equal(copy.columns[name], ring.columns[name]) for name in ring.columns)
    late = make_ring()
    late.restore(0, ring_rows(0, 11))
    assert late.written == 11 and torch.equal(late.columns["a"], ring.columns["a"])


def test_ring_refuses_what_it_cannot_do() -> None:
    ring = make_ring()
    ring.append(ring_rows(0, 5))
    ring.append(ring_rows(5, 7))
    with pytest.raises(ValueError, match=r"holds 2\.\.7"):
        ring.read(1, 4)
    with pytest.raises(ValueError, match="6 rows"):
        ring.append(ring_rows(7, 13))
    with pytest.raises(ValueError, match="columns"):
        ring.append({"a": torch.zeros(1, dtype=torch.int64)})


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(1, 5)), max_size=6))
def test_carve_leaves_the_complement_of_the_holes(raw: list[tuple[int, int, int]]) -> None:
    holes = sorted((env, first, first + length) for env, first, length in raw)
    stop = np.array([10, 3, 7])
    low = np.array([2, 0, 7])
    spans = carve(low, stop, holes)
    left = {(t, e) for e, a, b in spans for t in range(a, b)}
    hidden = {(t, e) for e, a, b in holes for t in range(a, b)}
    assert left == {(t, e) for e in range(3) for t in range(low[e], stop[e])} - hidden
    if left:
        shared = Shared()
        kinds = (Spans(spans, CPU), SharedSpans(shared, lambda: Spans(spans, CPU), room=2))
        assert shared.refresh(CPU) and not shared.refresh(CPU)
        for kind in kinds:
            step, env = kind.draw(2000, torch.Generator().manual_seed(0))
            assert set(zip(step.tolist(), env.tolist(), strict=True)) == left
            assert tuple(map(int, kind.first)) == (spans[0][1], spans[0][0])


def test_draw_below_covers_its_range() -> None:
    bound = torch.tensor([1, 2, 5]).repeat(2000)
    drawn = draw_below(bound, torch.Generator().manual_seed(0))
    for size in (1, 2, 5):
        counts = drawn[bound == size].bincount(minlength=size)
        assert len(counts) == size and (counts - 2000 / size).abs().max() < 5 * (2000 / size) ** 0.5
