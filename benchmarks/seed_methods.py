"""Measures methods that use classes beside their controls, on the same seeds, and says which of our marks they reach.

    python -m benchmarks.seed_methods [--suite NAME] [--seeds N] [--dry-run] [KEY=VALUE ...]

elr: wrong labels, learnt by heart or not. comatch: few labels and many unlabelled images. Without `--suite`, both.
Writes results/seed_NAME.json.
A suite is an entry of SUITES. A word with {seed} is filled in, so that labels differ from seed to seed and are the same
for all arms; {runs} is the folder of the suite's runs, ARM/seedN each. A later stage may read what an earlier one left.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import result
from .grid import Run, command_line, read_rows, run_all, show
from .pretraining import QUIET, Words, gathered
from .tables import spread, spread_head

Found = Mapping[str, Mapping[str, Sequence[float]]]
"""By arm and measure, a value for every seed."""
Mark = tuple[str, Callable[[Found], bool]]
"""What we ask of a method, and whether it is so."""
SEEDS = 5


@dataclass(frozen=True)
class Suite:
    """One table. stages: arms, with their words, that go together; words: of all. measures: columns, and the probe and
    metric of each. controls: by arm, what it is held against in `measures[0]`. marks: what we ask for."""

    data: str
    words: Words
    stages: tuple[Mapping[str, Words], ...]
    measures: Mapping[str, str]
    controls: Mapping[str, str]
    marks: tuple[Mark, ...]
    limits: str

    def runs(self, stage: int, seeds: int, work: Path, words: Words) -> list[Run]:
        """Return the runs of a stage; seeds vary slowest."""
        return [
            Run(self.data, arm, seed, self._filled((*self.words, *own, *words), seed, work))
            for seed in range(seeds)
            for arm, own in self.stages[stage].items()
        ]

    def _filled(self, words: Words, seed: int, work: Path) -> Words:
        return tuple(
            word.replace("{seed}", str(seed)).replace("{runs}", str(work / self.data)) for word in (*words, *QUIET)
        )


def mean(found: Found, arm: str, measure: str = "classifier_accuracy") -> float:
    """Return the mean over seeds."""
    return statistics.fmean(found[arm][measure])


def wins(found: Found, arm: str, other: str, measure: str = "classifier_accuracy") -> int:
    """Return on how many seeds an arm is above another."""
    return sum(a > b for a, b in zip(found[arm][measure], found[other][measure], strict=True))


def elr_marks(percent: int) -> tuple[Mark, ...]:
    """Return what is asked of the regulariser at so many percent of noise."""
    plain, elr = f"cross entropy {percent}", f"elr {percent}"
    accuracy: tuple[Mark, ...] = (
        ("40 % noise: cross entropy at most .75", lambda f: mean(f, plain) <= 0.75),
        ("40 % noise: elr at least .93", lambda f: mean(f, elr) >= 0.93),
    )
    if percent == 60:
        accuracy = (("60 % noise: elr at least .30 above", lambda f: mean(f, elr) - mean(f, plain) >= 0.30),)
    return (
        *accuracy,
        (f"{percent} % noise: memorised at most .20", lambda f: mean(f, elr, "classifier_memorised") <= 0.20),
        (f"{percent} % noise: precision of flags at least .95", lambda f: mean(f, elr, "flagged_precision") >= 0.95),
        (f"{percent} % noise: recall of flags at least .80", lambda f: mean(f, elr, "flagged_recall") >= 0.80),
    )


SMALL = ("preset=cpu", "data=digits", "train.evaluations=1", "probe.labels_per_class=[1]", "optimiser.name=sgd")
NOISY = (
    *SMALL,
    "data.size=8",
    "augment=none",
    "encoder=resnet18",
    "encoder.width=20",
    "encoder.blocks=[1,1,1]",
    "optimiser.lr=0.05",
    "optimiser.schedule=constant",
    "train.batch_size=128",
    "train.updates=440",
)
FEW = (*SMALL, "data.size=16", "optimiser.lr=0.05", "train.batch_size=80", "train.updates=500")
SUITES: dict[str, Suite] = {
    "elr": Suite(
        "digits",
        (*NOISY, "data.noise_seed={seed}"),
        (
            {
                f"{name} {percent}": (f"method={method}", f"data.label_noise={percent / 100}")
                for percent in (40, 60)
                for name, method in (("cross entropy", "cross_entropy"), ("elr", "elr"))
            },
        ),
        {
            "accuracy": "classifier_accuracy",
            "memorised": "classifier_memorised",
            "precision of flags": "flagged_precision",
            "recall of flags": "flagged_recall",
        },
        {f"elr {percent}": f"cross entropy {percent}" for percent in (40, 60)},
        (*elr_marks(40), *elr_marks(60)),
        "Digits of 8x8, a ResNet of three blocks, no augmentation, 40 epochs of SGD (chosen on seed 0 such that cross "
        "entropy has memorised by then). An arm's number is the percentage of images that get a class drawn from all "
        "ten, as in the paper: a tenth of these are right. "
        "Memorised: wrong labels that the classifier repeats.",
    ),
    "comatch": Suite(
        "digits",
        FEW,
        (
            {
                "labels only": ("method=comatch", "method.unlabelled=0", "method.contrast=0"),
                "fixmatch": ("method=comatch", "method.contrast=0", "method.smoothing=1", "method.alignment=0"),
                "comatch": ("method=comatch",),
            },
        ),
        {"accuracy": "classifier_accuracy", "linear probe": "linear_accuracy"},
        {"fixmatch": "labels only", "comatch": "fixmatch"},
        (
            ("comatch at least .92", lambda f: mean(f, "comatch") >= 0.92),
            ("comatch at least .01 above fixmatch", lambda f: mean(f, "comatch") - mean(f, "fixmatch") >= 0.01),
            ("comatch above fixmatch on four of five seeds", lambda f: wins(f, "comatch", "fixmatch") >= 4),
            ("comatch at least .08 above labels only", lambda f: mean(f, "comatch") - mean(f, "labels only") >= 0.08),
        ),
        "Digits of 16x16, four labels per class, drawn anew for every seed and the same for all arms, 500 updates. The "
        "linear probe has all labels.",
    ),
}


def collect(runs: Sequence[Run], work: Path) -> dict[str, dict[str, list[float]]]:
    """Read the finished runs: by arm and measure, in the order of seeds, of the seeds that all arms have."""
    done = {(run.arm, run.seed): run for run in runs if run.finished(work)}
    arms = list(dict.fromkeys(run.arm for run in runs))
    shared = [seed for seed in sorted({run.seed for run in runs}) if all((arm, seed) in done for arm in arms)]
    found: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms} if shared else {}
    for arm in found:
        for seed in shared:
            rows = [row for row in read_rows(done[arm, seed].folder(work) / "eval.csv") if row["kind"] == "final"]
            for name, values in gathered(rows).items():
                found[arm].setdefault(name, []).append(statistics.fmean(values))
    return found


def report(name: str, suite: Suite, runs: Sequence[Run], work: Path, jobs: int) -> dict[str, object]:
    """Return the result file's content."""
    found = collect(runs, work)
    seeds = [len(next(iter(values.values()))) for values in found.values()]
    first = {run.arm: run for run in reversed(runs)}
    return {
        "question": f"What does {name} do for a classifier, beside its controls on the same seeds?",
        "limits": suite.limits,
        "jobs_at_a_time": jobs,
        "runs": {"asked": len(runs), "finished": sum(run.finished(work) for run in runs)},
        "table": {"columns": columns(suite, seeds), "rows": [row(suite, arm, found) for arm in found]},
        "lines": {"marks": marks(suite, found, min(seeds))},
        "arms": {
            arm: {"command": " ".join(["python", *first[arm].command(Path("runs"))]), "values": dict(values)}
            for arm, values in found.items()
        },
    }


