"""Every call into an environment of one's own, and every attribute, may raise: the user reads one line."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlrep.config.simulators import build_envs, evaluation_variant, scoring_of, tasks_of, wait
from rlrep.contract.env import EnvConfig, Task, TaskSet
from rlrep.envs.vector.losses import MAX_LOSSES
from rlrep.loops.frames import collect_frames
from rlrep.settings import UserError

from .people import OBSERVATIONS, Steady

TASK = Task("only", {})
ATTRIBUTES = ("observation_space", "action_space", "frame_stack", "action_repeat", "gives_score", "spec", "unwrapped")


class Own(Steady):
    """Has all that an environment may have; `breaks` names what fails."""

    render_mode, frame_stack, action_repeat, gives_score = "rgb_array", 1, 1, False

    def __init__(self, breaks: str) -> None:
        self.breaks = breaks

    def set_task(self, task: Task) -> None:
        self.task = task

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)

    def __getattribute__(self, name: str) -> Any:
        if name == "breaks" or name != self.breaks:
            return super().__getattribute__(name)
        return _fail() if name in ATTRIBUTES else _fail


def _fail(*given: Any, **options: Any) -> Any:
    raise KeyError("joint lost")


@dataclass(frozen=True)
class Family(EnvConfig):
    breaks: str = ""
    num_envs: int = 1
    obs: str = "state"

    def make(self, seed: int) -> gymnasium.Env[Any, Any]:
        return _fail() if self.breaks == "make" else Own(self.breaks)

    def tasks(self) -> TaskSet:
        return TaskSet((TASK,), (TASK,))

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "breaks" or name != self.breaks or name == "make":
            return super().__getattribute__(name)
        return _fail() if name == "in_workers" else _fail


def use(config: Family, *, workers: bool) -> None:
    """Do all that runs do with an environment."""
    scoring_of(config), evaluation_variant(config), tasks_of(config)
    if workers:
        object.__setattr__(config, "in_workers", True)
    envs = build_envs(config, [0])
    try:
        envs.reset([0])
        envs.set_task(0, TASK)
        envs.restart(0, 1)
        for _ in range(MAX_LOSSES):
            envs.step_async(np.zeros((1, 1), np.float32))
            wait(envs)
        envs.load_state(envs.state())
        envs.render(0)
    finally:
        envs.close()


CALLS = ("make", "reset", "step", "set_task", "state", "load_state", "render")
OF_A_CONFIG = ("scoring", "evaluation", "tasks", "vector", "in_workers")


@pytest.mark.filterwarnings("ignore:environment")
@pytest.mark.parametrize("name", [*CALLS, *ATTRIBUTES, *OF_A_CONFIG])
def test_whatever_raises_is_one_line(name: str) -> None:
    kinds = (UserError, RuntimeError) if name in ("load_state", "render") else UserError
    with pytest.raises(kinds, match="joint lost") as error:
        use(Family(name), workers=False)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:environment")
def test_a_task_that_cannot_be_set_is_one_line_from_a_worker_too() -> None:
    with pytest.raises(UserError, match=r"5 times in a row.*joint lost"):
        use(Family("set_task"), workers=True)


def test_nothing_is_lost_by_an_end_that_fails() -> None:
    use(Family("close"), workers=False)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (TaskSet, r"the environment's tasks\(\) returned a type, expected a TaskSet"),
        (["task"], r"the environment's tasks\(\) returned a list, expected a TaskSet"),
    ],
)
def test_tasks_are_tasks(given: Any, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Family, "tasks", lambda config: given)
    with pytest.raises(UserError, match=line):
        tasks_of(Family())


class Seen(Steady):
    """Shows frames, and says what is in them."""

    observation_space: Any = OBSERVATIONS["channels_last"]
    found: Any = None

    def _see(self) -> Any:
        return self.observation_space.sample()

    def labels(self) -> Any:
        return self.found() if callable(self.found) else self.found


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (_fail, r"Seen: labels\(\) failed: KeyError: 'joint lost'"),
        (7, r"Seen: labels\(\) failed: TypeError"),
        ({"x": "left"}, r"Seen: labels\(\) returned \{'x': 'left'\}, expected a number by name"),
    ],
)
def test_labels_are_numbers(found: Any, line: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seen, "found", staticmethod(found) if callable(found) else found)
    monkeypatch.setattr(Family, "make", lambda config, seed: Seen())
    collect = partial(collect_frames, Family(), tmp_path / "frames.safetensors", steps=3, seed=0)
    with pytest.raises(UserError, match=line):
        collect()
