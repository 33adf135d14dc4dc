"""A trained encoder and images that it sees, for the studies that ask about one: an agent's, or a pretraining run's."""

from collections.abc import Mapping, Sequence
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
from rlrep.nn import load_encoder
from rlrep.process.seeds import Seeds
from rlrep.record.folder import check_plain
from rlrep.record.trust import Trust
from rlrep.replay.returns import discounted_returns
from rlrep.settings import ConfigError
from rlrep.ssl.data import ImageData
from rlrep.ssl.evaluation import encode
from rlrep.studies.study import Line, Subject

from .evaluate import newest, sound, take_state
from .probe import compose_probe, saved_config, saved_view, stored_config
from .python import Run
from .trained import restored_encoder

BINS, DISCOUNT, HORIZON = 5, 0.9, 20
_TIME, _NOTHING = "the time in the episode", "nothing"
_METERS = {"effective rank": "rep/effective_rank", "feature std": "rep/feature_std"}
_PRETRAINING_METERS = {"effective rank": "rep/latent/effective_rank", "feature std": "rep/latent/spread"}


def subject_of(place: str, trust: Trust, *, images: int, words: Sequence[str] = ()) -> Subject:
    """Return the encoder of a run folder, an agent's or of rlrep.pretrain, and about so many images.

    words: `data.OPTION=VALUE` of a pretraining run, where its data is a file of the user's. Raises ConfigError if there
    are no images, UserError if the folder cannot be used.
    """
    if "method" in stored_config(place, trust):
        return held_out(place, trust, count=images, words=words)
    if words:
        raise ConfigError(f"{words[0]} is for runs of rlrep.pretrain, encoder={place} is none")
    return play(place, trust, steps=images)


def held_out(place: str, trust: Trust, *, count: int, words: Sequence[str] = ()) -> Subject:
    """Encode test images of a pretraining run: their classes are the bins, or else where in its episode a frame is."""
    asked = compose_probe([f"encoder={place}", *words], trust)
    with sound(place):
        config, data = saved_config(place, trust), asked.data.make(torch.device("cpu")).test
        data = data.rows(torch.linspace(0, len(data) - 1, min(count, len(data))).long())
        images = saved_view(place).fixed(data.images[:])
        shape = tuple(images.shape[1:])
        Seeds(0).set_globals()
        trained, untrained = config.make(shape), config.make(shape)
        load_encoder(place, trained, config, shape)
        latents, others = encode(trained, images), encode(untrained, images)
    bins, binned = _bins(data)
    return Subject(
        place,
        trained,
        lambda: config.make(shape),
        images,
        latents,
        others,
        bins,
        binned,
        _logged(Run(Path(place)), "updates", _PRETRAINING_METERS),
        classes=binned not in (_TIME, _NOTHING),
    )


def _bins(data: ImageData) -> tuple[Tensor, str]:
    """Return the bins of images, and what they are of."""
    for name, values in data.labels.items():
        if not values.is_floating_point() and data.episode is None:
            return values, f"the class {name}"
    if data.time is None:
        return torch.zeros(len(data), dtype=torch.int64), _NOTHING
    return _quantiles(data.time.double()), _TIME


def _quantiles(values: Tensor) -> Tensor:
    """Return int64 `(N,)`: in which of `BINS` quantiles each value is."""
    edges = values.quantile(torch.linspace(0, 1, BINS + 1, dtype=values.dtype)[1:-1]).unique()
    return torch.bucketize(values, edges)


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
        shape = tuple(images.shape[1:])
        trained, untrained = _encoders(config, state, shape)
        latents, others = encode(trained, images), encode(untrained, images)
    return Subject(
        place,
        trained,
        lambda: config.encoder.restored().make(shape),
        images,
        latents,
        others,
        _quantiles(known),
        "the return that follows",
        _logged(Run(folder), "agent_steps", _METERS),
    )


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
    return restored_encoder(config, state, shape), config.encoder.restored().make(shape)


def _logged(run: Run, over: str, meters: Mapping[str, str]) -> dict[str, Line]:
    """Return the meters that a run logged over its steps, by title; empty curves where it logged none."""
    columns = run.metrics() if (run.folder / "metrics.csv").exists() else {}
    found: dict[str, Line] = {}
    for title, name in meters.items():
        values = columns.get(name, np.array([]))
        here = ~np.isnan(values)
        steps = columns[over][here] if here.any() else values
        found[title] = steps.tolist(), values[here].tolist()
    return found