def marks(suite: Suite, found: Found, seeds: int) -> str:
    """Say what is asked of the means over seeds, and what of it is reached; fewer than five settle nothing."""
    if seeds < SEEDS:
        return f"Asked for over {SEEDS} seeds, not settled by {seeds}: {'; '.join(said for said, _ in suite.marks)}."
    reached = (f"{said}: {'reached' if holds(found) else 'not reached'}" for said, holds in suite.marks)
    return f"Asked for, of the means: {'; '.join(reached)}."


def columns(suite: Suite, seeds: Sequence[int]) -> list[str]:
    """Return the table's head."""
    first, *rest = (spread_head(measure, seeds) for measure in suite.measures)
    return ["arm", "seeds", first, spread_head("minus control", seeds), *rest]


def row(suite: Suite, arm: str, found: Found) -> list[str]:
    """Return an arm's line."""
    first, *rest = suite.measures.values()
    values, control = found[arm][first], suite.controls.get(arm)
    gains = [a - b for a, b in zip(values, found[control][first], strict=True)] if control else []
    cells = [told(gains)] + [told(found[arm].get(measure, [])) for measure in rest]
    return [arm, str(len(values)), told(values), *cells]


def told(values: Sequence[float]) -> str:
    """Return the mean of seeds and what stands behind it; nothing of nothing."""
    return f"{statistics.fmean(values):.3f}{spread(values, 3)}" if values else ""


def main() -> int:
    """Run what is missing and write the results. Returns the exit status."""
    parser = command_line(__doc__, "seed_methods")
    parser.add_argument("--suite", choices=tuple(SUITES), action="append")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_intermixed_args()
    return max(conduct(name, options) for name in options.suite or SUITES)


def conduct(name: str, options: argparse.Namespace) -> int:
    """Run and write one suite."""
    suite, work, failed = SUITES[name], options.work / name, False
    runs: list[Run] = []
    for stage in range(len(suite.stages)):
        made = suite.runs(stage, options.seeds, work, tuple(options.words))
        made = [run for run in made if options.only in f"{run.task}/{run.arm}/seed{run.seed}"]
        runs += made
        if options.dry_run:
            show(made, work)
        elif not options.collect:
            failed = bool(run_all(made, work, jobs=options.jobs)) or failed
    if not options.dry_run and not options.only and collect(runs, work):
        result.write(options.results / f"seed_{name}.json", report(name, suite, runs, work, options.jobs))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
