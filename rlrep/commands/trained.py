"""What a training run has learnt, built again from its folder: agent, encoder, and simulators to act in."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from rlrep.config.config import RunConfig, make_config
from rlrep.config.make import build_agent
from rlrep.config.simulators import build_envs, evaluation_variant
from rlrep.contract.agent import Agent, MetaAgent
from rlrep.contract.env import VectorEnv
from rlrep.envs.vector import Patience
from rlrep.nn import Encoder
from rlrep.process.seeds import Seeds
from rlrep.record.bounds import Bounded
from rlrep.record.trust import Trust

from .evaluate import newest, sound, take_state

_PREFIX = "encoder."


def simulators_of(folder: Path, trust: Trust, *, count: int, seed: int) -> VectorEnv:
    """Return simulators as a run's evaluation has them. Raises UserError if the folder cannot be used."""
    with sound(str(folder)):
        return _simulators(make_config(trust.read(folder)), count, seed)


def agent_of(folder: Path, trust: Trust) -> Agent | MetaAgent:
    """Return the agent of the newest checkpoint, on the CPU, its replay empty. Raises UserError if there is none."""
    with sound(str(folder)):
        config, (_, state) = make_config(trust.read(folder)), newest(folder)
        with closing(_simulators(config, 1, 0)) as envs, Bounded(str(folder), state):
            agent = build_agent(config, envs, device=torch.device("cpu"), seed=0, compile="off", restored=True)
        take_state(agent, place=folder / "checkpoints", state=state)
    return agent


def encoder_of(folder: Path, trust: Trust) -> Encoder:
    """Return the encoder of the agent of a run's newest checkpoint, on the CPU. Raises UserError if there is none."""
    with sound(str(folder)):
        config, (_, state) = make_config(trust.read(folder)), newest(folder)
        shape = view_shape(config)
        with Bounded(str(folder), state):
            return restored_encoder(config, state, shape)


def view_shape(config: RunConfig) -> tuple[int, ...]:
    """Return the shape of one observation as a run's encoder sees it, after augmentation."""
    with closing(_simulators(config, 1, 0)) as envs:
        shape = envs.single_observation_space.shape
    kind = torch.uint8 if len(shape) == 3 else torch.float32
    return tuple(config.augment.fixed(torch.zeros((1, *shape), dtype=kind)).shape[1:])


def restored_encoder(config: RunConfig, state: Mapping[str, Any], shape: tuple[int, ...]) -> Encoder:
    """Return the encoder of a checkpoint's state, for inputs of `shape`. Raises RuntimeError if it does not fit."""
    encoder = config.encoder.restored().make(shape)
    nets = state["agent"]["nets"]
    own = {name.removeprefix(_PREFIX): value for name, value in nets.items() if name.startswith(_PREFIX)}
    encoder.load_state_dict({name: torch.as_tensor(value) for name, value in own.items()})
    return encoder


def _simulators(config: RunConfig, count: int, seed: int) -> VectorEnv:
    patience = Patience(config.train.env_timeout or None)
    return build_envs(evaluation_variant(config.env), Seeds(seed).envs(count), patience)
