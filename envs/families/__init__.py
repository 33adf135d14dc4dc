"""Families of tasks: robots that run, bodies that differ, a point that searches; `base.py` is where one begins."""

from .base import TaskEnv, TaskFamily, draw_tasks
from .point_robot import PointRobot, SparsePointRobot
from .rand_params import HopperRandParams, WalkerRandParams
from .running import AntDir, AntGoal, CheetahDir, CheetahVel, HumanoidDir

__all__ = [
    "AntDir",
    "AntGoal",
    "CheetahDir",
    "CheetahVel",
    "HopperRandParams",
    "HumanoidDir",
    "PointRobot",
    "SparsePointRobot",
    "TaskEnv",
    "TaskFamily",
    "WalkerRandParams",
    "draw_tasks",
]
