"""What a session settles once device and environment are known: length, compile mode, overlap."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from rlrep.config.config import Length, RunConfig, TrainConfig, plan_length
from rlrep.config.simulators import tasks_of
from rlrep.contract.env import VectorEnv
from rlrep.settings import UserError

from .compile_rule import CompileChoice, choose_compile
from .opened import Opened


@dataclass(frozen=True)
class Plan:
    """What is settled once device and environment are known."""

    device: torch.device
    length: Length
    compile: CompileChoice
    overlap: bool


def make_plan(config: RunConfig, opened: Opened, device: torch.device, envs: VectorEnv) -> Plan:
    """Settle length, compile mode and overlap. Raises UserError if the run is to become shorter."""
    tasks, train = tasks_of(config.env), config.train
    if tasks is not None:
        train = replace(train, init_steps=initial_steps(config, len(tasks.train)))
    length = plan_length(train, num_envs=envs.num_envs, action_repeat=envs.action_repeat)
    if tasks is not None and length.agent_steps <= train.init_steps:
        raise UserError(
            f"train.agent_steps={length.agent_steps} may end before learning begins: the first episodes of "
            f"{len(tasks.train)} tasks take up to {train.init_steps} agent steps. Choose more, or a lower "
            f"env.train_tasks"
        )
    stored, pixels = opened.stored, len(envs.single_observation_space.shape) == 3
    if stored and length.agent_steps < stored["train"]["agent_steps"]:
        raise UserError(
            f"{opened.folder} is a run of {stored['train']['agent_steps']} agent steps; it can be made longer, "
            f"not shorter ({length.agent_steps}): choose another out="
        )
    if stored and stored.get("device") == device.type:
        mode = CompileChoice(stored["compile"], "as this run began")
    else:
        mode = choose_compile(
            config.compile,
            device=device.type,
            pixels=pixels,
            updates=length.updates,
            gains_on_pixels=config.agent.gains_on_pixels,
            compiles=config.agent.compiles,
        )
    _check_meant(train, family=tasks is not None)
    overlap = train.overlap == "true" or (train.overlap == "auto" and pixels)
    return Plan(device, length, mode, overlap)


def _check_meant(train: TrainConfig, *, family: bool) -> None:
    """Raise UserError on settings for the other kind of environment, which would change nothing here."""
    if not family:
        for name in ("adaptation_episodes", "exploration_episodes", "test_episodes", "eval_policy"):
            if getattr(train, name) != getattr(TrainConfig, name):
                raise UserError(f"train.{name} is for families of tasks: on a single one it would change nothing")
    elif train.overlap == "true":
        raise UserError("train.overlap=true is for single tasks: on a family, collecting and learning take turns")
    elif train.eval_epsilon:
        raise UserError("train.eval_epsilon is for single tasks: families have train.eval_policy=stochastic")


def initial_steps(config: RunConfig, tasks: int) -> int:
    """Return the agent steps with which a family's run begins: `train.init_steps` of every task, in whole episodes."""
    horizon = config.env.horizon
    return tasks * -(-config.train.init_steps // horizon) * horizon


def resolved(plan: Plan) -> dict[str, Any]:
    """Return what was settled, by dotted path of the option, for `config.yaml`."""
    return {
        "device": plan.device.type,
        "compile": plan.compile.mode,
        "train.overlap": "true" if plan.overlap else "false",
        "train.agent_steps": plan.length.agent_steps,
        "train.env_steps": plan.length.env_steps,
    }
