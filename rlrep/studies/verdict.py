"""Whether a claim holds here: computed from the claim's inequality and what the seeds measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlrep.scores.statistics import FEWEST_RUNS, Estimate, estimate, mean

from .study import Claim

Word = Literal["holds", "fails", "not settled"]
_RESAMPLES = 2000


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it.

    values: of the claim's number, by seed.
    mean: over the seeds; with a 95 % bootstrap interval from five seeds on.
    """

    claim: Claim
    values: tuple[float, ...]
    mean: Estimate
    word: Word

    @property
    def figures(self) -> str:
        """The measured numbers in words: an interval of five seeds and more, the value of every seed below that."""
        if self.mean.low is None or self.mean.high is None:
            return ", ".join(short(value) for value in self.values)
        return f"{short(self.mean.value)} [{short(self.mean.low)}, {short(self.mean.high)}]"

    @property
    def line(self) -> str:
        """The verdict on one line."""
        return f"{self.word}: {self.claim.text} {self.claim.bound}: {self.figures}"


def judge(claim: Claim, values: Sequence[float]) -> Verdict:
    """Judge a claim by its number's values, one per seed.

    From five seeds on it holds where the whole 95 % interval of the mean is within the bounds, and fails where all of
    it is outside; of fewer seeds every one must be within, or outside. Else it is not settled, as with a NaN.
    """
    random = np.random.default_rng(0)
    found = estimate(mean, [list(values)], resamples=_RESAMPLES, generator=random, fewest=FEWEST_RUNS)
    if found.low is None or found.high is None:
        held = [claim.low <= value <= claim.high for value in values]
        failed = [value < claim.low or value > claim.high for value in values]
    else:
        held = [claim.low <= found.low, found.high <= claim.high]
        failed = [found.high < claim.low or found.low > claim.high]
    word: Word = "holds" if all(held) else "fails" if all(failed) else "not settled"
    return Verdict(claim, tuple(values), found, word)


def short(value: float) -> str:
    """Return a number at three significant digits."""
    return f"{value:.3g}"
