"""`python -m rlrep.evaluate`: score the newest checkpoint of a run, by the run's own config."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlrep.config.config import Device
from rlrep.process.cli import Arguments, entry
from rlrep.record.files import csv_text, wrote
from rlrep.settings import ConfigError, UserError, build, one_line, ranges

_MOST_ENVS = 64
Row = Mapping[str, Any]
Take = Callable[["Trainee"], None]
"""Gives an agent the state of the checkpoint."""
APART = 2**31 - 1
"""Number of an evaluation that no run comes to, so that its episodes are seeded apart."""

if TYPE_CHECKING:
    from rlrep.config.config import RunConfig
    from rlrep.contract.agent import Trainee
    from rlrep.contract.env import VectorEnv
    from rlrep.loops.evaluation import Evaluation
    from rlrep.record.bounds import Bounded
    from rlrep.record.trust import Trust

_HELP = """\
Score the newest checkpoint of a run: prints mean, standard deviation and interquartile mean, writes evaluate.csv.

  python -m rlrep.evaluate out=RUN [episodes=10] [seed=0] [video=true|false] [device=auto|cpu|cuda]
                           [env.flicker=0.5] [attack=pgd attack.epsilon=1/255] [--config-dir DIR] [--trust MODULE]

A run folder is data, never code: components that are not rlrep's or an installed package's are made only if a file in
DIR names them, or MODULE (or a package of that name) has them.
Episodes are seeded apart from those of training and of its evaluations. video=true films the first one. Of a run on a
family of tasks, `episodes` counts attempts at each task of evaluation, and the mean is that after all adaptation.
env.flicker: probability that a frame is blank. attack=pgd: the same episodes once more, each observation moved so that
the policy changes most; attack.epsilon is the largest change, of the pixels' range, or in standard deviations of a
state's numbers over the undisturbed episodes, and may be a list ([1/255,2/255]); attack.steps=10 of gradient ascent.
"""


@dataclass(frozen=True)
class Seen:
    """flicker: probability that a frame is blank."""

    flicker: float = 0.0


@dataclass(frozen=True)
class AttackConfig:
    """name: of the attack. epsilon: reach of the adversary, a number or a fraction, or a list of such, see `Disturbed`.

    steps: of its gradient ascent.
    """

    name: Literal["pgd"] = "pgd"
    epsilon: float | str | tuple[float | str, ...] = "1/255"
    steps: int = 10

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("steps",))
        if not self.reaches or any(not 0 < reach < np.inf for reach in self.reaches):
            raise ValueError(f"epsilon={self.epsilon} must be numbers above 0, such as 0.01 or 1/255")

    @property
    def reaches(self) -> list[float]:
        """The values of epsilon. Raises ValueError on what is no number."""
        return [_number(value) for value in (self.epsilon if isinstance(self.epsilon, tuple) else (self.epsilon,))]


def _number(value: float | str) -> float:
    above, _, below = str(value).partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"epsilon={value} is neither a number nor a fraction such as 1/255") from None


@dataclass(frozen=True)
class EvaluateConfig:
    """out: run folder. episodes: 10 if None; of a family of tasks, attempts at each, 1 if None. seed: of the episodes.

    video: film the first episode. env: how the environment is seen. attack: what observations are moved by.
    """

    out: str
    episodes: int | None = None
    seed: int = 0
    video: bool = False
    device: Device = "auto"
    env: Seen = field(default_factory=Seen)
    attack: AttackConfig | None = None

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, not {self.episodes}")


def _run(arguments: Arguments) -> int:
    if arguments.help:
        print(_HELP + "options: " + ", ".join(field.name for field in fields(EvaluateConfig)))
        return 0
    from rlrep.record.trust import Trust

    return _evaluate(read_asked(arguments.words), Trust(tuple(arguments.folders), tuple(arguments.modules)))


def read_asked(words: Sequence[str]) -> EvaluateConfig:
    """Read the words of a command. Raises ConfigError in one line."""
    from rlrep.config.overrides import parse

    settings = _nested({setting.path: setting.value for setting in parse(words).settings})
    if "out" not in settings:
        raise ConfigError("name the run folder: out=RUN")
    return build(EvaluateConfig, settings, "")  # type: ignore[no-any-return]


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by name, those of `env` and `attack` below theirs; the attack itself is its `name`."""
    found: dict[str, Any] = {}
    for path, value in settings.items():
        group, dot, option = ("attack", ".", "name") if path == "attack" else path.partition(".")
        if dot and group in ("env", "attack"):
            found.setdefault(group, {})[option] = value
        else:
            found[path] = value
    return found


