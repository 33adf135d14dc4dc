"""Frames that are not seen: which, in every stack that shows them, and by which seed."""

from typing import Any

import numpy as np
import pytest

from rlrep.envs.toy import EPISODE_STEPS, ToyPixels, ToyState
from rlrep.envs.vector import Flicker, make_vector


def play(chance: float, seeds: list[int]) -> tuple[Any, Any]:
    """Return observations `(T, N, S*C, 16, 16)` of one episode each, flickering and whole."""
    made = []
    for env in (Flicker(make_vector(ToyPixels(), seeds, workers=False), chance), None):
        envs = env or make_vector(ToyPixels(), seeds, workers=False)
        seen = [np.array(envs.reset(seeds))]
        for _ in range(EPISODE_STEPS - 1):
            envs.step_async(np.ones((len(seeds), 1), np.float32))
            seen.append(np.array(envs.step_wait().obs))
        made.append(np.stack(seen))
    return made[0], made[1]


def test_a_frame_is_blank_or_whole_in_every_stack_that_shows_it() -> None:
    flickering, whole = (obs.reshape(EPISODE_STEPS, 2, 3, -1) for obs in play(0.5, [4, 5]))
    blank = (flickering == 0).all(3)
    assert np.array_equal(flickering[~blank], whole[~blank]) and not (whole == 0).all(3).any()
    assert np.array_equal(blank[1:, :, :-1], blank[:-1, :, 1:])
    assert np.array_equal(blank[0, :, 0], blank[0, :, 2])  # one frame fills the first stack
    assert 0.2 < blank[:, :, -1].mean() < 0.8 and not np.array_equal(blank[:, 0], blank[:, 1])


def test_its_draws_follow_from_the_episodes_seed_alone() -> None:
    both, alone = play(0.5, [4, 5])[0], play(0.5, [5])[0]
    assert np.array_equal(both[:, 1], alone[:, 0])
    envs = Flicker(make_vector(ToyPixels(), [0, 0], workers=False), 0.5)
    envs.reset([1, 2])
    assert np.array_equal(envs.restart(1, 5), alone[0, 0])
    none, whole = play(0.0, [4])
    assert np.array_equal(none, whole)


def test_an_episodes_end_is_seen_as_it_was_and_the_next_begins_anew() -> None:
    envs = Flicker(make_vector(ToyPixels(), [3], workers=False), 1.0)
    envs.reset([3])
    for _ in range(EPISODE_STEPS):
        envs.step_async(np.ones((1, 1), np.float32))
        step = envs.step_wait()
    assert step.truncated[0] and not step.final_obs.any() and not step.obs.any()


@pytest.mark.parametrize(("config", "chance"), [(ToyState(), 0.5), (ToyPixels(), 1.5)])
def test_what_cannot_flicker_is_refused(config: Any, chance: float) -> None:
    with pytest.raises(ValueError, match=r"env\.flicker"):
        Flicker(make_vector(config, [0], workers=False), chance)
