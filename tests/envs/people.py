"""An environment as people bring it, in every shape and with every mistake that the tests of the border ask for."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

STEPS = 10
"""Of an episode."""
BOX = spaces.Box(-9.0, 9.0, (2,), np.float32)
FLOATS = spaces.Box(0.0, 1.0, (3, 16, 16), np.float32)
OBSERVATIONS: Mapping[str, spaces.Space[Any]] = {
    "float64": spaces.Box(-9.0, 9.0, (2,), np.float64),
    "whole": spaces.Box(-9, 9, (2,), np.int64),
    "table": spaces.Box(-9.0, 9.0, (2, 3), np.float32),
    "number": spaces.Box(-9.0, 9.0, (), np.float32),
    "bits": spaces.MultiBinary(4),
    "which": spaces.Discrete(5),
    "many": spaces.MultiDiscrete([2, 3]),
    "dict": spaces.Dict({"arm": spaces.Box(-1.0, 1.0, (2,)), "mode": spaces.Discrete(3)}),
    "tuple": spaces.Tuple((spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3))),
    "memory": spaces.Box(0, 255, (128,), np.uint8),
    "channels_last": spaces.Box(0, 255, (16, 20, 3), np.uint8),
    "stacked": spaces.Box(0, 255, (4, 16, 20, 3), np.uint8),
    "floats": FLOATS,
    "bright": spaces.Box(0, 1, (3, 16, 16), np.uint8),
}
ACTIONS: Mapping[str, spaces.Space[Any]] = {
    "wide": spaces.Box(np.array([[0.0, -2.0]]), np.array([[10.0, 4.0]]), (1, 2), np.float64),
    "from_five": spaces.Discrete(3, start=5),
}
See = Callable[["PeoplesEnv"], Any]
MISTAKES: Mapping[str, tuple[spaces.Space[Any], See, str]] = {
    "one_number": (BOX, lambda env: np.zeros(1, np.float32), r"of shape \(1,\), its space has \(2,\)"),
    "a_row": (BOX, lambda env: np.zeros((1, 2), np.float32), r"of shape \(1, 2\), its space has \(2,\)"),
    "nothing": (BOX, lambda env: None, "of type NoneType, its space is a Box of arrays"),
    "words": (BOX, lambda env: ["a", "b"], "of type list, its space is a Box of numbers"),
    "two": (BOX, lambda env: (np.zeros(2, np.float32), {}), "of type tuple, its space is a Box of arrays"),
    "complex": (BOX, lambda env: np.zeros(2, np.complex64), "of type complex64, its space has float32"),
    "float_bytes": (
        spaces.Box(0, 255, (3, 8, 8), np.uint8),
        lambda env: np.full((3, 8, 8), 0.5, np.float32),
        "of type float32, its space has uint8",
    ),
    "large_bytes": (
        spaces.Box(0, 255, (3, 8, 8), np.uint8),
        lambda env: np.full((3, 8, 8), 300, np.int64),
        "values from 300 to 300, its space has 0 to 255",
    ),
    "bytes_as_floats": (FLOATS, lambda env: np.full((3, 16, 16), 255.0, np.float32), "pixels from 255 to 255"),
    "outside": (spaces.Discrete(3), lambda env: 3, r"not in its space Discrete\(3\): 3"),
    "below": (spaces.Discrete(3), lambda env: -1, r"not in its space Discrete\(3\): -1"),
    "other_keys": (OBSERVATIONS["dict"], lambda env: {"arm": np.zeros(2, np.float32)}, "not in its space Dict"),
}


@dataclass(frozen=True)
class Peoples:
    """Settings of `env=peoples`. see, act: names of spaces. fault: what goes wrong, at step `at` of its life."""

    see: str = "box"
    act: str = "box"
    fault: str = ""
    at: int = 0
    obs: str = "state"
    num_envs: int = 1
    in_workers: bool = False

    def make(self, seed: int) -> gymnasium.Env[Any, Any]:
        if self.fault == "make":
            raise AttributeError("no such joint")
        if self.fault == "limited":
            return wrappers.TimeLimit(wrappers.RescaleAction(Steady(), np.float32(-2), np.float32(2)), 7)
        if self.fault == "counted":
            return wrappers.RecordEpisodeStatistics(Steady())
        kinds = {"unsavable": Unsavable, "silent": Silent}
        return kinds[self.fault]() if self.fault in kinds else PeoplesEnv(self)


class PeoplesEnv(gymnasium.Env[Any, Any]):
    """Shows random numbers of its space for ten steps and pays the sum of what was done."""

    def __init__(self, config: Peoples) -> None:
        self.config, self.life = config, 0
        fault = MISTAKES.get(config.fault)
        self.observation_space = fault[0] if fault else OBSERVATIONS.get(config.see, BOX)
        self.action_space = ACTIONS.get(config.act, spaces.Box(-1.0, 1.0, (2,), np.float32))
        if config.fault == "no_stack":
            self.frame_stack, self.observation_space = 3, spaces.Box(0, 255, (9, 8, 8), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if self.config.fault == "bad_seed" and seed == 7:
            raise RuntimeError("no such level")
        if seed is not None:
            self.observation_space.seed(seed)
        self.time = 0
        return self._see() if self.config.fault == "reset_alone" else (self._see(), {})

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.time, self.life = self.time + 1, self.life + 1
        due = self.life == self.config.at
        reward, fault = float(np.sum(action)), self.config.fault
        if (due and fault == "raise") or (fault == "raise_always" and self.time == 3):
            raise KeyError("joint lost")
        if due and fault == "spin":
            while True:
                pass
        if due and fault == "sleep":
            time.sleep(1000)
        if fault == "four":
            return self._see(), reward, False, {}
        odd: dict[str, Any] = {"no_info": (False, None), "odd_end": ("no", {}), "endless": (False, {})}
        ended, info = odd.get(fault, (self.time >= STEPS, {}))
        rewards = {
            "nan_reward": np.nan if due else reward,
            "huge_reward": 1e300 if due else reward,
            "two_rewards": np.ones(2),
            "reward_array": np.ones((1,)),
        }
        return self._see(), rewards.get(fault, reward), False, ended, info

    def close(self) -> None:
        if self.config.fault == "raise":
            raise OSError("not even that")

    def _see(self) -> Any:
        fault = MISTAKES.get(self.config.fault)
        if fault:
            return fault[1](self)
        seen = self.observation_space.sample()
        if self.config.fault == "nan" and self.life == self.config.at:
            seen[0] = np.nan
        return seen


class Steady(gymnasium.Env[Any, Any]):
    """Counts, and can be saved."""

    observation_space, action_space = spaces.Box(-99.0, 99.0, (1,), np.float32), spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0.0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.count += float(action[0])
        return self._see(), self.count, False, False, {}

    def state(self) -> Any:
        return {"count": self.count}

    def load_state(self, state: Any) -> Any:
        self.count = state["count"]
        return self._see()

    def _see(self) -> Any:
        return np.array([self.count], np.float32)


class Silent(Steady):
    """Cannot say its state after all."""

    def state(self) -> Any:
        raise OSError("the robot does not answer")


class Unsavable(Steady):
    """Its state is no tree."""

    def state(self) -> Any:
        return {"simulator": object()}
