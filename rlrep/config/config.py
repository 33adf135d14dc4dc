"""What a run is: frozen, typed settings. Components (env, agent, encoder, augment, heads) are their own dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rlrep.contract.agent import AgentConfig
from rlrep.contract.env import EnvConfig
from rlrep.heads import HeadConfig
from rlrep.launch import LauncherConfig
from rlrep.nn import EncoderConfig
from rlrep.settings import build, ranges

_MOST_AT_ONCE = 4096

Device = Literal["auto", "cpu", "cuda"]
Compile = Literal["auto", "off", "default", "cudagraph"]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how often.

    agent_steps, env_steps: length of the run; one of the two (env steps count action repeats and frame skips).
    init_steps: agent steps of uniformly random actions before the policy acts and updates begin; on a family, of each
    task, by the untrained policy.
    updates_per_step: updates per agent step (0.5 = every second step).
    overlap: learn while the simulators step, with a fixed lag of one update; auto = for pixel observations.
    eval_every: env steps between evaluations; 0 = only the final one. eval_episodes: episodes of each.
    final_episodes: of the final evaluation; None = as many. eval_epsilon: share of random actions in evaluation.
    eval_envs: simulators that evaluate in parallel (results do not depend on it); 0 = one per core, at most 8; on a
    family, as many as train.
    eval_batch: observations that the policy acts on at once in evaluation; missing ones are made up for, because a
    product of another size rounds differently.
    adaptation_episodes: of each task of evaluation, for families of tasks, where `eval_episodes` counts attempts at
    each task; the first `exploration_episodes` of them are played by latents of the prior, the others by the belief
    about all before. test_episodes: after them, by the same belief. eval_policy: acts by the mean, or draws.
    log_every, checkpoint_every: agent steps.
    callbacks: dotted names of `rlrep.Callback`s of the user's own, which are called as the run goes on.
    env_timeout: seconds after which a step of an environment counts as hung, its simulator as lost; 0 = never.
    """

    agent_steps: int | None = None
    env_steps: int | None = None
    init_steps: int = 1000
    updates_per_step: float = 1.0
    overlap: Literal["auto", "true", "false"] = "auto"
    eval_every: int = 10_000
    eval_episodes: int = 10
    final_episodes: int | None = None
    eval_epsilon: float = 0.0
    eval_envs: int = 0
    eval_batch: int = 1
    adaptation_episodes: int = 2
    exploration_episodes: int = 1
    test_episodes: int = 1
    eval_policy: Literal["deterministic", "stochastic"] = "deterministic"
    log_every: int = 1000
    checkpoint_every: int = 10_000
    callbacks: tuple[str, ...] | None = None
    env_timeout: float = 300.0

    def __post_init__(self) -> None:
        counts = ("eval_episodes", "final_episodes", "eval_batch", "test_episodes", "log_every", "checkpoint_every")
        ranges.at_least(self, 1, ("agent_steps", "env_steps", *counts))
        ranges.at_least(
            self, 0, ("init_steps", "updates_per_step", "eval_every", "eval_envs", "adaptation_episodes", "env_timeout")
        )
        ranges.share(self, ("eval_epsilon",))
        if max(self.eval_batch, self.eval_envs) > _MOST_AT_ONCE:
            raise ValueError(f"eval_batch and eval_envs are at most {_MOST_AT_ONCE}")
        if self.adaptation_episodes and not 1 <= self.exploration_episodes <= self.adaptation_episodes:
            raise ValueError(
                f"exploration_episodes must be from 1 to adaptation_episodes={self.adaptation_episodes}, "
                f"not {self.exploration_episodes}: the belief would never count"
            )


@dataclass(frozen=True)
class CheckpointConfig:
    """keep_replay: keep the replay of a finished run, so that a longer one can go on from it."""

    keep_replay: bool = False


@dataclass(frozen=True)
class LoggerConfig:
    """Sinks besides metrics.jsonl, metrics.csv and eval.csv, which are always written.

    tensorboard: auto = where it is installed. wandb needs `pip install 'rlrep[wandb]'`.
    """

    tensorboard: Literal["auto", "true", "false"] = "auto"
    wandb: bool = False
    wandb_project: str = "rlrep"
    wandb_entity: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on.

    choices: the chosen name of each group. image_size: side of the frames an encoder sees, which `augment` refers to.
    video: of the final evaluation's first episode (`every`: of each evaluation's).
    out: the run folder. root: where those stand that get a default name.
    """

    env: EnvConfig
    agent: AgentConfig
    encoder: EncoderConfig
    augment: Any
    aux: Mapping[str, HeadConfig]
    train: TrainConfig
    checkpoint: CheckpointConfig
    logger: LoggerConfig
    launcher: LauncherConfig
    choices: Mapping[str, str]
    seed: int
    device: Device
    compile: Compile
    precision: Literal["float32", "bf16"]
    image_size: int
    video: Literal["true", "false", "every"]
    video_format: Literal["mp4", "gif"]
    out: str
    root: str = "runs"

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("seed",))


@dataclass(frozen=True)
class Length:
    """Size of a run once its environment is known. One vector step is `num_envs` agent steps.

    Runs end after whole vector steps, so `agent_steps` may pass the asked-for length by up to `num_envs - 1`.
    """

    agent_steps: int
    num_envs: int
    action_repeat: int
    updates: int

    @property
    def env_steps(self) -> int:
        """Simulator steps, action repeats counted."""
        return self.agent_steps * self.action_repeat


def make_config(tree: Mapping[str, object]) -> RunConfig:
    """Build the typed config of a resolved tree. Raises ConfigError in one line."""
    config: RunConfig = build(RunConfig, {key: value for key, value in tree.items() if key != "requested"}, "")
    return config


def plan_length(train: TrainConfig, *, num_envs: int, action_repeat: int) -> Length:
    """Turn the asked-for steps into whole vector steps and count the updates they bring."""
    asked = train.agent_steps or -(-(train.env_steps or 0) // action_repeat)
    agent_steps = -(-asked // num_envs) * num_envs
    return Length(agent_steps, num_envs, action_repeat, updates_by(train, agent_steps))


def updates_by(train: TrainConfig, agent_steps: int) -> int:
    """Updates that belong to the first `agent_steps` agent steps."""
    rate = Fraction(train.updates_per_step).limit_denominator(10_000)
    return int(max(0, agent_steps - train.init_steps) * rate)
