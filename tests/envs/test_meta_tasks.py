"""The tasks of PEARL's families: draws, distributions, settings, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from rlrep.contract.env import Task, TaskSet
from rlrep.envs.families.rand_params import HopperRandParams, WalkerRandParams
from rlrep.envs.families.running import AntDir, AntGoal, CheetahDir, CheetahVel, HumanoidDir
from rlrep.settings import coerce, groups

from .meta_families import FAMILIES, each

MANY = [name for name in FAMILIES if name not in ("cheetah_dir", "ant_dir")]


def all_tasks(name: str) -> tuple[Task, ...]:
    tasks: TaskSet = FAMILIES[name].tasks()
    return tasks.train + tasks.test


@each
def test_tasks_are_the_familys_own(name: str) -> None:
    family = FAMILIES[name]
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    tasks = family.tasks()
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.random.seed(99)
    assert family.tasks() == tasks, "whatever the global generator"
    assert (len(tasks.train), len(tasks.test)) == (family.train_tasks, family.test_tasks)
    assert len({len(task.vector) for task in all_tasks(name)}) == 1
    if name not in MANY:
        assert tasks.train == tasks.test and len(set(tasks.train)) == 2
        return
    assert len({task.vector for task in all_tasks(name)}) == len({task.name for task in all_tasks(name)})
    assert len({task.vector for task in all_tasks(name)}) == family.train_tasks + family.test_tasks, "disjoint"
    assert replace(family, task_seed=1).tasks() != tasks
    if name != "sparse_point_robot":
        assert replace(family, train_tasks=3).tasks().test == tasks.test


def test_tasks_are_distributed_as_in_the_paper() -> None:
    def vectors(family: Any) -> Any:
        return np.array([task.vector for task in replace(family, train_tasks=2000).tasks().train])

    speeds = vectors(CheetahVel())
    assert 0 <= speeds.min() < 0.1 and 2.9 < speeds.max() <= 3 and abs(speeds.mean() - 1.5) < 0.1
    for family in (HumanoidDir(), AntDir(9, 9, directions="random")):
        directions = vectors(family)
        assert np.allclose(np.hypot(*directions.T), 1) and np.abs(directions.mean(0)).max() < 0.1
    radii = np.hypot(*vectors(AntGoal()).T)
    assert radii.max() <= 3 and abs((radii < 1.5).mean() - 0.25) < 0.04, "uniform in area"
    assert np.allclose([task.vector for task in AntDir().tasks().train], [(1, 0), (-1, 0)])
    for task in WalkerRandParams().tasks().train:
        for name, factors in task.parameters.items():
            logs = np.log(np.array(factors)) / np.log(1.3 if name == "dof_damping" else 1.5)
            assert np.abs(logs).max() <= 3 and np.unique(logs).size == logs.size, "one of its own for every entry"


def test_tasks_of_another_family_are_refused() -> None:
    task = CheetahVel().tasks().train[0]
    with pytest.raises(ValueError, match=r"task train-0 v=.* has speed; AntGoalEnv needs goal"):
        AntGoal().make(0).set_task(task)
    with pytest.raises(ValueError, match=r"task train-0 has body_mass of shape \(5,\); walker2d_v5.xml needs \(8,\)"):
        WalkerRandParams().make(0).set_task(HopperRandParams().tasks().train[0])


@each
def test_the_settings_file_is_the_family(name: str) -> None:
    written = yaml.safe_load((groups.ROOT / "env" / f"{name}.yaml").read_text())
    node = yaml.safe_load((groups.ROOT / "env" / "ant_dir.yaml").read_text())["env"] if name == "ant_dir_random" else {}
    family = coerce({**node, **written["env"]}, Any, "env")
    assert family == replace(FAMILIES[name], num_envs=family.num_envs)
    assert family.num_envs == written["agent"]["tasks_per_iteration"]
    assert written["agent"]["meta_batch"] <= family.train_tasks


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="env=cheetah_dir has two tasks, forward and backward, not 4 for training"):
        CheetahDir(4)
    with pytest.raises(ValueError, match=r"env=ant_dir has two tasks.*env\.directions=random has as many as you like"):
        AntDir(100, 30)
    with pytest.raises(ValueError, match=r"env\.test_tasks must be 1 to 100,000, got 0"):
        CheetahVel(test_tasks=0)
