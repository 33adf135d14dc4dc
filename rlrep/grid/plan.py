"""The grid of a benchmark: which runs there are, and how each of them stands."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rlrep.config.compose import Composed, compose_run
from rlrep.config.config import RunConfig
from rlrep.config.overrides import expand, expand_word, key_of
from rlrep.record.folder import check_plain, check_same_run, has_final_row, is_locked, read_config
from rlrep.settings import ConfigError, UserError

from .suite import Request, name_tasks

BASE, AUGMENTATION = "base", "augmentation only"
Kind = Literal["new", "goes on", "finished", "elsewhere", "refused"]


@dataclass(frozen=True)
class Run:
    """One run of the grid. agent: "" where the suite names its arms. arm: what its column is called.

    words: its command line for `rlrep.train`.
    """

    task: str
    agent: str
    arm: str
    seed: int
    words: tuple[str, ...]
    out: str
    tree: dict[str, Any]

    @property
    def name(self) -> str:
        """What lines call it."""
        return f"{' '.join(filter(None, (self.task, self.agent, self.arm)))}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs, seeds slowest, so that an interrupted grid is balanced. settings: of one of them, for the launcher."""

    request: Request
    runs: tuple[Run, ...]
    settings: RunConfig
    augmentations: tuple[str, ...]

    @property
    def arms(self) -> list[str]:
        """The arms in order."""
        return list(dict.fromkeys(run.arm for run in self.runs))


def make_plan(request: Request, folders: Sequence[Path]) -> Plan:
    """Compose every task, agent and arm. Raises ConfigError if one of them is not valid."""
    _check_head_settings(request)
    compose = cache(lambda words: compose_run(words, folders))  # sweeps share the arms that they do not touch
    cells = [
        cell
        for name, task in name_tasks(request.tasks).items()
        for agent in request.agents or ("",)
        for words in expand(request.words)
        for cell in _arms(_Row(request, name, task, agent, words, compose))
    ]
    runs = {run.out: run for seed in request.seeds for cell in cells for run in [cell.at(seed)]}
    augmentations = dict.fromkeys(view for cell in cells for view in cell.augmentation)
    return Plan(request, tuple(runs.values()), cells[0].composed.config, tuple(augmentations))


@dataclass(frozen=True)
class Cell:
    """One arm of a task and agent. augmentation: its name, if it is the augmentation-only arm."""

    task: str
    agent: str
    arm: str
    words: tuple[str, ...]
    composed: Composed
    augmentation: tuple[str, ...] = ()

    def at(self, seed: int) -> Run:
        """Return the run of a seed; only the end of its default folder depends on that."""
        out = str(Path(self.composed.config.out).with_name(f"seed{seed}"))
        tree = {**self.composed.tree, "seed": seed, "out": out}
        return Run(self.task, self.agent, self.arm, seed, (*self.words, f"seed={seed}"), out, tree)


@dataclass(frozen=True)
class _Row:
    """A task and agent under one choice of what is swept. words: of every run.

    compose: makes a run's config of all its words.
    """

    request: Request
    task: str
    task_words: Sequence[str]
    agent: str
    words: Sequence[str]
    compose: Callable[[tuple[str, ...]], Composed]

    def cell(self, arm: str, *, before: Sequence[str] = (), after: Sequence[str] = (), view: str = "") -> Cell:
        """Compose an arm, whose own words stand before and after those of every run. view: see `Cell.augmentation`."""
        heads = _heads(before) | _heads(after)
        every = [word for word in self.words if not word.startswith("aux.") or word.split(".")[1] in heads]
        preset = [] if self.request.preset == "paper" else [f"preset={self.request.preset}"]
        words = (*self.task_words, *before, *every, *after, *preset, *self.request.place)
        composed = self.compose((*words, *launcher_words(self.request)))
        name = " ".join([arm, *(word for word in every if word not in self.request.words)])  # what a sweep chose
        return Cell(self.task, self.agent, name, words, composed, (view,) if view else ())


def _arms(row: _Row) -> Iterator[Cell]:
    """Yield the arms of a row: those that the suite names, or else base, augmentation only, heads."""
    if row.agent:
        yield from _crossed(row)
    for arm, words in row.request.arms.items():
        for own in expand(words):
            yield row.cell(" ".join([arm, *(word for word in own if word not in words)]), after=own)


def _crossed(row: _Row) -> Iterator[Cell]:
    request = row.request

    def cell(arm: str, augment: str | None, heads: str, view: str = "") -> Cell:
        chosen = [] if augment is None else [f"augment={augment}"]
        return row.cell(arm, before=[f"agent={row.agent}", *chosen, f"aux={heads}"], view=view)

    heads = [cell(each.strip("[]").replace(",", "+"), request.augment, each) for each in request.aux if each != "none"]
    bare = [] if heads else [cell(BASE, request.augment, "none")]
    views = {view for each in (*heads, *bare) for view in each.composed.views}
    if "none" in request.aux:
        yield cell(BASE, "none", "none")
    for view in sorted(views) or [(heads or bare)[0].composed.usual_view]:
        yield cell(AUGMENTATION if len(views) < 2 else f"{AUGMENTATION} ({view})", view, "none", view)
    yield from heads


def launcher_words(request: Request) -> tuple[str, ...]:
    """Return the launcher's words; a grid fills the machine unless it is told otherwise."""
    named = {word for word in request.launcher if key_of(word) == "launcher"}
    return request.launcher if named - {"launcher=local"} else ("launcher.jobs=auto", *request.launcher)


def _heads(words: Sequence[str]) -> set[str]:
    """Return the heads that an arm's words choose."""
    return {head for word in words if key_of(word) == "aux" for each in expand_word(word) for head in _listed(each)}


def _listed(word: str) -> list[str]:
    return word.partition("=")[2].strip("[]").replace(" ", "").split(",")


def _check_head_settings(request: Request) -> None:
    """Raise ConfigError for an option of a head that no arm has."""
    arms = [*((f"aux={each}",) for each in request.aux), *request.arms.values()]
    known = {head for words in arms for head in _heads(words)}
    for word in request.words:
        if word.startswith("aux.") and word.split(".")[1] not in known:
            raise ConfigError(f"{word}: no arm has that head, the grid has aux={','.join(sorted(known))}")


def standing(run: Run) -> tuple[Kind, str]:
    """Return how a run stands before the grid starts, and why it cannot run if it cannot."""
    folder = Path(run.out)
    if not (folder / "config.yaml").exists():
        return "new", ""
    try:
        check_plain(folder)
        grows = check_same_run(folder, read_config(folder), run.tree, may_grow=True)
    except UserError as error:
        return "refused", str(error)
    if is_finished(folder) and not grows:
        return "finished", ""
    return ("elsewhere", "another process is training it") if is_locked(folder) else ("goes on", "")


def is_finished(folder: Path) -> bool:
    """Whether a run's final evaluation is there, and whole: its checkpoint, if there is one, is marked finished."""
    if not has_final_row(folder):
        return False
    from rlrep.record.checkpoint import Checkpoints

    manifest = Checkpoints(folder / "checkpoints").latest()
    return manifest is None or manifest.finished
