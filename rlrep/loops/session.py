"""One session of a run: open its folder, build its parts, train, and say how it ended."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from rlrep.config.config import RunConfig
from rlrep.config.make import build_agent, build_meta_agent, tasks_of
from rlrep.config.simulators import INEXACT, build_envs, evaluation_variant
from rlrep.contract.agent import Agent, MetaAgent, Trainee
from rlrep.contract.env import TaskSet, VectorEnv
from rlrep.envs.vector import Patience
from rlrep.process.machine import keep_large_blocks, pick_device, set_threads
from rlrep.process.output import spare_output
from rlrep.process.progress import Reporter, make_reporter
from rlrep.process.seeds import Seeds
from rlrep.process.signals import StopRequest, catch_signals
from rlrep.record import versions
from rlrep.record.checkpoint import Checkpoints, fitting, load_newest
from rlrep.record.curve import Curve
from rlrep.record.folder import (
    lock_folder,
    resolve_tree,
    write_config,
    write_tasks,
)
from rlrep.record.logs import EVAL_COLUMNS, META_COLUMNS, RunLog
from rlrep.record.sinks import Guard
from rlrep.record.tree import check_savable
from rlrep.settings import Stopped

from .base import BaseLoop, Evaluates, Parts
from .evaluation import FINAL, Evaluator, eval_envs, references
from .meta.evaluation import MetaEvaluator
from .meta.loop import MetaLoop
from .meta.picture import Pictures
from .online import Loop
from .opened import Opened, open_run
from .plan import Plan, make_plan, resolved

T = TypeVar("T")
A = TypeVar("A", bound=Trainee)
E = TypeVar("E", bound=Evaluates)


@dataclass(frozen=True)
class Outlets:
    """Where a run's results go, and what tells of them."""

    log: RunLog
    checkpoints: Checkpoints
    reporter: Reporter


@spare_output()
def train(config: RunConfig, tree: Mapping[str, Any], *, again: str, full_size: str | None) -> None:
    """Run, or continue, the training that `config` describes.

    tree: the same, as composed. again: the command that continues it. full_size: the command of the full-size job,
    where this is a smaller one. Raises UserError (one line), Stopped (after saving, when a signal came).
    """
    device = pick_device(config.device)
    set_threads()
    keep_large_blocks()
    folder = Path(config.out)
    with ExitStack() as stack:
        stack.enter_context(lock_folder(folder))
        opened = open_run(folder, tree, config)
        if opened.is_finished:
            print(f"this run is finished{_size(opened)}: see {folder}, or choose another seed= or out=")
            return
        stop = stack.enter_context(catch_signals())
        try:
            _Session(config, opened, device, stop, stack).run(tree)
        except Stopped:
            print(f"stopped, saved in {folder}; to go on: {again}", flush=True)
            raise
    _say_done(folder, config, full_size)


def _size(opened: Opened) -> str:
    return f" ({opened.manifest.step} agent steps)" if opened.manifest else ", its checkpoints are gone"


