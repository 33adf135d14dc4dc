"""`python -m rlrep.evaluate`: score the newest checkpoint of a run, by the run's own config."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlrep.config.config import Device
from rlrep.process.cli import Arguments, read_arguments, run_main
from rlrep.record.files import csv_text, wrote
from rlrep.settings import ConfigError, UserError, build, one_line

_MOST_ENVS = 64
Row = Mapping[str, Any]
Take = Callable[["Trainee"], None]
"""Gives an agent the state of the checkpoint."""
APART = 2**31 - 1
"""Number of an evaluation that no run comes to, so that its episodes are seeded apart."""

if TYPE_CHECKING:
    from rlrep.config.config import RunConfig
    from rlrep.contract.agent import Trainee
    from rlrep.loops.evaluation import Evaluation
    from rlrep.record.trust import Trust

_HELP = """\
Score the newest checkpoint of a run: prints mean, standard deviation and interquartile mean, writes evaluate.csv.

  python -m rlrep.evaluate out=RUN [episodes=10] [seed=0] [video=true|false] [device=auto|cpu|cuda]
                           [--config-dir DIR] [--trust MODULE]

A run folder is data, never code: components that are not rlrep's or an installed package's are made only if a file in
DIR names them, or MODULE (or a package of that name) has them.
Episodes are seeded apart from those of training and of its evaluations. video=true films the first one. Of a run on a
family of tasks, `episodes` counts attempts at each task of evaluation, and the mean is that after all adaptation.
"""


@dataclass(frozen=True)
class EvaluateConfig:
    """out: run folder. episodes: 10 if None; of a family of tasks, attempts at each, 1 if None. seed: of the episodes.

    video: film the first episode.
    """

    out: str
    episodes: int | None = None
    seed: int = 0
    video: bool = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, not {self.episodes}")


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_main(lambda: _run(read_arguments(argv, ("--trust",))))


def _run(arguments: Arguments) -> int:
    if arguments.help:
        print(_HELP + "options: " + ", ".join(field.name for field in fields(EvaluateConfig)))
        return 0
    from rlrep.config.overrides import parse

    settings = {setting.path: setting.value for setting in parse(arguments.words).settings}
    if "out" not in settings:
        raise ConfigError("name the run folder: out=RUN")
    from rlrep.record.trust import Trust

    return _evaluate(build(EvaluateConfig, settings, ""), Trust(tuple(arguments.folders), tuple(arguments.modules)))


def _evaluate(asked: EvaluateConfig, trust: "Trust") -> int:
    from rlrep.config.config import make_config
    from rlrep.process.machine import set_threads
    from rlrep.record.folder import check_plain

    folder = Path(asked.out)
    check_plain(folder)
    with _sound(asked.out):
        config = make_config(trust.read(folder))
        steps, state = _newest(folder)
    set_threads()
    video = folder / "videos" / f"evaluate.{config.video_format}" if asked.video else None
    found = _play(config, asked, partial(_take, place=folder / "checkpoints", state=state), video)
    returns = np.array([row["return"] for row in _last(found.rows)], np.float64)
    normalised = found.summary.get("eval/human_normalised")
    print(
        f"{config.choices.get('env', '?')} after {steps} agent steps, {len(returns)} episodes: "
        f"mean {returns.mean():.2f}  std {returns.std():.2f}  IQM {interquartile_mean(returns):.2f}"
        + (f"  human-normalised {normalised:.3f}" if normalised is not None else "")
    )
    table = folder / "evaluate.csv"
    if wrote(table, csv_text(found.rows)):
        print(f"{table}" + (f"  {video}" if video and video.exists() else ""))
    return 0


def _play(config: "RunConfig", asked: EvaluateConfig, take: Take, video: Path | None) -> "Evaluation":
    """Play episodes; of a family, adapt to every task of evaluation."""
    from rlrep.config.make import build_agent, build_meta_agent
    from rlrep.config.simulators import build_envs, evaluation_variant, scoring_of
    from rlrep.envs.vector import Patience
    from rlrep.loops.evaluation import eval_envs
    from rlrep.loops.training import make_evaluator
    from rlrep.process.machine import pick_device
    from rlrep.process.seeds import Seeds

    single = not config.env.is_family()
    episodes = asked.episodes or (10 if single else 1)
    train = replace(config.train, eval_episodes=episodes, final_episodes=None)
    with ExitStack() as stack:
        with _sound(asked.out):
            most, patience = eval_envs(train) if single else config.env.num_envs, Patience(train.env_timeout or None)
            simulators = build_envs(evaluation_variant(config.env), [0] * min(most, _MOST_ENVS), patience)
            envs = stack.enter_context(closing(simulators))
            make: Callable[..., Trainee] = build_agent if single else build_meta_agent
            agent = make(config, envs, device=pick_device(asked.device), seed=0, compile="off", restored=True)
            take(agent)
        evaluator = make_evaluator(config, agent, lambda: envs, Seeds(asked.seed), say=print)
        return evaluator.evaluate(APART, episodes, references=scoring_of(config.env).references, video=video)


@contextmanager
def _sound(folder: str) -> Iterator[None]:
    """Build from a run folder, which may hold anything. Raises UserError for whatever comes of that."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{folder}: its config and checkpoint do not fit each other, or this version "
            f"({type(error).__name__}: {one_line(error)[:200]})"
        ) from error


def _last(rows: Sequence[Row]) -> list[Row]:
    """Return the episodes after all adaptation."""
    known = [int(row.get("adaptation") or 0) for row in rows]
    return [row for row, count in zip(rows, known, strict=True) if count == max(known)]


def _take(agent: "Trainee", *, place: Path, state: Any) -> None:
    """Give an agent the state of a checkpoint. Raises UserError if it is none of such an agent."""
    from rlrep.record.tree import misfit

    line = misfit({"agent": agent.state()}, state)
    if line is not None:
        raise UserError(f"{place} does not fit its run's config: {line}")
    agent.load_state(state["agent"])


def _newest(folder: Path) -> tuple[int, Any]:
    """Return the agent steps and state of the newest sound checkpoint, leaving damaged ones where they are."""
    from rlrep.record.checkpoint import Checkpoints
    from rlrep.record.chunks import Damaged

    try:
        return Checkpoints(folder / "checkpoints").peek()
    except Damaged as error:
        raise UserError(str(error)) from error


def interquartile_mean(scores: NDArray[np.float64]) -> float:
    """Return the mean of the middle half, scores at the borders counted in part."""
    ordered = np.sort(scores)
    edges = np.arange(len(ordered) + 1) / len(ordered)
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return float(ordered @ weights / weights.sum())
