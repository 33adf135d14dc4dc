"""A trained agent's encoder and what it sees while the agent acts, for the studies that ask about one."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrep.config.config import RunConfig, make_config
from rlrep.config.make import build_agent
from rlrep.config.simulators import build_envs, evaluation_variant
from rlrep.envs.vector import Patience
from rlrep.process.seeds import Seeds
from rlrep.record.folder import check_plain
from rlrep.record.trust import Trust
from rlrep.replay.returns import discounted_returns
from rlrep.settings import ConfigError
from rlrep.ssl.evaluation import encode
from rlrep.studies.study import Line, Subject

from .evaluate import newest, sound, take_state
from .python import Run

BINS, DISCOUNT, HORIZON = 5, 0.9, 20
_METERS = {"effective rank": "rep/effective_rank", "feature std": "rep/feature_std"}
_PREFIX = "encoder."


def play(place: str, trust: Trust, *, steps: int) -> Subject:
    """Let the agent of a run folder act for `steps` agent steps and encode what it saw.

    Raises ConfigError if it sees no frames, UserError if the folder cannot be used.
    """
    folder = Path(place)
    check_plain(folder)
    with sound(place):
        config = make_config(trust.read(folder))
        _, state = newest(folder)
    if config.env.is_family():
        raise ConfigError(f"encoder={place} acts on a family of tasks: give a run on a single one, on pixels")
    with closing(build_envs(evaluation_variant(config.env), [0], Patience(config.train.env_timeout or None))) as envs:
        if len(envs.single_observation_space.shape) != 3:
            shape = envs.single_observation_space.shape
            raise ConfigError(f"encoder={place} sees no frames, but states {shape}: give a run on pixels")
        with sound(place):
            agent = build_agent(config, envs, device=torch.device("cpu"), seed=0, compile="off", restored=True)
            take_state(agent, place=folder / "checkpoints", state=state)
        seen, rewards, ended = _act(agent, envs, steps)
    images, known = config.augment.fixed(seen), _returns(rewards, ended)
    with sound(place):
        latents = [encode(each, images) for each in _encoders(config, state, tuple(images.shape[1:]))]
    edges = known.quantile(torch.linspace(0, 1, BINS + 1, dtype=known.dtype)[1:-1]).unique()
    return Subject(place, latents[0], latents[1], torch.bucketize(known, edges), _logged(Run(folder)))


def _act(agent: Any, envs: Any, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return observations `(steps, ...)`, the rewards that followed and whether an episode ended, each `(steps,)`."""
    seen, rewards, ended = [], [], []
    obs = envs.reset([Seeds(0).episode(0, 0)])
    for _ in range(steps):
        seen.append(obs[0].copy())
        envs.step_async(agent.act(obs, explore=False))
        step = envs.step_wait()
        rewards.append(float(step.reward[0]))
        ended.append(bool(step.terminated[0] or step.truncated[0]))
        obs = step.obs
    return torch.from_numpy(np.stack(seen)), torch.tensor(rewards), torch.tensor(ended)


def _returns(rewards: Tensor, ended: Tensor) -> Tensor:
    """Return what followed every step within its episode, discounted, `(steps,)`."""
    ends = [*(ended.nonzero().flatten() + 1).tolist(), len(rewards)]
    parts = [rewards[first:last] for first, last in zip([0, *ends], ends, strict=False) if last > first]
    return torch.cat([discounted_returns(part, DISCOUNT, HORIZON) for part in parts])


def _encoders(config: RunConfig, state: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the encoder of a checkpoint, and one of random weights."""
    Seeds(0).set_globals()
    trained, untrained = config.encoder.make(shape), config.encoder.make(shape)
    nets = state["agent"]["nets"]
    own = {name.removeprefix(_PREFIX): value for name, value in nets.items() if name.startswith(_PREFIX)}
    trained.load_state_dict({name: torch.as_tensor(value) for name, value in own.items()})
    return trained, untrained


def _logged(run: Run) -> dict[str, Line]:
    """Return the meters that a run logged over its agent steps; empty curves where it logged none."""
    columns = run.metrics() if (run.folder / "metrics.csv").exists() else {}
    found: dict[str, Line] = {}
    for title, name in _METERS.items():
        values = columns.get(name, np.array([]))
        here = ~np.isnan(values)
        steps = columns["agent_steps"][here] if here.any() else values
        found[title] = steps.tolist(), values[here].tolist()
    return found
