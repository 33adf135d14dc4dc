"""A study over its seeds: what was measured, what that says of the claims, and the plain data that pages show."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlrep.process.seeds import Seeds
from rlrep.record.stored import Unreadable, read_json
from rlrep.settings import UserError

from .study import Measured, Study
from .verdict import Verdict, judge

FORMAT = "rlrep study 1"
Data = dict[str, Any]
"""An outcome as JSON holds it."""


@dataclass(frozen=True)
class Outcome:
    """name: of the study. command: that measures it again. versions: what it was made with. measured: by seed.

    seconds: of processor time.
    """

    name: str
    study: Study
    preset: str
    command: str
    versions: Data
    seeds: tuple[int, ...]
    measured: tuple[Measured, ...]
    seconds: float

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of every claim."""
        return [judge(claim, [seed.numbers[claim.number] for seed in self.measured]) for claim in self.study.claims]

    @property
    def data(self) -> Data:
        """Everything but the curves as plain data."""
        about = self.study.about
        return {
            "format": FORMAT,
            "study": self.name,
            "preset": self.preset,
            "command": self.command,
            "title": about.title,
            "source": about.source,
            "claim": about.claim,
            "setup": about.setup,
            "settings": self.study.settings,
            "seeds": list(self.seeds),
            "verdict": summary([verdict.word for verdict in self.verdicts]),
            "verdicts": [_plain(verdict) for verdict in self.verdicts],
            "numbers": {name: [seed.numbers[name] for seed in self.measured] for name in self.measured[0].numbers},
            "seconds": round(self.seconds, 1),
            "versions": self.versions,
        }


def measure(study: Study, seeds: Sequence[int], say: Callable[[str], None]) -> tuple[tuple[Measured, ...], float]:
    """Return what every seed measured, and the seconds of processor time they took.

    By one thread: a result depends on the order of sums, and so on the number of threads.
    """
    start, measured, threads = time.process_time(), list[Measured](), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number, seed in enumerate(seeds, 1):
            say(f"seed {seed} ({number} of {len(seeds)})")
            Seeds(seed).set_globals()
            measured.append(study.measure())
    finally:
        torch.set_num_threads(threads)
    return tuple(measured), time.process_time() - start


def summary(words: Sequence[str]) -> str:
    """Say in one line what became of all claims."""
    told = [f"{words.count(word)} {said}" for word, said in _SAID.items() if word in words]
    return f"of {len(words)} claim{'s' * (len(words) != 1)} {', '.join(told)}"


_SAID = {"holds": "hold here", "fails": "fail here", "not settled": "not settled"}


def to_json(outcome: Outcome) -> str:
    """Return an outcome as strict JSON: what is not finite is a text."""
    curves = [{title: dict(lines) for title, lines in seed.curves.items()} for seed in outcome.measured]
    return json.dumps(_finite({**outcome.data, "curves": curves}), indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Data:
    """Return what `to_json` wrote. Raises UserError if the file is none of a study's."""
    try:
        found = read_json(path)
    except Unreadable as error:
        raise UserError(f"{path} {error}: delete it, or choose another out=") from error
    if found.get("format") != FORMAT:
        raise UserError(f"{path} is no outcome of a study: delete it, or choose another out=")
    return found


def _plain(verdict: Verdict) -> Data:
    claim = verdict.claim
    interval = None if verdict.mean.low is None else [verdict.mean.low, verdict.mean.high]
    return {
        "verdict": verdict.word,
        "claim": claim.text,
        "bound": claim.bound,
        "number": claim.number,
        "by_seed": list(verdict.values),
        "mean": verdict.mean.value,
        "interval": interval,
        "figures": verdict.figures,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if abs(value) < float("inf") else str(value)
    return value
