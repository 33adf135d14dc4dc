"""What environments and the loops around them promise each other. NumPy only: simulator processes import it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from gymnasium import Env, spaces
from numpy.typing import NDArray

Array = NDArray[Any]
Tree = Any
"""State of a component: nested dicts and lists of tensors, arrays, numbers, strings and None."""
HUMAN_NORMALISED = "human-normalised score"
"""The scale `(return - random) / (human - random)`."""


@dataclass(frozen=True)
class Step:
    """One step of N environments with same-step autoreset.

    obs `(N, ...)`: observation to act on next (the new episode's first where one ended).
    final_obs `(N, ...)`: observation the action led to (differs from `obs` only where an episode ended).
    reward, terminated, truncated `(N,)`.
    died `(N,)` bool: the worker was lost; its episode ends here and must not be trained on.
    success `(N,)`: flag of the step, NaN where the env has none.
    score `(N,)`: raw return of the whole game on the step that really ended it (see `gives_score`), else NaN.
    context_reward `(N,)`: the reward as known at test, where training is given a denser one; NaN = `reward`.
    """

    obs: Array
    final_obs: Array
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    died: NDArray[np.bool_]
    success: NDArray[np.float32]
    score: NDArray[np.float32]
    context_reward: NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """One task of a family.

    name: what logs and plots call it. parameters: plain numbers, strings and lists, all that `set_task` needs.
    vector: the same as numbers, of one length in the whole family, for agents that may see the task.
    """

    name: str
    parameters: dict[str, Any] = field(hash=False)
    vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class TaskSet:
    """A family's tasks; train and test are disjoint unless the family has too few for that."""

    train: tuple[Task, ...]
    test: tuple[Task, ...]


class VectorEnv(Protocol):
    """N environments stepped together (`envs/vector`).

    set_task: the task of one environment from its next episode on.
    gives_score: whether `Step.score` counts in place of an episode's summed rewards (which may be clipped, and episodes
    parts of games). exact: whether `state()` holds everything; if not, `load_state` begins new episodes and the next
    step says that the old ones were lost. notes: what is worth saying of the environment, a line each.
    """

    num_envs: int
    single_observation_space: spaces.Box
    single_action_space: spaces.Box | spaces.Discrete
    frame_stack: int  # frames in one observation; 1 for states
    action_repeat: int  # env steps per agent step
    gives_score: bool
    exact: bool

    @property
    def notes(self) -> Sequence[str]: ...
    def reset(self, seeds: list[int] | None = None) -> Array: ...
    def set_task(self, index: int, task: Task) -> None: ...
    def restart(self, index: int, seed: int) -> Array: ...
    def step_async(self, actions: Array) -> None: ...
    def step_wait(self) -> Step: ...
    def render(self, index: int) -> NDArray[np.uint8]: ...
    def state(self) -> list[Tree]: ...
    def load_state(self, states: list[Tree]) -> Array: ...
    def close(self) -> None: ...


class Savable:
    """What an environment may do besides: say where its simulator is, and bring it back there."""

    def state(self) -> Tree:
        """Return everything, in the middle of an episode too."""
        raise ValueError(f"{type(self).__name__} has no state()")

    def load_state(self, state: Tree) -> Array:
        """Go back there, and return the observation that was last."""
        raise ValueError(f"{type(self).__name__} has no load_state()")


class EnvMaker(Protocol):
    """Makes an environment: any of gymnasium's whose spaces `envs/vector/fitting.py` takes.

    Optional in the environment: `frame_stack` and `action_repeat`, 1 without; `state()` and `load_state(state)`,
    without which a resumed run begins a new episode; `gives_score = True` where `info["score"]` is the raw return of
    a whole game, on the step that really ended it (rewards may be clipped, and episodes parts of games).
    """

    def make(self, seed: int) -> Env[Any, Any]: ...


@dataclass(frozen=True)
class Scoring:
    """How the returns of an environment become scores, as its run folders say it (`scoring.json`).

    suite: tasks whose scores are averaged with one another; None = this one alone.
    task: its name in the suite and in published tables; None = the `env=` choice.
    scale: what the score is called; `return` where it is the return itself.
    zero, one: returns that score 0 and 1 (as of random play and of people); None = not known.
    references: returns to draw into the learning curve, by name (`random`, `human`, `optimal`).
    table: the published scores of the same protocol, a file of `rlrep/scores/data`.
    remark: how runs with and without heads differ besides; for the agent to say (`AgentConfig.remark`).
    """

    suite: str | None = None
    task: str | None = None
    scale: str = "return"
    zero: float | None = None
    one: float | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    table: str | None = None
    remark: str | None = None

    def __post_init__(self) -> None:
        if self.zero is not None and self.zero == self.one:
            raise ValueError(f"the returns that score 0 and 1 are both {self.zero}: they must differ")


class EnvConfig:
    """An `env=` choice: the dataclass behind its `_target_`, with what it need not say for itself.

    A dataclass that does not inherit from this one is completed by it where it is read (`rlrep.settings.complete`).

    num_envs: simulators of the training env.
    obs: `pixels` or `state`, which picks encoder and agent settings; None = pixels where the config has a `size`.
    in_workers: whether the simulators run in processes of their own; None = where there are several.
    presets: the case of `when`, in presets' and heads' files, that holds for it.
    horizon: of a family of tasks, agent steps of an episode, at most.
    random_return, human_return, optimal_return: known returns, which `scoring` draws into the learning curve; the
    first two normalise scores.
    """

    num_envs: int = 1
    obs: str | None = None
    in_workers: bool | None = None
    presets: ClassVar[str | None] = None
    horizon: int = 0
    random_return: float | None = None
    human_return: float | None = None
    optimal_return: float | None = None

    @classmethod
    def is_family(cls) -> bool:
        """Whether this is a family of tasks: a config that has `tasks`."""
        return cls.tasks is not EnvConfig.tasks

    def make(self, seed: int) -> Env[Any, Any]:
        """Build one simulator, as `envs/vector` takes it."""
        raise TypeError(f"{type(self).__name__} has no make(seed)")

    def vector(self, seeds: list[int]) -> VectorEnv | None:
        """Return a vector environment of its own; None = ours, from `make`."""
        return None

    def evaluation(self) -> "EnvConfig":
        """Return what evaluation plays, where that differs from training."""
        return self

    def tasks(self) -> TaskSet | None:
        """Return a family's tasks, the same ones for the same options; None for a single task."""
        return None

    def scoring(self) -> Scoring:
        """Return how its returns become scores: human-normalised (Mnih et al. 2015) where both returns are known."""
        known = {"random": self.random_return, "human": self.human_return, "optimal": self.optimal_return}
        references = {name: float(level) for name, level in known.items() if level is not None}
        if not {"random", "human"} <= references.keys():
            return Scoring(references=references)
        return Scoring(
            scale=HUMAN_NORMALISED, zero=references["random"], one=references["human"], references=references
        )
