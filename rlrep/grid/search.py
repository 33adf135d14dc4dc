"""A search over options of one arm, by Optuna's ask and tell (Akiba et al. 2019, arXiv 1907.10902).

A trial is an ordinary run. The study is a journal in the grid's folder, which several processes may share: what one of
them leaves, another takes up, and which of them trains a trial is settled by the lock of its run folder.
"""

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrep.config.compose import compose_run
from rlrep.config.config import RunConfig
from rlrep.config.overrides import key_of
from rlrep.launch.base import Job
from rlrep.launch.scheduler import Entry, State
from rlrep.settings import ConfigError, UserError

from .plan import AUGMENTATION, BASE, Cell, Plan, Run, launcher_words, make_plan
from .space import Range
from .suite import Request, name_tasks

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
STARTUP_TRIALS = 5
"""Trials that are never cut off, so that there is a median."""
SEED = 1_000
"""Of every trial: none of those that the best arm is run on afterwards."""
_SECONDS = 2.0
Read = Callable[[Path], Sequence[tuple[int, float, bool]]]
"""The evaluations of a run: agent steps, score, and whether it is the final one; empty while there is none."""


@dataclass(frozen=True)
class Asked:
    """space: by option. trials: of them all. arm: a run of the one that is searched. settings: for the launcher."""

    request: Request
    space: Mapping[str, Range]
    trials: int
    arm: Run
    settings: RunConfig
    folders: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """The search's own place in the grid's folder, the same for the same question."""
        asked = replace(self.request, launcher=(), root="", place=(), seeds=())
        text = json.dumps([repr(asked), [[key, repr(each)] for key, each in sorted(self.space.items())]])
        return Path(self.request.root) / f"search-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def trial(self, values: Mapping[str, Any]) -> Run:
        """Return a trial's run. Raises ConfigError if an option or a value is not valid."""
        return self._cell(values, (f"root={self.folder / 'trials'}",), "trial").at(SEED)

    def fresh(self, arms: Mapping[str, Mapping[str, Any]]) -> Plan:
        """Return the runs of arms, by name, on seeds that the search has not seen."""
        cells = [self._cell(values, self.request.place, name) for name, values in arms.items()]
        return Plan(
            self.request, tuple(cell.at(seed) for seed in self.request.seeds for cell in cells), self.settings, ()
        )

    def _cell(self, values: Mapping[str, Any], place: tuple[str, ...], name: str) -> Cell:
        own = tuple(word for word in self.arm.words if key_of(word) not in ("seed", "root"))
        words = (*own, *(f"{key}={value}" for key, value in values.items()), *place)
        composed = compose_run((*words, *launcher_words(self.request)), self.folders)
        return Cell(self.arm.task, self.arm.agent, f"{self.arm.arm} ({name})", words, composed)


def _the_arm(plan: Plan) -> Run:
    """Return a run of the only arm of a plan that is no control. Raises ConfigError if there are several."""
    request = plan.request
    bare = request.aux == ("none",)
    own = [
        r for r in plan.runs if request.arms or (r.arm.startswith(BASE) == bare and not r.arm.startswith(AUGMENTATION))
    ]
    if len({run.arm for run in own}) != 1:
        raise ConfigError("a search is of one arm: choose one of aux= or arms=, and leave sweeps out")
    return own[0]


def make_asked(request: Request, space: Mapping[str, Range], trials: int, folders: Sequence[Path]) -> Asked:
    """Return a search whose every bound composes. Raises ConfigError, also if it is not of one arm on one task."""
    tasks = name_tasks(request.tasks)
    if len(tasks) != 1:
        raise ConfigError(f"a search is of one task: add tasks= with one of {', '.join(tasks)}")
    if len(request.agents) > 1:
        raise ConfigError(f"a search is of one agent: add agents= with one of {', '.join(request.agents)}")
    if SEED in request.seeds:
        raise ConfigError(f"seeds: {SEED} is the seed of the trials, the best arm is to be run on others")
    named = {key_of(word) for word in request.words}
    if taken := sorted(named & set(space)):
        raise ConfigError(f"{taken[0]} is both searched and set: leave one of them out")
    plan = make_plan(request, folders)
    asked = Asked(request, space, trials, _the_arm(plan), plan.settings, tuple(folders))
    for end in (0, -1):
        asked.trial({key: each.ends[end] for key, each in space.items()})
    for key, each in space.items():
        for choice in each.choices[1:-1]:
            asked.trial({key: choice})
    return asked


