"""Searches that grids have left (`search.json`), read with distrust, as the report shows them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlrep.record.stored import Unreadable, read_json
from rlrep.settings import ConfigError, build

from .files import clean
from .runs import Fault
from .statistics import FEWEST_RUNS, estimate, interquartile_mean

SUMMARY, PREFIX, TRIALS = "search.json", "search-", "trials"
_MOST_TRIALS, _MOST_OPTIONS, _SHOWN = 1_000, 20, 10
_WIDTH, _HEIGHT, _MARGIN = 720, 200, 60
_RESAMPLES = 2000


@dataclass(frozen=True)
class Option:
    """What an option could be, see `rlrep.bench search=`."""

    low: float
    high: float
    log: bool
    choices: tuple[str, ...]

    def place(self, value: object) -> float | None:
        """Return where a value lies from 0 to 1, None if it is none of these."""
        if self.choices:
            known = value in self.choices
            return self.choices.index(str(value)) / max(1, len(self.choices) - 1) if known else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (at - low) / (high - low)


@dataclass(frozen=True)
class Trial:
    """number: its place in the search. state: complete, pruned, fail or running. value: its final score."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, float | str]


@dataclass(frozen=True)
class Search:
    """A search of one arm. seed: of every trial. importance: of options. fresh: final scores on other seeds, by arm."""

    suite: str
    task: str
    seed: int
    space: Mapping[str, Option]
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    fresh: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        scores = [*(trial.value or 0.0 for trial in self.trials), *(v for each in self.fresh.values() for v in each)]
        if not 0 < len(self.space) <= _MOST_OPTIONS or len(self.trials) > _MOST_TRIALS:
            raise ValueError("it has too many options or trials, or none")
        if not all(map(math.isfinite, [*scores, *self.importance.values()])):
            raise ValueError("it holds numbers that are none")
        for option in self.space.values():
            if not option.choices and not (option.low < option.high and (option.low > 0 or not option.log)):
                raise ValueError("a range of it is none")

    @property
    def complete(self) -> list[Trial]:
        """The trials that came to their end, the best first."""
        done = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return sorted(done, key=lambda trial: (-(trial.value or 0.0), trial.number))


def find_searches(roots: Sequence[Path]) -> tuple[list[Search], list[Fault]]:
    """Return the searches at or just below some folders, and what cannot be read of them."""
    places = dict.fromkeys(
        path
        for root in roots
        for pattern in (SUMMARY, f"{PREFIX}*/{SUMMARY}", f"*/{PREFIX}*/{SUMMARY}")
        for path in sorted(root.glob(pattern))
    )
    found, faults = [], []
    for path in places:
        try:
            found.append(_read(path))
        except Unreadable as error:
            faults.append((path.parent, f"its {SUMMARY} {error}"))
    return found, faults


def is_trial(folder: Path) -> bool:
    """Whether a run folder is a trial of a search, whose score is no arm's."""
    parts = folder.parts
    return any(a.startswith(PREFIX) and b == TRIALS for a, b in pairwise(parts))


def _read(path: Path) -> Search:
    try:
        search: Search = build(Search, read_json(path), "search")
    except (ConfigError, ValueError, TypeError) as error:
        raise Unreadable(f"says something else ({clean(str(error))[:120]})") from error
    return search


def view(search: Search) -> dict[str, Any]:
    """Return what the page's template shows of a search."""
    counts = {state: sum(trial.state == state for trial in search.trials) for state in ("complete", "pruned", "fail")}
    return {
        "title": f"Search: {clean(search.suite)}, {clean(search.task)}",
        "summary": (
            f"{len(search.trials)} trials with seed {search.seed}: {counts['complete']} complete, {counts['pruned']} "
            f"cut off below the median at equal steps, {counts['fail']} failed."
        ),
        "bars": [
            {"name": clean(name), "share": f"{share:.2f}", "width": round(300 * max(0.0, min(1.0, share)), 1)}
            for name, share in sorted(search.importance.items(), key=lambda item: -item[1])
        ],
        "axes": list(_axes(search)),
        "lines": list(_lines(search)),
        "size": {"width": _WIDTH, "height": _HEIGHT + 60, "top": 20, "bottom": 20 + _HEIGHT},
        "options": [clean(name) for name in search.space],
        "rows": [
            {"number": t.number, "score": f"{t.value:.4g}", "values": [_text(t.params.get(k)) for k in search.space]}
            for t in search.complete[:_SHOWN]
        ],
        "fresh": [{"name": clean(name), "text": _fresh(scores)} for name, scores in search.fresh.items() if scores],
        "bias": _bias(search),
    }


def _bias(search: Search) -> str:
    if not search.complete:
        return "No trial is complete."
    best = search.complete[0]
    return (
        f"Trial {best.number} scored {best.value:.4g}, the highest of {len(search.complete)} on one seed: as the "
        f"largest of many it is biased upwards, and says less of the arm than runs on fresh seeds, which no trial used"
        + (":" if any(search.fresh.values()) else ", which are not finished yet.")
    )


def _fresh(scores: Sequence[float]) -> str:
    """Return final scores: their IQM with its interval from five runs on, each of them below."""
    made = estimate(
        interquartile_mean, [scores], resamples=_RESAMPLES, generator=np.random.default_rng(0), fewest=FEWEST_RUNS
    )
    if made.low is None:
        return f"{', '.join(f'{score:.4g}' for score in scores)} (too few runs for an interval)"
    return f"IQM {made.value:.4g}, 95 % interval {made.low:.4g} to {made.high:.4g}, {len(scores)} runs"


def _axes(search: Search) -> Iterator[dict[str, Any]]:
    scores = [trial.value for trial in search.complete if trial.value is not None]
    ends = [(name, *_ends(option)) for name, option in search.space.items()]
    ends.append(("score", f"{min(scores):.4g}", f"{max(scores):.4g}") if scores else ("score", "", ""))
    for x, (name, low, high) in zip(_places(len(ends)), ends, strict=True):
        yield {"x": x, "name": clean(name), "low": clean(low), "high": clean(high)}


def _ends(option: Option) -> tuple[str, str]:
    return (option.choices[0], option.choices[-1]) if option.choices else (f"{option.low:.4g}", f"{option.high:.4g}")


def _lines(search: Search) -> Iterator[dict[str, Any]]:
    """Yield a line per complete trial, the best drawn last and over the others."""
    done = search.complete
    low, high = (done[-1].value or 0.0, done[0].value or 0.0) if done else (0.0, 1.0)
    for rank, trial in reversed(list(enumerate(done))):
        score = 0.5 if high == low else ((trial.value or 0.0) - low) / (high - low)
        heights = [option.place(trial.params.get(name)) for name, option in search.space.items()]
        if None in heights:
            continue
        at = zip(_places(len(heights) + 1), [*heights, score], strict=True)
        points = " ".join(f"{x:.1f},{20 + _HEIGHT * (1 - (y or 0.0)):.1f}" for x, y in at)
        yield {"points": points, "best": rank == 0, "opacity": f"{0.2 + 0.6 * score:.2f}"}


def _places(count: int) -> list[float]:
    return [_MARGIN + k * (_WIDTH - 2 * _MARGIN) / max(1, count - 1) for k in range(count)]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else clean(str(value))