class _Session:
    """Builds the parts of a run and lets the loop run. `stack` ends what was started."""

    def __init__(
        self, config: RunConfig, opened: Opened, device: torch.device, stop: StopRequest, stack: ExitStack
    ) -> None:
        self._config, self._opened, self._device, self._stop, self._stack = config, opened, device, stop, stack
        self._folder, self._seeds = opened.folder, Seeds(config.seed)
        self._patience = Patience(config.train.env_timeout or None, lambda: stop.signal_number is not None)

    def run(self, tree: Mapping[str, Any]) -> None:
        """Build, resume where there is a checkpoint, and train."""
        config = self._config
        envs = build_envs(config.env, self._seeds.envs(config.env.num_envs), self._patience)
        self._stack.callback(envs.close)
        plan = make_plan(config, self._opened, self._device, envs)
        self._seeds.set_globals()
        checkpoints = Checkpoints(self._folder / "checkpoints")
        loaded = load_newest(checkpoints)
        tasks = tasks_of(config)
        agent: Trainee
        make_loop: Callable[[VectorEnv, Plan, Outlets], BaseLoop[Any, Any]]
        if tasks is None:
            agent = online = self._build(build_agent, envs, plan, restored=loaded is not None)
            make_loop = partial(self._online_loop, online)
        else:
            agent = learner = self._build(build_meta_agent, envs, plan, restored=loaded is not None)
            make_loop = partial(self._meta_loop, learner, tasks)
        start = loaded[0].step if loaded else 0
        final_tree = resolve_tree(tree, resolved(plan))
        reporter = self._make_reporter(plan, start)
        for line in (*_headline(config, plan, envs), *agent.describe()):
            reporter.say(line)
        log = self._open_log(final_tree, start * envs.action_repeat, reporter)
        loop = make_loop(envs, plan, Outlets(log, checkpoints, reporter))
        if loaded is None:
            loop.start(self._seeds.envs(envs.num_envs))
            check_savable(envs)
        else:
            with fitting(loaded[0].path):
                loop.check_state(loaded[1], loaded[0].step)
                checkpoints.restore_rings(loaded[0], agent.rings)
                loop.load_state(loaded[1])
            reporter.say(f"continuing at {loop.env_steps} env steps" + ("" if envs.exact else ", in new episodes"))
        write_config(self._folder, final_tree)
        versions.record(self._folder, self._device, at={"agent_steps": start}, say=reporter.say)
        log.begin(loaded[1]["logs"] if loaded else None)
        loop.run()

    def _make_reporter(self, plan: Plan, start: int) -> Reporter:
        reporter = make_reporter(plan.length.env_steps, start * plan.length.action_repeat)
        self._stack.callback(reporter.close)
        self._stack.enter_context(_warnings_to(reporter))
        return reporter

    def _open_log(self, tree: Mapping[str, Any], env_steps: int, reporter: Reporter) -> RunLog:
        log = RunLog(
            self._folder,
            self._config.logger,
            tree,
            step=env_steps,
            columns=EVAL_COLUMNS if tasks_of(self._config) is None else META_COLUMNS,
            say=reporter.say,
        )
        self._stack.callback(log.close)
        return log

    def _build(self, build: Callable[..., T], envs: VectorEnv, plan: Plan, *, restored: bool) -> T:
        return build(
            self._config,
            envs,
            device=self._device,
            seed=self._seeds.agent,
            compile=plan.compile.mode,
            restored=restored,
            agent_steps=plan.length.agent_steps,
        )

    def _online_loop(self, agent: Agent, envs: VectorEnv, plan: Plan, outlets: Outlets) -> Loop:
        train = self._config.train
        evaluator = Evaluator(
            self._eval_envs(eval_envs(train)),
            agent,
            self._seeds,
            batch=train.eval_batch,
            epsilon=train.eval_epsilon,
            say=outlets.reporter.say,
            check_stop=self._stop.check,
        )
        keep = self._config.checkpoint.keep_replay
        parts = self._parts(envs, agent, evaluator, outlets)
        return Loop(parts, train, plan.length, overlap=plan.overlap, keep_replay=keep)

    def _meta_loop(self, agent: MetaAgent, tasks: TaskSet, envs: VectorEnv, plan: Plan, outlets: Outlets) -> MetaLoop:
        config, say = self._config, outlets.reporter.say
        evaluator = MetaEvaluator(
            self._eval_envs(config.train.eval_envs or config.env.num_envs),
            agent,
            tasks.test,
            config.train,
            self._seeds,
            pictures=Pictures(self._folder, _title(config), say),
            say=say,
            check_stop=self._stop.check,
        )
        Guard("tasks.json", say).run(lambda: write_tasks(self._folder, tasks))
        return MetaLoop(
            self._parts(envs, agent, evaluator, outlets),
            config.train,
            plan.length,
            tasks=tasks.train,
            seed=self._seeds.collection,
            keep_replay=config.checkpoint.keep_replay,
        )

    def _eval_envs(self, count: int) -> Callable[[], VectorEnv]:
        """Return what starts the simulators of evaluation; every episode brings its own seed."""
        return partial(build_envs, evaluation_variant(self._config.env), [0] * count, self._patience)

    def _parts(self, envs: VectorEnv, agent: A, evaluator: E, outlets: Outlets) -> Parts[A, E]:
        self._stack.callback(evaluator.close)
        config = self._config
        return Parts(
            envs=envs,
            agent=agent,
            evaluator=evaluator,
            log=outlets.log,
            curve=Curve(self._folder, _title(config), references(config.env), outlets.reporter.say),
            checkpoints=outlets.checkpoints,
            reporter=outlets.reporter,
            stop=self._stop,
            folder=self._folder,
            check_every_update=self._device.type == "cpu",
            video_path=partial(_video_path, config, self._folder),
        )


@contextmanager
def _warnings_to(reporter: Reporter) -> Iterator[None]:
    """Show warnings (a simulator that was restarted) as lines of the run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"rlrep\.envs")  # each loss, not only the first
        warnings.showwarning = lambda message, *_: reporter.say(f"warning: {message}")
        yield


def _headline(config: RunConfig, plan: Plan, envs: VectorEnv) -> list[str]:
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
    ]


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


def _say_done(folder: Path, config: RunConfig, full_size: str | None) -> None:
    pictures = ("learning_curve.png", "adaptation.png", "latents.png")
    places = [*pictures, f"videos/final.{config.video_format}", "eval.csv", "metrics.jsonl"]
    there = [str(folder / place) for place in places if (folder / place).exists()]
    print(f"done: {'  '.join(there)}" + (f"\nfull-size job: {full_size}" if full_size else ""), flush=True)