def open_study(asked: Asked) -> "Study":
    """Return the study, new or as it was left. Raises UserError if Optuna is not installed."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError as error:
        raise UserError("search= needs optuna: pip install 'rlrep[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = str(asked.folder / JOURNAL)
    return optuna.create_study(
        study_name="search",
        storage=optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))),
        sampler=optuna.samplers.TPESampler(constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
        direction="maximize",
        load_if_exists=True,
    )


@dataclass(frozen=True)
class _Trial:
    number: int
    run: Run
    entry: Entry


class Search:
    """Asks for trials while there is room, tells what became of them, and cuts off those below the median.

    entry: makes the scheduler's entry of a run. stands: says how it stands. read: see `Read`. say: takes a line.
    cuts: whether trials below the median are cut off.
    """

    def __init__(
        self,
        asked: Asked,
        study: "Study",
        entry: Callable[[Run], Entry],
        stands: Callable[[Run], tuple[State, str]],
        read: Read,
        say: Callable[[str], None],
        *,
        cuts: bool = True,
    ) -> None:
        self.asked, self.study = asked, study
        self._entry, self._stands, self._read, self._say = entry, stands, read, say
        self._space = {key: each.distribution() for key, each in asked.space.items()}
        self._ours: dict[int, _Trial] = {}
        self._looked, self._cuts = 0.0, cuts

    def standing(self, job: Job) -> tuple[State, str]:
        """Return how a trial stands: what any process has told of is done, though its run may be cut off."""
        trial = next(trial for trial in self._ours.values() if trial.entry.job == job)
        return self._stands(trial.run) if self._is_open(trial) else ("done", "")

    def more(self, room: int) -> list[Entry]:
        """Return entries of trials to run: those that were left under way, then as many new ones as there is room."""
        trials, added = self.study.get_trials(deepcopy=False), []
        if not self._ours or len(trials) >= self.asked.trials:  # until then, what others asked for is theirs
            added = [self._take(t.number, t.params) for t in trials if _is_open(t) and t.number not in self._ours]
        room -= sum(entry.state == "waiting" for entry in added)
        while room > 0 and len(self.study.get_trials(deepcopy=False)) < self.asked.trials:
            made = self.study.ask(self._space)
            if made.number >= self.asked.trials:  # another process asked for the last one
                self.study.tell(made.number, state=_states().FAIL)
                break
            added.append(self._take(made.number, made.params))
            room -= 1
        return added

    def changed(self, entry: Entry) -> None:
        """Tell the study what became of a trial."""
        trial = next(trial for trial in self._ours.values() if trial.entry is entry)
        if entry.state == "running":
            self._say(f"trial {trial.number}: {self._values(trial)}")
        elif entry.state == "done":
            self._tell(trial)
        elif entry.state == "failed":
            self.study.tell(trial.number, state=_states().FAIL, skip_if_finished=True)
            self._say(f"trial {trial.number} failed: {entry.note}")

    def refresh(self) -> None:
        """Look at what runs, now and then, and cut off what is below the median of others at equal steps."""
        if time.monotonic() - self._looked < _SECONDS:
            return
        self._looked = time.monotonic()
        for trial in self._ours.values():
            if trial.entry.state == "running" and trial.entry.task is not None and self._is_open(trial):
                self._look_at(trial)

    def _take(self, number: int, values: Mapping[str, Any]) -> Entry:
        run = self.asked.trial(values)
        self._ours[number] = _Trial(number, run, self._entry(run))
        if self._ours[number].entry.state == "done":
            self._tell(self._ours[number])
        return self._ours[number].entry

    def _tell(self, trial: _Trial) -> None:
        """Report every evaluation and the final score, unless that was done."""
        if not self._is_open(trial):
            return
        found = self._read(Path(trial.run.out))
        self._report(trial, found)
        final = [score for _, score, last in found if last]
        states = _states()
        if final and math.isfinite(final[-1]):
            self.study.tell(trial.number, final[-1], skip_if_finished=True)
            self._say(f"trial {trial.number}: {final[-1]:.4g}")
        else:
            self.study.tell(trial.number, state=states.FAIL, skip_if_finished=True)

    def _report(self, trial: _Trial, found: Sequence[tuple[int, float, bool]]) -> bool:
        """Report evaluations that are new, and return whether the last of them asks for the trial to be cut off."""
        from optuna.trial import Trial

        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        if not _is_open(frozen):
            return False
        live = Trial(self.study, frozen._trial_id)
        new = [(step, score) for step, score, _ in found if step not in frozen.intermediate_values]
        for step, score in new:
            live.report(score, step)
        return bool(new) and live.should_prune()

    def _look_at(self, trial: _Trial) -> None:
        found = [each for each in self._read(Path(trial.run.out)) if not each[2]]
        if self._report(trial, found) and self._cuts and trial.entry.task is not None:
            self.study.tell(trial.number, state=_states().PRUNED, skip_if_finished=True)
            self._say(f"trial {trial.number} is cut off at {found[-1][0]} agent steps: below the median of the others")
            trial.entry.task.stop(signal.SIGTERM)

    def _is_open(self, trial: _Trial) -> bool:
        return _is_open(self.study.get_trials(deepcopy=False)[trial.number])

    def _values(self, trial: _Trial) -> str:
        values = self.study.get_trials(deepcopy=False)[trial.number].params
        return " ".join(f"{key}={_short(value)}" for key, value in values.items())


def _is_open(trial: "FrozenTrial") -> bool:
    return bool(trial.state == _states().RUNNING)


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(asked: Asked, study: "Study", fresh: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return what the report shows: space, trials, importance of the options, the best one, its scores on fresh seeds.

    fresh: final scores by arm, `best` and `default`.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.number < asked.trials]
    return {
        "suite": asked.request.suite,
        "task": next(iter(name_tasks(asked.request.tasks))),
        "seed": SEED,
        "space": {
            key: {"low": each.low, "high": each.high, "log": each.log, "choices": list(each.choices)}
            for key, each in asked.space.items()
        },
        "trials": [
            {"number": t.number, "state": t.state.name.lower(), "value": t.value, "params": dict(t.params)}
            for t in trials
        ],
        "importance": _importance(study, trials),
        "fresh": {name: list(scores) for name, scores in fresh.items()},
    }


def _importance(study: "Study", trials: Sequence["FrozenTrial"]) -> dict[str, float]:
    """Return each option's share in the variance of scores (PED-ANOVA, Watanabe et al. 2023); {} of too few trials."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    values = [trial.value for trial in trials if trial.state == _states().COMPLETE]
    if len(values) < 4 or len(set(values)) < 2:
        return {}
    return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