def _evaluate(asked: EvaluateConfig, trust: "Trust") -> int:
    from rlrep.config.config import make_config
    from rlrep.process.machine import set_threads
    from rlrep.record.bounds import Bounded
    from rlrep.record.folder import check_plain

    folder = Path(asked.out)
    check_plain(folder)
    with sound(asked.out):
        config = make_config(trust.read(folder))
        steps, state = newest(folder)
    set_threads()
    video = folder / "videos" / f"evaluate.{config.video_format}" if asked.video else None
    take = partial(take_state, place=folder / "checkpoints", state=state)
    found = _play(config, asked, Bounded(asked.out, state), take, video)
    for epsilon, evaluation in found.items():
        print(_line(config, steps, evaluation) + ("" if asked.attack is None else f"  attack.epsilon {epsilon:.4g}"))
    table = folder / "evaluate.csv"
    if wrote(table, csv_text(_rows(found) if asked.attack else found[0.0].rows)):
        print(f"{table}" + (f"  {video}" if video and video.exists() else ""))
    return 0


def _line(config: "RunConfig", steps: int, found: "Evaluation") -> str:
    returns = np.array([row["return"] for row in _last(found.rows)], np.float64)
    normalised = found.summary.get("eval/human_normalised")
    return (
        f"{config.choices.get('env', '?')} after {steps} agent steps, {len(returns)} episodes: "
        f"mean {returns.mean():.2f}  std {returns.std():.2f}  IQM {interquartile_mean(returns):.2f}"
        + (f"  human-normalised {normalised:.3f}" if normalised is not None else "")
    )


def _rows(found: Mapping[float, "Evaluation"]) -> list[Row]:
    return [{"epsilon": epsilon, **row} for epsilon, evaluation in found.items() for row in evaluation.rows]


def _play(
    config: "RunConfig", asked: EvaluateConfig, bounds: "Bounded", take: Take, video: Path | None
) -> dict[float, "Evaluation"]:
    """Play episodes, undisturbed and under every reach of the attack; of a family, adapt to each task of evaluation."""
    from rlrep.config.make import build_agent
    from rlrep.config.simulators import build_envs, evaluation_variant, scoring_of
    from rlrep.envs.vector import Patience
    from rlrep.loops.attack import Disturbed
    from rlrep.loops.evaluation import Evaluation, eval_envs
    from rlrep.loops.training import make_evaluator
    from rlrep.process.machine import pick_device
    from rlrep.process.seeds import Seeds

    single = not config.env.is_family()
    episodes = asked.episodes or (10 if single else 1)
    train = replace(config.train, eval_episodes=episodes, final_episodes=None)
    with ExitStack() as stack:
        with sound(asked.out):
            most, patience = eval_envs(train) if single else config.env.num_envs, Patience(train.env_timeout or None)
            simulators = build_envs(evaluation_variant(config.env), [0] * min(most, _MOST_ENVS), patience)
            envs = stack.enter_context(closing(simulators))
            device = pick_device(asked.device)
            with bounds:
                agent = build_agent(config, envs, device=device, seed=0, compile="off", restored=True)
            take(agent)
        actor = Disturbed(agent, asked.attack.steps, Seeds(asked.seed).agent) if asked.attack else agent
        seen = _seen(envs, asked.env.flicker)
        evaluator = make_evaluator(config, actor, lambda: seen, Seeds(asked.seed), say=print)
        references, found = scoring_of(config.env).references, dict[float, Evaluation]()
        for epsilon in (0.0, *(asked.attack.reaches if asked.attack else ())):
            if isinstance(actor, Disturbed):
                actor.begin(epsilon)
            found[epsilon] = evaluator.evaluate(APART, episodes, references=references, video=video)
        return found


def _seen(envs: "VectorEnv", flicker: float) -> "VectorEnv":
    """Return the environments as they are to be seen. Raises UserError if these cannot be seen so."""
    from rlrep.envs.vector import Flicker

    if not flicker:
        return envs
    try:
        return Flicker(envs, flicker)
    except ValueError as error:
        raise UserError(one_line(error)) from error


@contextmanager
def sound(folder: str) -> Iterator[None]:
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


def take_state(agent: "Trainee", *, place: Path, state: Any) -> None:
    """Give an agent the state of a checkpoint. Raises UserError if it is none of such an agent."""
    from rlrep.record.tree import misfit

    line = misfit({"agent": agent.state()}, state)
    if line is not None:
        raise UserError(f"{place} does not fit its run's config: {line}")
    agent.load_state(state["agent"])


def newest(folder: Path) -> tuple[int, Any]:
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


main = entry(_run, ("--trust",))
