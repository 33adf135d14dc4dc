"""One session of a run: open its folder, build its parts, train, and say how it ended."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import torch

from rlrep.envs.vector import Patience

from . import versions
from .base_loop import BaseLoop, Evaluates, Parts
from .checkpoint import Checkpoints, Manifest, fitting, load_newest
from .compile_rule import CompileChoice, choose_compile
from .config import Compile, Length, RunConfig, TrainConfig, plan_length
from .curve import Curve
from .errors import Stopped, UserError
from .evaluation import FINAL, Evaluator, eval_envs, references
from .folder import (
    check_same_run,
    has_final_row,
    lock_folder,
    read_config,
    resolve_tree,
    write_config,
    write_tasks,
)
from .logs import EVAL_COLUMNS, META_COLUMNS, RunLog
from .loop import Loop
from .make import build_agent, build_meta_agent, tasks_of
from .meta.evaluation import MetaEvaluator
from .meta.loop import MetaLoop
from .meta.picture import Pictures
from .output import spare_output
from .process import Seeds, keep_large_blocks, pick_device, set_threads
from .progress import Reporter, make_reporter
from .protocols import Agent, MetaAgent, TaskFamily, TaskSet, Trainee, VectorEnv
from .signals import StopRequest, catch_signals
from .simulators import INEXACT, build_envs, check_savable, evaluation_variant
from .sinks import Guard

T = TypeVar("T")
A = TypeVar("A", bound=Trainee)
E = TypeVar("E", bound=Evaluates)


@dataclass(frozen=True)
class Opened:
    """A run folder as found: the config it was made with and its newest checkpoint, both None in a fresh one."""

    folder: Path
    stored: Mapping[str, Any] | None
    manifest: Manifest | None
    grows: bool

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing to do: a final evaluation without any checkpoint is what a tidied run leaves."""
        over = self.manifest.finished if self.manifest else self.stored is not None and has_final_row(self.folder)
        return over and not self.grows


@dataclass(frozen=True)
class Outlets:
    """Where a run's results go, and what tells of them."""

    log: RunLog
    checkpoints: Checkpoints
    reporter: Reporter


@dataclass(frozen=True)
class Plan:
    """What is settled once device and environment are known."""

    device: torch.device
    length: Length
    compile: CompileChoice
    overlap: bool


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


def open_run(folder: Path, tree: Mapping[str, Any], config: RunConfig) -> Opened:
    """Look into a run folder. Raises UserError if it holds another run, or one that cannot be made longer."""
    manifest = Checkpoints(folder / "checkpoints").latest()
    if not (folder / "config.yaml").exists():
        if manifest is not None:
            raise UserError(f"{folder} has checkpoints but no config.yaml: restore it, or choose another out=")
        return Opened(folder, None, None, grows=False)
    stored = read_config(folder)
    may_grow = not getattr(config.agent, "depends_on_length", False)
    grows = check_same_run(folder, stored, tree, may_grow=may_grow)
    if grows and manifest is None and has_final_row(folder):
        raise UserError(
            f"{folder} is finished and its checkpoints are gone, so it cannot become longer: choose another out="
        )
    if grows and manifest is not None and manifest.finished and not manifest.rings:
        raise UserError(
            f"{folder} is finished ({manifest.step} agent steps) and its replay was dropped, so it cannot "
            f"become longer: choose another out= (checkpoint.keep_replay=true keeps the replay)"
        )
    _check_settled(folder, stored)
    return Opened(folder, stored, manifest, grows)


def _size(opened: Opened) -> str:
    return f" ({opened.manifest.step} agent steps)" if opened.manifest else ", its checkpoints are gone"


def _check_settled(folder: Path, stored: Mapping[str, Any]) -> None:
    """Raise UserError if what this run's first session settled is none of what may be settled."""
    steps = stored["train"].get("agent_steps")
    if type(steps) is not int or stored.get("compile") not in get_args(Compile):
        raise UserError(
            f"{folder}: its config.yaml is damaged (train.agent_steps={steps}, compile={stored.get('compile')}): "
            f"restore it, or choose another out="
        )


def make_plan(config: RunConfig, opened: Opened, device: torch.device, envs: VectorEnv) -> Plan:
    """Settle length, compile mode and overlap. Raises UserError if the run is to become shorter."""
    tasks, train = tasks_of(config), config.train
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
            gains_on_pixels=bool(getattr(config.agent, "gains_on_pixels", False)),
            compiles=bool(getattr(config.agent, "compiles", True)),
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
    horizon = cast(TaskFamily, config.env).horizon
    return tasks * -(-config.train.init_steps // horizon) * horizon


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
        final_tree = resolve_tree(tree, _resolved(plan))
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


def _resolved(plan: Plan) -> dict[str, Any]:
    return {
        "device": plan.device.type,
        "compile": plan.compile.mode,
        "train.overlap": "true" if plan.overlap else "false",
        "train.agent_steps": plan.length.agent_steps,
        "train.env_steps": plan.length.env_steps,
    }


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
