"""Environments, agents and heads from Python, from the same YAML files as the command line, without Hydra.

env = rlrep.make_env("dmc_cheetah", num_envs=2)
agent = rlrep.make_agent("sac", env, aux=["curl"], augment="random_crop")
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces

from rlrep.contract.agent import Agent, AgentConfig, AgentSpec, CompileMode, MetaAgent
from rlrep.contract.env import EnvConfig, VectorEnv
from rlrep.heads import HeadConfig
from rlrep.nn import EncoderConfig
from rlrep.process.machine import pick_device
from rlrep.process.seeds import Seeds
from rlrep.settings import TARGET, ConfigError, UserError, coerce, expand_names, hint, one_line
from rlrep.settings.groups import HeadViews, choices, node, read, read_primary
from rlrep.views import View

from .config import Length, RunConfig
from .options import resolve
from .simulators import build_envs, tasks_of

Options = Mapping[str, Any]
A = TypeVar("A", Agent, MetaAgent)
KINDS: dict[str, Any] = {"env": EnvConfig, "agent": AgentConfig, "encoder": EncoderConfig, "aux": HeadConfig}
"""What completes the components of a group."""


def make_env(name: str, *, num_envs: int = 1, seed: int = 0, options: Options | None = None) -> VectorEnv:
    """Return `num_envs` simulators of `env=name`, e.g. `make_env("dmc_cheetah", options={"obs": "state"})`.

    Call `reset()` before stepping. Raises ConfigError on an unknown name or option, UserError if something is missing.
    """
    config = load_component("env", name, {**(options or {}), "num_envs": num_envs})
    return build_envs(config, Seeds(seed).envs(num_envs))


def make_agent(
    name: str,
    env: VectorEnv,
    *,
    aux: Sequence[str] | Mapping[str, Options] = (),
    encoder: str = "auto",
    augment: str = "none",
    options: Options | None = None,
    device: str = "auto",
    seed: int = 0,
    compile: CompileMode = "off",
) -> Agent:
    """Return `agent=name` for `env`, with heads by name, or by name with options: `aux={"curl": {"weight": 0.5}}`.

    Raises ConfigError on an unknown name or option, UserError if the parts do not fit each other.
    """
    space = env.single_observation_space
    obs, size = "pixels" if len(space.shape) == 3 else "state", space.shape[-1]
    heads = aux if isinstance(aux, Mapping) else {head: {} for head in aux}
    config: AgentConfig = load_component("agent", name, options, obs=obs)
    if config.learns_families():
        raise UserError(
            f"agent={name} learns families of tasks, through the command line: python -m rlrep.train agent={name}"
        )
    if encoder == "auto":
        encoder = choices([read_primary("config")[0], *read("agent", name)], {obs}).get("encoder", "curl")
    spec = AgentSpec(
        space,
        env.single_action_space,
        load_component("encoder", encoder, obs=obs),
        load_component("augment", augment, obs=obs, size=size),
        {
            head: load_component("aux", head, given, obs=obs, size=size, augment=augment)
            for head, given in sorted(heads.items())
        },
        pick_device(device),
        seed,
        compile,
        env.frame_stack,
        env.num_envs,
    )
    return _made(config.make, spec)


def make_aux(name: str, *, latent_dim: int, action_space: spaces.Space[Any], options: Options | None = None) -> Any:
    """Return the head `aux=name` (an `Head`) on latents `(B, latent_dim)`, for an agent of your own.

    Raises ConfigError on an unknown name or option.
    """
    return load_component("aux", name, options).make(name, latent_dim, action_space)


def load_component(
    group: str,
    name: str,
    options: Options | None = None,
    *,
    obs: str | None = None,
    size: int = 84,
    augment: str = "none",
    cases: Collection[str] = (),
) -> Any:
    """Return the config dataclass of `group=name`, with `options` in place of its YAML's values.

    obs: kind of observation. size: side of the environment's frames. Both are what the YAML files refer to.
    augment: the agent's, which a head's `view=auto` follows. cases: what else holds in `when`, as `atari`.
    """
    path, holding = f"aux.{name}" if group == "aux" else group, {*cases, *([obs] if obs else [])}
    found = node(group, name, path, cases=holding)
    for key in options or {}:
        if key not in found or key == TARGET:
            raise ConfigError(f"unknown option {path}.{key}{hint(key, set(found) - {TARGET})}")
    found = expand_names({**found, **(options or {})}, path, View, HeadViews(augment, holding).settings)
    context = {"env": {"size": size}, "image_size": 84, "precision": "float32"}
    resolved = resolve({**context, group: {name: found} if group == "aux" else found})[group]
    return coerce(resolved[name] if group == "aux" else resolved, KINDS.get(group, object), path)


def build_agent(
    config: RunConfig,
    envs: VectorEnv,
    *,
    device: torch.device,
    seed: int,
    compile: CompileMode,
    restored: bool = False,
    length: Length | None = None,
) -> Agent | MetaAgent:
    """Build a run's agent. Raises UserError if its parts do not fit each other.

    restored: its weights come from a checkpoint, so `encoder.load` is not read again and its file may be gone.
    length: of the run as planned, for schedules that depend on it.
    """
    spec = AgentSpec(
        envs.single_observation_space,
        envs.single_action_space,
        config.encoder.restored() if restored else config.encoder,
        config.augment,
        config.aux,
        device,
        seed,
        compile,
        envs.frame_stack,
        config.env.num_envs,
    )
    agent = config.agent if length is None else _planned(config.agent, length)
    if (tasks := tasks_of(config.env)) is None:
        return _made(agent.make, spec)
    return _made(agent.make_meta, replace(spec, tasks=tasks.train, horizon=config.env.horizon))


def _planned(agent: AgentConfig, length: Length) -> AgentConfig:
    """Return an agent's settings for a run of this length. Raises UserError if something in them lies beyond it."""
    try:
        return agent.for_length(length.agent_steps).for_updates(length.updates)
    except ValueError as error:
        raise UserError(f"agent.{one_line(error)}") from error


def _made(make: Callable[[AgentSpec], A], spec: AgentSpec) -> A:
    """Build an agent from its parts' configs. Raises UserError if they do not fit each other or the environment."""
    _check_views(spec.augment, spec.aux, spec.observation_space)
    try:
        return make(spec)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    except (MemoryError, RuntimeError) as error:  # what torch raises for a size that it cannot allocate
        if "allocate" not in str(error):
            raise
        raise UserError(f"networks and replay do not fit into memory ({one_line(error)[:200]})") from error


def _check_views(augment: View, aux: Mapping[str, HeadConfig], space: spaces.Box) -> None:
    views = {"augment": augment, **{f"aux.{name}.view": head.view for name, head in aux.items()}}
    for name, view in views.items():
        if view is not None:
            _check_view(name, view, space)


def _check_view(name: str, view: View, space: spaces.Box) -> None:
    """Try a view on one observation: image views fail on states, and state views turn pixels into floats."""
    sample = torch.zeros((1, *space.shape), dtype=torch.uint8 if space.dtype == np.uint8 else torch.float32)
    try:
        fits = view(sample, torch.Generator()).dtype == sample.dtype
        reason = "it is for states"
    except (ValueError, IndexError, RuntimeError) as error:
        fits, reason = False, one_line(error) if len(space.shape) == 3 else "it is for pixels"
    if not fits:
        raise UserError(f"{name}={type(view).__name__} does not fit observations of {space.shape}: {reason}")
