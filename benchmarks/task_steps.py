"""Times task families stepped together, task switches among it, against a plain loop over the tasks, in agent steps/s.

    python -m benchmarks.task_steps [--blocks 9] [--tasks 10] [--steps 100]

A block gives every task a fresh episode and that many steps: the plain loop has one environment and plays task after
task, as PEARL's code collects; ours step all tasks together, in this process or in one worker each. Actions are random,
or PEARL's policy network (three layers of 300) says them, one observation at a time or all tasks' at once. All take
turns; rates are medians over blocks, so that a disturbance of the machine meets all alike. Writes
results/task_steps.json.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlrep.envs.families.point_robot import PointRobot
from rlrep.envs.families.rand_params import WalkerRandParams
from rlrep.envs.families.running import AntGoal, CheetahVel, HumanoidDir
from rlrep.envs.metaworld.families import ML1
from rlrep.envs.vector import make_vector

from . import result
from .timing import rates_in_turn, ratios_to

FAMILIES = {
    "point_robot": PointRobot(),
    "cheetah_vel": CheetahVel(),
    "ant_goal": AntGoal(),
    "humanoid_dir": HumanoidDir(),
    "walker_rand_params": WalkerRandParams(),
    "metaworld_ml1 push": ML1(task="push-v3"),
}
ACTORS = ("random", "policy")
PEER = "plain loop"
OURS = ("in this process", "in workers")
COLUMNS = ["family", "tasks", "actions", f"{PEER}, agent steps/s", *OURS, *(f"{name} / {PEER}" for name in OURS)]

Array = NDArray[Any]
Act = Callable[[Array], Array]


@dataclass
class Loop:
    """One environment that plays one task after another."""

    env: Any
    tasks: tuple[Any, ...]

    def play(self, act: Act, steps: int) -> None:
        """Take that many steps in every task, all of one before the next one's."""
        for index, task in enumerate(self.tasks):
            self.env.set_task(task)
            obs = self.env.reset(seed=index)[0]
            for _ in range(steps):
                obs, _, terminated, truncated, _ = self.env.step(act(obs[None])[0])
                if terminated or truncated:
                    obs = self.env.reset()[0]


@dataclass
class Together:
    """One environment for each task, stepped together. Each block deals the tasks out anew."""

    vector: Any
    tasks: tuple[Any, ...]

    def play(self, act: Act, steps: int) -> None:
        """Take that many steps in every task, all tasks at once."""
        self.tasks = (*self.tasks[1:], self.tasks[0])
        for index, task in enumerate(self.tasks):
            self.vector.set_task(index, task)
        obs = self.vector.reset(list(range(len(self.tasks))))
        for _ in range(steps):
            self.vector.step_async(act(obs))
            obs = self.vector.step_wait().obs


def make_actor(kind: str, obs_size: int, action_size: int) -> Act:
    """Return what maps observations `(N, D)` to actions `(N, A)`."""
    random = np.random.default_rng(0)
    if kind == "random":
        return lambda obs: random.uniform(-1.0, 1.0, (len(obs), action_size)).astype(np.float32)
    sizes = (obs_size, 300, 300, 300)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*layers, nn.Linear(300, action_size), nn.Tanh())

    def act(obs: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(obs)).numpy())

    return act


def measure(name: str, kind: str, *, count: int, steps: int, blocks: int) -> dict[str, Any]:
    """Return the median rates of one family, in agent steps of all tasks per second."""
    family = FAMILIES[name]
    tasks = family.tasks().train[:count]
    single: Any = family.make(0)
    vectors = [make_vector(family, list(range(count)), workers=flag) for flag in (False, True)]
    act = make_actor(kind, single.observation_space.shape[0], single.action_space.shape[0])
    ways: dict[str, Loop | Together] = {PEER: Loop(single, tasks)}
    ways |= {way: Together(vector, tasks) for way, vector in zip(OURS, vectors, strict=True)}
    rates = rates_in_turn(
        {way: partial(player.play, act, steps) for way, player in ways.items()}, steps * count, blocks
    )
    for vector in vectors:
        vector.close()
    return {"family": name, "tasks": count, "actions": kind, "rates": rates, "ratios": ratios_to(PEER, rates)}


def row(found: dict[str, Any]) -> list[object]:
    """Return the table's row of one measurement."""
    rates = [found["rates"][way] for way in (PEER, *OURS)]
    return [found["family"], found["tasks"], found["actions"], *rates, *found["ratios"].values()]


def main() -> None:
    """Measure, print and save."""
    parser = result.command_line(__doc__)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [
        measure(name, kind, count=options.tasks, steps=options.steps, blocks=options.blocks)
        for name, kind in product(FAMILIES, ACTORS)
    ]
    result.save(
        options.results / "task_steps.json",
        COLUMNS,
        map(row, results),
        limits=f"one thread of torch; a new task every {options.steps} steps; medians of {options.blocks} blocks.",
        more={"families": results},
    )


if __name__ == "__main__":
    main()
