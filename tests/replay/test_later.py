"""What heads add to the batch, against the slow twin: later observations, times, return bins, views, noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from rlrep.heads.named import named_heads
from rlrep.replay import (
    UNKNOWN,
    Batch,
    LaterSteps,
    Needs,
    Noise,
    ReturnBin,
    ReturnLabels,
    SameReturn,
    SecondView,
    SeenAt,
    Unroll,
)

from .replay_twin import Script, copy_replay, make_script, make_spec, scripts

OFFSETS = (1, 2, 5)
BINS = ReturnLabels("return_bin", bins=4, horizon=3)
LATER, BIN, TIME, UNROLL = LaterSteps(OFFSETS), ReturnBin(BINS), SeenAt(), Unroll(3)
PARTNERS = SameReturn(ReturnLabels("reward_event"), time=True)
NEEDS = {"head": Needs((LATER, BIN, TIME, UNROLL)), "pairs": Needs((PARTNERS,))}
Key = tuple[int, int]


def check_later(script: Script, batch: Batch, keys: list[Key]) -> None:
    """The observation k steps on is the twin's, the episode's last where it stops sooner; actions lead there."""
    later = batch.pairs["head"][LATER]
    assert later.obs.shape[:2] == (len(OFFSETS), len(keys)) and len(later.action) == max(OFFSETS)
    for key, row in {key: row for row, key in enumerate(keys)}.items():
        episode, index = script.twin.where[key]
        rest = len(episode.rewards) - index
        for k, offset in enumerate(OFFSETS):
            assert bool(later.valid[k, row]) == (offset <= rest)
            want = script.twin.stack(episode, index + min(offset, rest))
            np.testing.assert_array_equal(later.obs[k, row].numpy(), want)
        seen = [key for action in later.action[:rest, row] for key in script.keys(action[None])]
        assert seen == [(key[0] + k, key[1]) for k in range(min(rest, max(OFFSETS)))]


def check_unroll(script: Script, batch: Batch, keys: list[Key]) -> None:
    """Every step's reward, end and observation are the twin's, up to the last one of the episode."""
    unrolled = batch.pairs["head"][UNROLL]
    for key, row in {key: row for row, key in enumerate(keys)}.items():
        episode, index = script.twin.where[key]
        rest = min(len(episode.rewards) - index, UNROLL.steps)
        assert unrolled.valid[:, row].tolist() == [k < rest for k in range(UNROLL.steps)]
        np.testing.assert_array_equal(unrolled.reward[:rest, row].numpy(), episode.rewards[index : index + rest])
        ends = [episode.terminated and index + k + 1 == len(episode.rewards) for k in range(rest)]
        assert unrolled.terminated[:rest, row].tolist() == ends
        for k in range(rest):
            np.testing.assert_array_equal(unrolled.obs[k, row].numpy(), script.twin.stack(episode, index + k + 1))
    assert len(unrolled.action) == UNROLL.steps and torch.equal(unrolled.action[0], batch.action)


def check_times(script: Script, batch: Batch, keys: list[Key]) -> None:
    """Two rows have one episode number exactly if the twin has them in one episode; steps count vector steps."""
    time, pairs = batch.pairs["head"][TIME], batch.pairs["pairs"][PARTNERS]
    assert pairs.positive_time is not None and pairs.anchor_time is not None
    assert torch.equal(pairs.anchor_time.step, time.step) and torch.equal(pairs.anchor_time.episode, time.episode)
    keys = keys + script.keys(pairs.action)
    number = torch.cat([time.episode, pairs.positive_time.episode]).tolist()
    assert torch.cat([time.step, pairs.positive_time.step]).tolist() == [key[0] for key in keys]
    links = {(n, id(script.twin.where[key][0])) for n, key in zip(number, keys, strict=True)}
    assert len(links) == len({n for n, _ in links}) == len({episode for _, episode in links})


def check_extras(script: Script, draws: int = 512) -> None:
    if script.replay.can_sample():
        batch = script.replay.sample(draws)
        keys = script.keys(batch.action)
        check_later(script, batch, keys)
        check_unroll(script, batch, keys)
        check_times(script, batch, keys)
        bins, returns = batch.pairs["head"][BIN], script.twin.returns(BINS)
        assert [number == UNKNOWN for number in bins.tolist()] == [key not in returns for key in keys]


@settings(max_examples=12)
@given(script=scripts(NEEDS))
def test_extras_equal_the_twins(script: Script) -> None:
    steps = script.replay.spec.steps
    for count in (1, steps // 2 + 1, 2 * steps):
        script.run(count)
        check_extras(script)
    script.begin()
    script.run(4)
    check_extras(script)


def test_extras_resume_bit_for_bit() -> None:
    noise = Noise(3)
    needs = {**NEEDS, "noisy": Needs((SecondView(2), noise))}
    script = make_script(make_spec(num_envs=2, steps=20, frame_stack=2), needs, end=0.2, steps=33)
    other = copy_replay(script.replay)
    script.followers.append(other)
    for _ in range(4):
        script.run(7)
        mine, theirs = (replay.sample(32).pairs for replay in (script.replay, other))
        later, same = mine["head"][LATER], theirs["head"][LATER]
        assert torch.equal(later.obs, same.obs) and torch.equal(later.valid, same.valid)
        assert torch.equal(mine["head"][BIN], theirs["head"][BIN])
        assert torch.equal(mine["noisy"][noise], theirs["noisy"][noise])


def test_a_batch_alone_and_what_rewards_there_were() -> None:
    script = make_script(make_spec(), NEEDS, end=0.2, steps=9)
    assert script.replay.sample(4, alone=True).pairs == {}
    size, terminated = script.replay.rewards()
    stored = {id(episode): episode for episode, _ in script.twin.where.values()}.values()
    rewards = [abs(float(reward)) for episode in stored for reward in episode.rewards]
    assert size.item() == pytest.approx(np.mean(rewards), rel=1e-5)
    assert bool(terminated) == any(episode.terminated for episode in stored)


def test_views_repeat_and_noise_is_uniform() -> None:
    views, noise = SecondView(3), Noise(50)
    script = make_script(make_spec(), {"head": Needs((views, noise)), "other": Needs((noise,))}, steps=20)
    batch = script.replay.sample(100)
    pairs, other = batch.pairs["head"], batch.pairs["other"][noise]
    assert torch.equal(pairs[views], batch.obs.repeat(3, 1)) and pairs[noise].shape == (100, 50)
    assert pairs[noise].min() >= 0 and pairs[noise].max() < 1 and abs(pairs[noise].mean() - 0.5) < 0.02
    assert not torch.equal(pairs[noise], other), "every head draws its own"


def test_every_observation_is_viewed() -> None:
    view, partners = SecondView(), SameReturn(ReturnLabels("reward_event"), anchors="segment")
    script = make_script(make_spec(), {"head": Needs((LATER, UNROLL, view, partners, TIME))}, steps=20)
    pairs = script.replay.sample(8).pairs["head"]
    viewed = pairs.viewed(lambda obs: obs + 1)
    own, seen = pairs[partners].anchor_obs, viewed[partners].anchor_obs
    assert own is not None and seen is not None
    for before, after in (
        (pairs[LATER].obs, viewed[LATER].obs),
        (pairs[UNROLL].obs, viewed[UNROLL].obs),
        (pairs[view], viewed[view]),
        (pairs[partners].obs, viewed[partners].obs),
        (own, seen),
    ):
        assert torch.equal(before + 1, after)
    assert torch.equal(pairs[TIME].step, viewed[TIME].step)


def test_impossible_needs_are_refused() -> None:
    for wrong in (lambda: LaterSteps((0,)), lambda: SecondView(0), lambda: Noise(-1), lambda: Unroll(0)):
        with pytest.raises(ValueError, match="at least"):
            wrong()
    with pytest.raises(ValueError, match=r"aux\.temporal: offset must be at least 1, not 0"):
        named_heads({"temporal": {"offset": 0}}, (3,))
