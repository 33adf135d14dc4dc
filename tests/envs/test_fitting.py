"""Spaces as people declare them: turned into those of agents without loss, or refused in one line."""

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlrep.envs.dmc.env import DMC
from rlrep.envs.toy import ToyPixels, ToyState
from rlrep.envs.vector.checked import BadEnvironment, Checked
from rlrep.envs.vector.fitting import NotFinite, fit_actions, fit_observations

from .people import ACTIONS, MISTAKES, OBSERVATIONS, STEPS, Peoples


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_ordinary_space_is_played(name: str) -> None:
    """Against gymnasium's own flattening, or the arithmetic of the bounds."""
    env, twin = Checked(Peoples(name).make(0)), Peoples(name).make(0)
    space, theirs = env.description.observation_space, twin.observation_space
    shown = [env.reset(seed=3), *(env.step(np.zeros(2, np.float32))[0] for _ in range(STEPS))]
    seen = [twin.reset(seed=3)[0], *(twin.step(np.zeros(2, np.float32))[0] for _ in range(STEPS))]
    for ours, given in zip(shown, seen, strict=True):
        assert ours.dtype == space.dtype and ours.shape == space.shape and space.contains(ours)
        if space.dtype == np.float32:
            flat = spaces.flatten(theirs, given)
            assert np.array_equal(ours, np.asarray(flat, np.float32).reshape(-1))
        else:
            assert isinstance(theirs, spaces.Box)
            share = (given - theirs.low.astype(float)) / (theirs.high.astype(float) - theirs.low)
            expected = np.moveaxis(share, -1, -3) if share.shape[-1] == 3 else share
            assert np.abs(ours - 255 * expected.reshape(space.shape)).max() <= 0.5
    assert len({obs.tobytes() for obs in shown}) > 1
    assert bool(env.description.notes) == (name != "float64"), "a change of type alone is not worth a line"


def test_own_spaces_are_not_touched() -> None:
    for config in (ToyState(), ToyPixels(), DMC("cartpole", "swingup", "state", 8)):
        plain = config.make(0)
        env = Checked(config.make(0))
        assert env.description.observation_space == plain.observation_space and env.description.notes == ()
        assert env.description.action_space == plain.action_space and env.description.exact
        assert np.array_equal(env.reset(seed=1), plain.reset(seed=1)[0])


@pytest.mark.parametrize(
    ("action", "expected"),
    [([-1.0, -1.0], [[0.0, -2.0]]), ([1.0, 1.0], [[10.0, 4.0]]), ([0.0, 0.5], [[5.0, 2.5]])],
)
def test_actions_fill_the_bounds(action: Any, expected: Any) -> None:
    fitted = fit_actions(ACTIONS["wide"])
    assert fitted.space == spaces.Box(-1.0, 1.0, (2,), np.float32) and fitted.convert is not None
    theirs = fitted.convert(np.array(action, np.float32))
    assert theirs.dtype == np.float64 and np.array_equal(theirs, expected) and ACTIONS["wide"].contains(theirs)


def test_numbered_actions_begin_where_the_environments_do() -> None:
    env = Checked(Peoples(act="from_five").make(0))
    assert env.description.action_space == spaces.Discrete(3)
    env.reset(seed=0)
    assert [env.step(np.int64(action))[1] for action in range(3)] == [5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("space", "line"),
    [
        (spaces.Graph(spaces.Box(0, 1), spaces.Discrete(2)), "have no fixed size"),
        (spaces.Sequence(spaces.Discrete(2)), "have no fixed size"),
        (spaces.Box(-np.inf, np.inf, (3, 8, 8), np.float32), "need one finite low and high"),
        (spaces.Box(np.zeros((3, 8, 8)), np.arange(1.0, 193.0).reshape(3, 8, 8)), "need one finite low and high"),
        (spaces.Box(0, 255, (4, 8, 8, 7), np.uint8), r"must be \(stack, height, width, channels\)"),
        (spaces.Box(0, 1, (0,)), "hold no numbers"),
        (spaces.Discrete(10**10), "are 10,000,000,000 numbers each"),
        ((2,), "observation_space is a tuple, expected one of gymnasium's spaces"),
        (
            spaces.Dict({"camera": spaces.Box(0, 255, (3, 8, 8), np.uint8), "arm": spaces.Box(0, 1, (2,))}),
            "hold the frames .* beside others",
        ),
    ],
)
def test_observations_that_agents_cannot_read_are_refused(space: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        fit_observations(space)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "line"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "no finite bounds"),
        (spaces.Box(np.array([-1.0, -np.inf]), np.array([1.0, 1.0])), "no finite bounds"),
        (spaces.MultiDiscrete([3, 3]), "are not supported"),
        (spaces.MultiBinary(3), "are not supported"),
        (spaces.Box(-1, 1, (0,)), "there is nothing to choose"),
        (spaces.Box(0, 5, (2,), np.int64), "are not supported"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "are not supported"),
    ],
)
def test_actions_that_agents_cannot_choose_are_refused(space: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        fit_actions(space)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", MISTAKES)
def test_what_is_not_of_the_space_is_named(fault: str) -> None:
    env = Checked(Peoples(fault=fault).make(0))
    with pytest.raises(BadEnvironment, match=rf"^PeoplesEnv: reset\(\) returned .*{MISTAKES[fault][2]}"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("reset_alone", r"reset\(\) returned an array of shape \(2,\), expected \(observation, info\)"),
        ("four", r"step 1 of an episode returned 4 values, expected \(observation, reward, terminated"),
        ("no_info", "step 1 of an episode returned info of type NoneType"),
        ("odd_end", "step 1 of an episode returned truncated='no'"),
        ("two_rewards", r"returned a reward of an array of shape \(2,\), expected one number"),
        ("no_stack", r"reset\(\) returned older frames that are not the newest, repeated: is frame_stack=3 right"),
    ],
)
def test_answers_that_are_not_gymnasiums_are_named(fault: str, line: str) -> None:
    env = Checked(Peoples(fault=fault).make(0))
    with pytest.raises(BadEnvironment, match=line):
        env.reset(seed=0)
        env.step(np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("fault", "line"),
    [("nan", r"not finite: \[ *nan"), ("nan_reward", "the reward nan"), ("huge_reward", r"the reward 1e\+300")],
)
def test_nan_names_the_environment_and_the_step(fault: str, line: str) -> None:
    env = Checked(Peoples(fault=fault, at=4).make(0))
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(NotFinite, match=rf"^PeoplesEnv: step 4 of an episode returned .*{line}"):
        env.step(np.zeros(2, np.float32))


def test_numbers_of_other_types_are_taken() -> None:
    env = Checked(Peoples(fault="reward_array").make(0))
    env.reset(seed=0)
    assert env.step(np.zeros(2, np.float32))[1] == 1.0


class Sliding(gymnasium.Env[Any, Any]):
    """A stack of three frames that the newest enters at the wrong end."""

    frame_stack = 3
    observation_space = spaces.Box(0, 255, (3, 4, 4), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.stack = np.zeros((3, 4, 4), np.uint8)
        return self.stack.copy(), {}

    def step(self, action: Any) -> Any:
        self.stack[1:], self.stack[0] = self.stack[:-1].copy(), self.stack[0] + 1
        return self.stack.copy(), 0.0, False, False, {}


def test_a_stack_that_does_not_slide_is_found_at_its_first_step() -> None:
    env = Checked(Sliding())
    env.reset(seed=0)
    with pytest.raises(BadEnvironment, match=re.escape("older frames that are not the newer ones of the observation")):
        env.step(np.int64(0))
