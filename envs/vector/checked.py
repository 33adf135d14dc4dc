"""One environment as agents take it: its spaces fitted, and everything it hands over compared with them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from rlrep.contract.env import Array, Savable, Tree
from rlrep.settings import UserError, complete

from .fitting import Misfit, NotFinite, Reader, fit_actions, fit_observations, short
from .losses import raised

LARGEST = float(np.finfo(np.float32).max)
"""Rewards are kept as float32."""
Answer = tuple[Array, float, bool, bool, Mapping[str, Any]]

STATELESS = (
    *(wrappers.OrderEnforcing, wrappers.PassiveEnvChecker, wrappers.TimeLimit),
    *(wrappers.RescaleAction, wrappers.ClipAction, wrappers.TransformAction, wrappers.ClipReward),
    *(wrappers.TransformReward, wrappers.RescaleObservation, wrappers.FlattenObservation),
    *(wrappers.ReshapeObservation, wrappers.DtypeObservation, wrappers.FilterObservation),
    *(wrappers.GrayscaleObservation, wrappers.ResizeObservation, wrappers.TransformObservation),
)
"""gymnasium's wrappers that hold nothing but a time limit's count: the state is then that of what they wrap."""


class BadEnvironment(UserError, ValueError):
    """An environment breaks its own promise: a mistake in its code, which no fresh episode mends."""


@dataclass(frozen=True)
class Description:
    """What an environment is like, its spaces as agents take them (see `fitting`).

    frame_stack, action_repeat: the environment's, or a wrapped one's, 1 where none says. exact: it has `state()` and
    `load_state()`, without which a resumed run begins a new episode. notes: what was fitted, a line each.
    """

    observation_space: spaces.Box
    action_space: spaces.Box | spaces.Discrete
    frame_stack: int
    action_repeat: int
    gives_score: bool
    exact: bool
    notes: tuple[str, ...]


class Checked:
    """Wraps an environment. Raises ValueError for spaces that agents cannot take."""

    def __init__(self, env: Any) -> None:
        if not (hasattr(env, "observation_space") and hasattr(env, "action_space")):
            raise ValueError(f"make() returned {type(env).__name__}, which has no observation_space and action_space")
        self.env, self.name = env, _name(env)
        try:
            observations, actions = fit_observations(env.observation_space), fit_actions(env.action_space)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        self._read, self._act, self._saver = observations.convert, actions.convert, _saver(env)
        self.description = Description(
            observations.space,
            actions.space,
            self._count("frame_stack"),
            self._count("action_repeat"),
            bool(_known(env, "gives_score", False)),
            self._saver is not None,
            tuple(f"{self.name}: {part.note}" for part in (observations, actions) if part.note),
        )
        self._stack, channels = self.description.frame_stack, observations.space.shape[0]
        if channels % self._stack:
            raise ValueError(
                f"{self.name}: observations {observations.space.shape} are no stack of {self._stack} frames"
            )
        self._steps, self._unproved = 0, self._stack > 1
        self._last: Array | None = None
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] | None = None  # until known, nothing is exactly as promised
        self._zero: Callable[[Array], float] = float
        if not self._unproved:
            self._expect()

    def reset(self, *, seed: int | None = None) -> Array:
        """Start an episode and return its observation. Raises BadEnvironment, NotFinite, or the environment's own."""
        self._steps = 0
        answer = self.env.reset(seed=seed)
        if type(answer) is not tuple or len(answer) != 2 or not isinstance(answer[1], Mapping):
            raise BadEnvironment(f"{self.name}: reset() returned {_kind(answer)}, expected (observation, info)")
        obs = self._observe(answer[0])
        if self._unproved:
            self._prove_stack(obs, begins=True)
        return obs

    def step(self, action: Array) -> Answer:
        """Take an action of `action_space`. Raises BadEnvironment, NotFinite, or the environment's own.

        What is as promised to the letter is seen to be so at once: a microsecond counts here.
        """
        self._steps += 1
        answer = self.env.step(action if self._act is None else self._act(action))
        if type(answer) is tuple and len(answer) == 5:
            obs, reward, terminated, truncated, info = answer
            if (
                (type(obs) is np.ndarray and obs.dtype is self._dtype and obs.shape == self._shape)
                and (type(reward) is float and type(terminated) is type(truncated) is bool and type(info) is dict)
                and (-LARGEST < reward < LARGEST and isfinite(self._zero(obs)))
            ):
                return answer
        return self._read_answer(answer)

    def state(self) -> Tree:
        """Return everything `load_state` needs, None where the environment cannot say it. Raises BadEnvironment."""
        if self._saver is None:
            return None
        try:
            return self._saver.state()
        except Exception as error:
            raise BadEnvironment(f"{self.name}: state() failed: {raised(error)}") from error

    def load_state(self, state: Tree) -> Array:
        """Return to a saved state and return its observation. Raises RuntimeError or ValueError if that fails."""
        if self._saver is None:
            raise ValueError(f"{self.name} has no load_state(), the saved state was of one that had")
        try:
            given = self._saver.load_state(state)
        except Exception as error:
            raise RuntimeError(
                f"{self.name}: load_state() failed: {raised(error)}"
            ) from error  # the state may be at fault
        obs = self._observe(given)
        self._last = obs.copy()
        return obs

    def set_task(self, task: Any) -> None:
        """Play a task from the next reset on. Raises BadEnvironment where there are none, or the environment's own."""
        set_task = _known(self.env, "set_task", None)
        if set_task is None:
            raise BadEnvironment(f"{self.name} has no tasks (no set_task): choose a family of tasks")
        set_task(task)

    def labels(self) -> Mapping[str, float]:
        """Return what probes look for, nothing where the environment does not say. Raises BadEnvironment."""
        ask = _known(self.env, "labels", None)
        try:
            labels: Mapping[str, float] = {} if ask is None else dict(ask())
        except Exception as error:
            raise BadEnvironment(f"{self.name}: labels() failed: {raised(error)}") from error
        if not all(isinstance(value, (int, float, np.number)) for value in labels.values()):
            raise BadEnvironment(f"{self.name}: labels() returned {short(labels)}, expected a number by name")
        return labels

    def render(self) -> Any:
        try:
            return self.env.render()
        except Exception as error:
            raise RuntimeError(f"{self.name}: render() failed: {raised(error)}") from error

    def close(self) -> None:
        """End it; what fails at that has nothing left to lose."""
        with suppress(Exception):
            self.env.close()

    @property
    def where(self) -> str:
        """What is under way, in words."""
        return f"{self.name}: " + (f"step {self._steps} of an episode" if self._steps else "reset()")

    def _read_answer(self, answer: Any) -> Answer:
        """Return a step's answer as agents take it. Raises BadEnvironment or NotFinite, which name what is wrong."""
        if type(answer) is not tuple or len(answer) != 5:
            raise BadEnvironment(
                f"{self.where} returned {_kind(answer)}, expected (observation, reward, terminated, truncated, info)"
            )
        given, reward, terminated, truncated, info = answer
        reward = self._number(reward)
        if not -LARGEST < reward < LARGEST:
            raise NotFinite(f"{self.where} returned the reward {reward}")
        if not isinstance(info, Mapping):
            raise BadEnvironment(f"{self.where} returned info of type {type(info).__name__}, expected a dict")
        ends = self._flag("terminated", terminated), self._flag("truncated", truncated)
        obs = self._observe(given)
        if self._unproved:
            self._prove_stack(obs, begins=False)
        return obs, reward, *ends, info

    def _observe(self, given: Any) -> Array:
        assert self._read is not None
        try:
            return self._read(given)  # type: ignore[no-any-return]
        except Misfit as error:
            raise BadEnvironment(f"{self.where} returned {error}") from error
        except NotFinite as error:
            raise NotFinite(f"{self.where} returned {error}") from error

    def _number(self, reward: Any) -> float:
        """Return a reward that is no plain float: any single number."""
        array = np.asarray(reward)
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise BadEnvironment(f"{self.where} returned a reward of {_kind(reward)}, expected one number")
        return float(array.reshape(()))

    def _flag(self, name: str, value: Any) -> bool:
        if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
            return bool(value)
        raise BadEnvironment(f"{self.where} returned {name}={value!r}, expected True or False")

    def _count(self, name: str) -> int:
        value = _known(self.env, name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{self.name}: {name} is {value!r}, expected a whole number from 1 on")
        return int(value)

    def _prove_stack(self, obs: Array, *, begins: bool) -> None:
        """Compare the first two observations with what a replay makes of their newest frames. Raises BadEnvironment."""
        size = len(obs) // self._stack
        if begins:
            older, expected = obs[:-size], np.concatenate([obs[-size:]] * (self._stack - 1))
        else:
            assert self._last is not None
            older, expected = obs[:-size], self._last[size:]
        if not np.array_equal(older, expected):
            rule = "the newest, repeated" if begins else "the newer ones of the observation before"
            raise BadEnvironment(
                f"{self.where} returned older frames that are not {rule}: is frame_stack={self._stack} right?"
            )
        self._last, self._unproved = obs.copy(), begins
        if not begins:
            self._expect()

    def _expect(self) -> None:
        """Say what a step's observation looks like that needs no converting."""
        if isinstance(self._read, Reader):
            self._shape, self._dtype, self._zero = self._read.shape, self._read.dtype, self._read.zero


class _Saver:
    """State of an environment behind stateless wrappers, with the counts of its time limits."""

    def __init__(self, env: Any, outer: list[gymnasium.Wrapper[Any, Any, Any, Any]]) -> None:
        self._env, self._outer = env, outer
        self._limits: list[Any] = [wrapper for wrapper in outer if isinstance(wrapper, wrappers.TimeLimit)]

    def state(self) -> Tree:
        """Return the environment's own state, with the time limits' where there are some."""
        state = self._env.state()
        return {"inner": state, "elapsed": [limit._elapsed_steps for limit in self._limits]} if self._outer else state

    def load_state(self, state: Tree) -> Any:
        """Return to a state; the wrappers see the observation as they would have."""
        if not self._outer:
            return self._env.load_state(state)
        self._outer[0].reset()  # so that they know of an episode
        obs = self._env.load_state(state["inner"])
        for limit, elapsed in zip(self._limits, state["elapsed"], strict=True):
            limit._elapsed_steps = elapsed
        for wrapper in reversed(self._outer):
            obs = wrapper.observation(obs) if isinstance(wrapper, gymnasium.ObservationWrapper) else obs
        return obs


def _saver(env: Any) -> _Saver | None:
    outer: list[gymnasium.Wrapper[Any, Any, Any, Any]] = []
    while isinstance(env, gymnasium.Wrapper) and not _saves(env):
        if not isinstance(env, STATELESS):
            return None
        outer.append(env)
        env = env.env
    return _Saver(env, outer) if _saves(env) else None


def _saves(env: Any) -> bool:
    """Whether an environment has methods of its own for what `Savable` names."""
    kind = complete(type(env), Savable)
    return kind.state is not Savable.state and kind.load_state is not Savable.load_state


def _known(env: Any, name: str, default: Any) -> Any:
    """Return an attribute of the environment, or of what its wrappers wrap."""
    while not hasattr(env, name) and isinstance(env, gymnasium.Wrapper):
        env = env.env
    return getattr(env, name, default)


def _name(env: Any) -> str:
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(getattr(env, "unwrapped", env)).__name__


def _kind(answer: Any) -> str:
    """Say what came in place of what was expected."""
    if isinstance(answer, tuple):
        return f"{len(answer)} values"
    return f"an array of shape {answer.shape}" if isinstance(answer, np.ndarray) else type(answer).__name__
