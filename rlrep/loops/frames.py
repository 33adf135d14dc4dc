"""Frames for image pretraining, collected from an environment once and reused."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from rlrep.config.simulators import evaluation_variant
from rlrep.contract.env import Array, EnvConfig
from rlrep.envs.vector import Checked, raised
from rlrep.settings import UserError, one_line
from rlrep.ssl.data import ImageData, save_frames
from rlrep.ssl.data.frames import read_about

from .evaluation import random_action

Policy = Callable[[Array], Any]
"""An observation `(S*C, H, W)` to an action."""


def collect_frames(
    env: EnvConfig,
    path: Path,
    *,
    steps: int,
    seed: int,
    policy: Policy | None = None,
    policy_name: str = "random",
    say: Callable[[str], None] = print,
) -> Path:
    """Play `steps` agent steps and write every observation's newest frame, with the simulator's state as labels.

    Episodes are those that evaluation plays, also where training cuts them up. A file that was collected in the same
    way is kept as it is. policy: None = uniformly random actions; policy_name stands for it in the file. Labels are
    what the environment's `labels()` says, where it has one.
    Raises UserError if the environment has no frames or cannot be made, or `path` holds other ones.
    """
    env = evaluation_variant(env)
    about = {"env": _describe(env), "steps": steps, "seed": seed, "policy": policy_name}
    if path.exists():
        _check_same(path, about)
        say(f"using {path}")
        return path
    say(f"collecting {steps} frames into {path}")
    made = _make(env, seed)
    try:
        data = _play(made, steps, seed, policy)
    except UserError:
        raise
    except Exception as error:  # a simulator's own code again
        raise UserError(f"the environment failed: {raised(error, made.where)}") from error
    save_frames(path, data, about)
    return path


def _play(env: Checked, steps: int, seed: int, policy: Policy | None) -> ImageData:
    like = env.description
    space, channels = like.observation_space, like.observation_space.shape[0] // like.frame_stack
    random = np.random.default_rng(seed)
    frames = np.empty((steps, channels, *space.shape[1:]), np.uint8)
    episode, time = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
    labels: list[Array] = []
    obs, number, age = env.reset(seed=seed), 0, 0
    try:
        for step in range(steps):
            frames[step], episode[step], time[step] = obs[-channels:], number, age
            known = env.labels()
            labels.append(np.array(list(known.values())))
            action = policy(obs) if policy else random_action(like.action_space, random)
            obs, _, terminated, truncated, _ = env.step(action)
            age += 1
            if terminated or truncated:
                obs, number, age = env.reset(), number + 1, 0
    finally:
        env.close()
    columns = _columns(list(known), np.stack(labels))
    return ImageData(torch.from_numpy(frames), columns, torch.from_numpy(episode), torch.from_numpy(time))


def _columns(names: Sequence[str], rows: Array) -> dict[str, torch.Tensor]:
    """Whole numbers are classes, others quantities."""
    kind = np.int64 if rows.dtype.kind == "i" else np.float32
    return {name: torch.from_numpy(rows[:, i].astype(kind)) for i, name in enumerate(names)}


def _make(config: EnvConfig, seed: int) -> Checked:
    try:
        env = Checked(config.make(seed))
    except Exception as error:  # a simulator's own code, which may raise anything
        raise UserError(f"cannot make the environment: {raised(error)}") from error
    space = env.description.observation_space
    if len(space.shape) != 3:
        raise UserError(f"frames need an environment with pixels, this one gives {space}")
    return env


def _describe(env: EnvConfig) -> dict[str, Any]:
    """Return the environment's settings as JSON holds them."""
    settings = json.dumps({"kind": type(env).__name__, **asdict(cast(Any, env))})
    return cast(dict[str, Any], json.loads(settings))


def _check_same(path: Path, about: Mapping[str, Any]) -> None:
    try:
        found = read_about(path)
    except ValueError as error:
        raise UserError(f"{one_line(error)}: delete it, or choose another path") from error
    differing = [f"{key} was {found.get(key)}, now {about[key]}" for key in about if found.get(key) != about[key]]
    if differing:
        raise UserError(f"{path} holds other frames ({'; '.join(differing)}): delete it, or choose another path")
