"""Meta-World's 50 environments (Yu et al. 2019, arXiv 1910.10897; `metaworld` 3.1.1) and its benchmarks' goals."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Task
from rlrep.settings import hint

from ..render import gl

GOALS = 50  # that a benchmark draws for each of its environments, for training and again for the test
SEEDS = (0, 2**32 - 2)  # that numpy's generator, which the package uses, takes
PLACES = 6  # numbers of the longest goal: an object's place and a target's


def _names(text: str) -> tuple[str, ...]:
    return tuple(f"{name}-v3" for name in text.split())


HIDDEN_GOALS = _names(
    """
    assembly basketball box-close coffee-pull coffee-push hand-insert peg-insert-side pick-out-of-hole pick-place
    pick-place-wall plate-slide-back-side plate-slide-back plate-slide-side plate-slide push-back push push-wall reach
    reach-wall shelf-place soccer stick-pull stick-push
    """
)
"""Environments whose target cannot be told from the first observation when the goal is left out of it: the default
comparison set for meta-RL (docs/metaworld.md)."""

VISIBLE_GOALS = _names(
    """
    button-press-topdown button-press-topdown-wall button-press button-press-wall coffee-button dial-turn door-close
    door-lock door-open door-unlock drawer-close drawer-open faucet-close faucet-open handle-press-side handle-press
    handle-pull-side handle-pull lever-pull peg-unplug-side sweep window-close window-open
    """
)
"""Environments whose target is a linear function of the first observation: there is nothing to adapt to."""

CONSTANT_GOALS = ("bin-picking-v3", "hammer-v3", "sweep-into-v3")
"""Environments with one target for all goals; only the object, which is seen, moves."""

PARTLY_HIDDEN_GOALS = ("disassemble-v3",)
"""Environments whose target follows the first observation, but for a small rest."""

NAMES = tuple(sorted(HIDDEN_GOALS + VISIBLE_GOALS + CONSTANT_GOALS + PARTLY_HIDDEN_GOALS))


def check_name(name: str) -> None:
    """Raise ValueError, with the nearest name, if Meta-World has no environment `name`."""
    if name not in NAMES:
        raise ValueError(f"env.task={name} is unknown{hint(name, NAMES)}")


def build(name: str, reward_version: str = "v2") -> Any:
    """Return one of Meta-World's environments, ready for a goal."""
    gl.load_mujoco()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
    env._set_task_called = True  # its own `set_task` takes pickled bytes only
    return env


@lru_cache
def benchmark(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the environments of `ML10`, `ML45` or `MT10`, for training and for the test."""
    gl.load_mujoco()
    from metaworld import env_dict

    if name == "MT10":
        return tuple(env_dict.MT10_V3), tuple(env_dict.MT10_V3)
    split = {"ML10": env_dict.ML10_V3, "ML45": env_dict.ML45_V3}[name]
    return tuple(split["train"]), tuple(split["test"])


@lru_cache
def goals(names: tuple[str, ...], seed: int) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Return the 50 goals that Meta-World's benchmark classes draw for each of `names` from `seed`.

    They are drawn one environment after another from one stream, so the order counts. The package seeds numpy's global
    generator for this; here the same numbers come from a generator of its own, without simulating.
    """
    random = np.random.RandomState(seed)
    return {name: tuple(_draw(build(name), random)) for name in names}


def _draw(env: Any, random: np.random.RandomState) -> list[tuple[float, ...]]:
    """Reset as the package does, twice for each goal; only the last draw that the environment accepts counts."""
    space = env._random_reset_space
    last: list[NDArray[np.float64]] = []

    def draw() -> NDArray[np.float64]:
        last[:] = [random.uniform(space.low, space.high, space.low.size)]
        return last[0]

    env._get_state_rand_vec = draw
    env.do_simulation = lambda *_: None  # what is accepted depends on the draw only
    env._get_obs = lambda: np.zeros(39)
    found = []
    for _ in range(GOALS):
        env.reset()
        found.append(tuple(last[0].tolist()))
    return found


def make_tasks(names: Sequence[str], seed: int, count: int, *, split: str, known: Sequence[str]) -> tuple[Task, ...]:
    """Return the first `count` goals of each of `names` as tasks.

    known: all environments of the family; a task's vector is its goal, padded with zeros to length 6, in metres, and,
    where there are several environments, which of them it is, one-hot.
    """
    drawn = goals(tuple(names), seed)
    return tuple(
        Task(f"{name}/{split}-{index}", {"env": name, "rand_vec": list(goal)}, _vector(name, goal, known))
        for name in names
        for index, goal in enumerate(drawn[name][:count])
    )


def one_hot(name: str, known: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(other == name) for other in known)


def _vector(name: str, goal: tuple[float, ...], known: Sequence[str]) -> tuple[float, ...]:
    padded = goal + (0.0,) * (PLACES - len(goal))
    return padded + (one_hot(name, known) if len(known) > 1 else ())
