"""What heads add to the batch, against the slow twin: later observations, times, return bins, views, noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrep.replay import UNKNOWN, Batch, Needs, Replay, ReturnLabels

from .replay_twin import CPU, Script, copy_replay, make_script, make_spec

OFFSETS = (1, 2, 5)
BINS = ReturnLabels("return_bin", bins=4, horizon=3)
NEEDS = {"head": Needs(later=OFFSETS, bins=BINS, time=True), "pairs": Needs(pairs=ReturnLabels("reward_event"))}
Key = tuple[int, int]


def check_later(script: Script, batch: Batch, keys: list[Key]) -> None:
    """The observation k steps on is the twin's, the episode's last where it stops sooner; actions lead there."""
    later = batch.extra["head"].later
    assert later is not None and later.obs.shape[:2] == (len(OFFSETS), len(keys)) and len(later.action) == max(OFFSETS)
    for key, row in {key: row for row, key in enumerate(keys)}.items():
        episode, index = script.twin.where[key]
        rest = len(episode.rewards) - index
        for k, offset in enumerate(OFFSETS):
            assert bool(later.valid[k, row]) == (offset <= rest)
            want = script.twin.stack(episode, index + min(offset, rest))
            np.testing.assert_array_equal(later.obs[k, row].numpy(), want)
        seen = [key for action in later.action[:rest, row] for key in script.keys(action[None])]
        assert seen == [(key[0] + k, key[1]) for k in range(min(rest, max(OFFSETS)))]


def check_times(script: Script, batch: Batch, keys: list[Key]) -> None:
    """Two rows have one episode number exactly if the twin has them in one episode; steps count vector steps."""
    time, pairs = batch.extra["head"].time, batch.extra["pairs"].pairs
    assert time is not None and pairs is not None and pairs.positive_time is not None and pairs.anchor_time is not None
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
        check_times(script, batch, keys)
        bins, returns = batch.extra["head"].bins, script.twin.returns(BINS)
        assert bins is not None
        assert [number == UNKNOWN for number in bins.tolist()] == [key not in returns for key in keys]


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**16),
    num_envs=st.integers(1, 3),
    frame_stack=st.integers(1, 3),
    n_step=st.integers(1, 3),
    steps=st.integers(4, 20),
    pixels=st.booleans(),
    discrete=st.booleans(),
    end=st.sampled_from([0.0, 0.1, 0.6]),
    death=st.sampled_from([0.0, 0.05]),
)
def test_extras_equal_the_twins(
    seed: int,
    num_envs: int,
    frame_stack: int,
    n_step: int,
    steps: int,
    pixels: bool,
    discrete: bool,
    end: float,
    death: float,
) -> None:
    spec = make_spec(
        num_envs=num_envs, steps=steps, frame_stack=frame_stack, n_step=n_step, pixels=pixels, discrete=discrete
    )
    script = make_script(spec, NEEDS, seed=seed, end=end, death=death)
    for count in (1, steps // 2 + 1, 2 * steps):
        script.run(count)
        check_extras(script)
    script.begin()
    script.run(4)
    check_extras(script)


def test_extras_resume_bit_for_bit() -> None:
    needs = {**NEEDS, "noisy": Needs(noise=3, second_view=True, views=2)}
    script = make_script(make_spec(num_envs=2, steps=20, frame_stack=2), needs, end=0.2, steps=33)
    other = copy_replay(script.replay)
    script.followers.append(other)
    for _ in range(4):
        script.run(7)
        mine, theirs = (replay.sample(32).extra for replay in (script.replay, other))
        later, same = mine["head"].later, theirs["head"].later
        assert later is not None and same is not None
        assert torch.equal(later.obs, same.obs) and torch.equal(later.valid, same.valid)
        for name in ("bins", "noise"):
            pairs = [(getattr(mine[head], name), getattr(theirs[head], name)) for head in needs]
            assert all(torch.equal(a, b) for a, b in pairs if a is not None)


def test_views_repeat_and_noise_is_uniform() -> None:
    script = make_script(make_spec(), {"head": Needs(second_view=True, views=3, noise=50)}, steps=20)
    batch = script.replay.sample(100)
    extra = batch.extra["head"]
    assert extra.second_view is not None and extra.noise is not None and extra.noise.shape == (100, 50)
    assert torch.equal(extra.second_view, batch.obs.repeat(3, 1))
    assert extra.noise.min() >= 0 and extra.noise.max() < 1 and abs(extra.noise.mean() - 0.5) < 0.02


def test_every_observation_is_viewed() -> None:
    needs = {"head": Needs(later=OFFSETS, second_view=True, pairs=ReturnLabels("reward_event"), anchors="segment")}
    script = make_script(make_spec(), needs, steps=20)
    extra = script.replay.sample(8).extra["head"]
    viewed = extra.viewed(lambda obs: obs + 1)
    assert extra.later and viewed.later and extra.pairs and viewed.pairs
    assert extra.second_view is not None and viewed.second_view is not None
    assert extra.pairs.anchor_obs is not None and viewed.pairs.anchor_obs is not None
    for before, after in (
        (extra.later.obs, viewed.later.obs),
        (extra.second_view, viewed.second_view),
        (extra.pairs.obs, viewed.pairs.obs),
        (extra.pairs.anchor_obs, viewed.pairs.anchor_obs),
    ):
        assert torch.equal(before + 1, after)


def test_impossible_needs_are_refused() -> None:
    for need in (Needs(later=(0,)), Needs(second_view=True, views=0), Needs(noise=-1)):
        with pytest.raises(ValueError, match=r"aux\.head"):
            Replay(make_spec(), device=CPU, seed=0, needs={"head": need})
