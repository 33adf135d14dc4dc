"""Training an agent on an environment or a family of them: what is built, evaluated and said."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from rlrep.config.config import Compile, RunConfig
from rlrep.config.make import build_agent
from rlrep.config.simulators import INEXACT, build_envs, evaluation_variant, scoring_of, tasks_of
from rlrep.contract.agent import Rows
from rlrep.contract.env import TaskSet, VectorEnv
from rlrep.envs.vector import Patience
from rlrep.process.seeds import Seeds
from rlrep.record import versions
from rlrep.record.curve import Curve
from rlrep.record.folder import write_scoring, write_tasks
from rlrep.record.logs import EVAL_COLUMNS, META_COLUMNS
from rlrep.record.sinks import Guard
from rlrep.record.tree import check_savable
from rlrep.settings import UserError

from .evaluation import FINAL, Evaluates, Evaluator, eval_envs
from .loop import Outlets
from .meta.evaluation import MetaEvaluator
from .meta.picture import Pictures
from .meta.work import Meta
from .online import Online
from .plan import Plan, make_plan, resolved
from .playing import Parts, Playing
from .session import Job, Site


class Training(Job):
    """A run of an agent."""

    counted, shown = "agent_steps", "env_steps"
    _envs: VectorEnv
    _plan: Plan
    _agent: Any
    _patience: Patience

    def __init__(self, config: RunConfig) -> None:
        self.config = self._config = config
        self._seeds, self._tasks = Seeds(config.seed), tasks_of(config.env)
        self.columns = EVAL_COLUMNS if self._tasks is None else META_COLUMNS
        self.may_grow = not config.agent.depends_on_length
        self.keep_replay = config.checkpoint.keep_replay

    def check_stored(self, folder: Path, stored: Mapping[str, Any]) -> None:
        steps = stored["train"].get("agent_steps")
        if type(steps) is not int or stored.get("compile") not in get_args(Compile):
            raise UserError(
                f"{folder}: its config.yaml is damaged (train.agent_steps={steps}, compile={stored.get('compile')}): "
                f"restore it, or choose another out="
            )

    def prepare(self, site: Site) -> None:
        """Start the simulators and settle what depends on them."""
        config, self._site = self._config, site
        self._patience = Patience(config.train.env_timeout or None, lambda: site.stop.signal_number is not None)
        self._envs = build_envs(config.env, self._seeds.envs(config.env.num_envs), self._patience, site.pool)
        site.stack.callback(self._envs.close)
        self._scoring = scoring_of(config.env)
        self._plan = make_plan(config, site.opened, site.device, self._envs)
        self._seeds.set_globals()

    def settled(self) -> dict[str, Any]:
        return resolved(self._plan)

    def build(self, *, restored: bool) -> None:
        self._agent = build_agent(
            self._config,
            self._envs,
            device=self._site.device,
            seed=self._seeds.agent,
            compile=self._plan.compile.mode,
            restored=restored,
            length=self._plan.length,
        )

    def scale(self) -> tuple[int, int]:
        return self._plan.length.env_steps, self._envs.action_repeat

    def headline(self) -> list[str]:
        config, plan, envs = self._config, self._plan, self._envs
        length, simulators = plan.length, f"{envs.num_envs} env{'s' if envs.num_envs > 1 else ''}"
        machine = f"{versions.device_name(plan.device)}, {torch.get_num_threads()} threads"
        return [
            f"{_title(config)} -> {config.out}",
            f"{length.env_steps} env steps = {length.agent_steps} agent steps x {envs.action_repeat}, "
            f"{length.updates} updates, {simulators}, {machine}",
            f"compile={plan.compile.mode} ({plan.compile.reason}), overlap={'on' if plan.overlap else 'off'}",
            *envs.notes,
            *_cropped(config, envs),
            *(() if envs.exact else (INEXACT,)),
            *self._agent.describe(),
        ]

    def work(self, outlets: Outlets) -> Playing[Any]:
        config, say, scoring = self._config, outlets.reporter.say, self._scoring
        remark = config.agent.remark(config.encoder, self._envs.single_observation_space.shape)
        Guard("scoring.json", say).run(lambda: write_scoring(outlets.folder, replace(scoring, remark=remark)))
        evaluator = make_evaluator(
            config,
            self._agent,
            partial(
                build_envs, evaluation_variant(config.env), [0] * self._eval_envs(), self._patience, self._site.pool
            ),
            self._seeds,
            say=say,
            check_stop=self._site.stop.check,
            pictures=Pictures(outlets.folder, _title(config), say),
        )
        self._site.stack.callback(evaluator.close)
        parts = Parts(
            envs=self._envs,
            agent=self._agent,
            evaluator=evaluator,
            curve=Curve(outlets.folder, _title(config), scoring.references, say),
            check_every_update=self._site.device.type == "cpu",
            video_path=partial(_video_path, config, outlets.folder),
        )
        train, length, tasks = config.train, self._plan.length, self._tasks
        if tasks is None:
            return Online(parts, train, length, outlets, overlap=self._plan.overlap)
        Guard("tasks.json", say).run(lambda: write_tasks(outlets.folder, tasks))
        return Meta(parts, train, length, outlets, tasks=tasks.train, seed=self._seeds.collection)

    def _eval_envs(self) -> int:
        train = self._config.train
        return eval_envs(train) if self._tasks is None else train.eval_envs or self._config.env.num_envs

    def rings(self) -> Mapping[str, Rows]:
        rings: Mapping[str, Rows] = self._agent.rings
        return rings

    def start(self, work: Playing[Any]) -> None:
        """Begin the first episodes. Raises UserError if a checkpoint could not hold them."""
        work.start(self._seeds.envs(self._envs.num_envs))
        check_savable(self._envs.state(), "the environment")

    def resumed(self) -> str:
        return "" if self._envs.exact else ", in new episodes"

    def places(self) -> list[str]:
        pictures = ("learning_curve.png", "adaptation.png", "latents.png")
        return [*pictures, f"videos/final.{self._config.video_format}", "eval.csv", "metrics.jsonl"]


def make_evaluator(
    config: RunConfig,
    agent: Any,
    make_envs: Callable[[], VectorEnv],
    seeds: Seeds,
    *,
    say: Callable[[str], None],
    check_stop: Callable[[], None] = lambda: None,
    pictures: Pictures | None = None,
) -> Evaluates:
    """Return what plays the evaluation episodes of a run, on simulators that it starts when it first needs them."""
    tasks: TaskSet | None = tasks_of(config.env)
    train = config.train
    if tasks is None:
        batch, epsilon = train.eval_batch, train.eval_epsilon
        return Evaluator(make_envs, agent, seeds, batch=batch, epsilon=epsilon, say=say, check_stop=check_stop)
    return MetaEvaluator(make_envs, agent, tasks.test, train, seeds, pictures=pictures, say=say, check_stop=check_stop)


def _cropped(config: RunConfig, envs: VectorEnv) -> list[str]:
    """Say what of a frame the agent is shown, where that is not all of it."""
    shape = envs.single_observation_space.shape
    if len(shape) != 3:
        return []
    seen = config.augment.fixed(torch.zeros((1, *shape), dtype=torch.uint8)).shape[1:]
    sides, augment = f"{shape[1]}x{shape[2]} pixels are cropped to {seen[1]}x{seen[2]}", config.choices["augment"]
    return [] if tuple(seen) == tuple(shape) else [f"frames of {sides} (augment={augment})"]


def _title(config: RunConfig) -> str:
    named = [config.choices["env"], config.choices["agent"]]
    named += [f"{group}={config.choices[group]}" for group in ("augment", "aux", "preset")]
    return "  ".join([*named, f"seed={config.seed}"])


def _video_path(config: RunConfig, folder: Path, evaluation: int, env_steps: int) -> Path | None:
    if config.video == "false" or (evaluation != FINAL and config.video != "every"):
        return None
    name = "final" if evaluation == FINAL else f"env_steps_{env_steps:09d}"
    return folder / "videos" / f"{name}.{config.video_format}"
