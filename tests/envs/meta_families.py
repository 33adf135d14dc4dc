"""The task families by the names of their settings files."""

from typing import Any

import pytest

from rlrep.envs.families.point_robot import PointRobot, SparsePointRobot
from rlrep.envs.families.rand_params import HopperRandParams, WalkerRandParams
from rlrep.envs.families.running import AntDir, AntGoal, CheetahDir, CheetahVel, HumanoidDir

RUNNERS: dict[str, Any] = {
    "cheetah_dir": CheetahDir(),
    "cheetah_vel": CheetahVel(),
    "ant_dir": AntDir(),
    "ant_dir_random": AntDir(100, 30, directions="random"),
    "ant_goal": AntGoal(),
    "humanoid_dir": HumanoidDir(),
    "walker_rand_params": WalkerRandParams(),
    "hopper_rand_params": HopperRandParams(),
}
FAMILIES: dict[str, Any] = {**RUNNERS, "point_robot": PointRobot(), "sparse_point_robot": SparsePointRobot()}
each = pytest.mark.parametrize("name", FAMILIES)
