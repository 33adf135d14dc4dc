"""Compares image methods by what probes read from their features, and shows where theory says that they collapse.

    python -m benchmarks.pretraining [--suite digits|collapse|frames] [--seeds N] [--dry-run] [KEY=VALUE ...]

digits: all methods on scikit-learn's digits, each beside itself without what is its own. collapse: three methods with
and without what keeps them from collapsing.
frames: five methods on random play of one Atari game and one Control Suite task, the simulator's state as labels, and
SimCLR with views of one frame, and with those of digits.
Without `--suite`, all three. Writes results/pretraining_SUITE.json.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import result
from .grid import Run, command_line, read_rows, run_all, show
from .tables import spread, spread_head

Words = tuple[str, ...]
ON_FRAMES: dict[str, Words] = {
    **{name: (f"method={name}",) for name in ("simclr", "moco_v2", "byol", "barlow_twins", "autoencoder")},
    "simclr without gap": ("method=simclr", "data.gap=0"),
    "simclr without gap or shifts": ("method=simclr", "data.gap=0", "augment=mild"),
}
"""By arm, what makes it: methods as they come, and one without what frames have of their own."""
FRAMES: dict[str, Words] = {
    "atari_pong": ("data=atari_frames", "data.env=atari_pong", "data.steps=10000", "encoder=der"),
    "dmc_cartpole": (
        *("data=dmc_frames", "data.env=dmc_cartpole", "data.steps=10000", "data.size=60", "encoder=curl_small"),
    ),
}
GUARDS: dict[str, dict[str, Words]] = {
    "byol": {"byol without predictor": ("method.predictor=null",)},
    "shuffled_dbn": {
        "shuffled_dbn without whitening": ("method.whitening=null",),
        "shuffled_dbn with batch norm only": ("method.whitening=null", "method.projector.last_norm=plain"),
    },
    "directpred": {"directpred without small eigenvalues": ("method.predictor.eps=-0.5",)},
}
"""By method: what it is called without its guard against collapse, and the words that take that away."""
NO_NORM = ("method.projector.norm=none", "method.projector.last_norm=none")
CONTROLS: dict[str, tuple[str, Words]] = {
    "autoencoder": ("penalty", ("method.latent_penalty=0.0",)),
    "barlow_twins": ("decorrelation", ("method.objective.off_diagonal=0.0",)),
    "byol": ("predictor", ("method.predictor=null",)),
    "cacr": ("temperatures", ("method.objective.t_pos=0.0", "method.objective.t_neg=0.0")),
    "clae": ("adversary", ("method.weight=0.0",)),
    "debiased": ("tau_plus", ("method.objective.tau_plus=0.0",)),
    "directcopy": ("predictor", ("method.predictor=null",)),
    "directpred": ("predictor", ("method.predictor=null",)),
    "hard_negative": ("beta", ("method.objective.beta=0.0",)),
    "mochi": ("mixing", ("method.queue.mixing=null",)),
    "moco_v2": ("queue", ("method.queue=null",)),
    "moco_v3": ("predictor", ("method.predictor=null",)),
    "shuffled_dbn": ("shuffle", ("method.whitening.shuffle=false",)),
    "simclr": ("views", ("augment=none",)),
    "simsiam": ("predictor", ("method.predictor=null",)),
    "suncet": ("labels", ("method.weight=0.0",)),
    "supcon": ("labels", ("method=simclr", "method.objective.temperature=0.1", *NO_NORM)),
    "vicreg": ("variance and covariance", ("method.objective.variance=0.0", "method.objective.covariance=0.0")),
}
"""By method: what is its own, and the words that take it away and leave the rest. Of supcon that is SimCLR."""
METHODS = tuple(CONTROLS)
"""Those that learn features; what trains a classifier is measured elsewhere."""
LENGTHS: dict[str, Words] = {
    "digits": ("train.evaluations=1",),
    "collapse": ("train.updates=800", "train.evaluations=8"),
    "frames": ("train.updates=600", "train.batch_size=128", "train.evaluations=1"),
}
QUIET = ("logger.tensorboard=false",)
PROBES = ("knn_accuracy", "linear_accuracy", "linear_1_per_class_accuracy", "linear_10_per_class_accuracy")
REFERENCES = {"random": "untrained encoder", "pixels": "raw pixels"}
FEW = PROBES[2:]
Probe = dict[str, float]
"""Mean over variables, and over draws of few labels, by `PROBE_METRIC`."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run left: probes by kind of features, the final meters, and both over the updates.

    draws: by kind of features and probe of few labels, the accuracy of every draw.
    """

    probes: Mapping[str, Probe]
    draws: Mapping[str, Mapping[str, Sequence[float]]]
    meters: Mapping[str, float]
    curve: Sequence[Mapping[str, float]]


def read_outcome(folder: Path) -> Outcome:
    """Read a finished run."""
    rows = read_rows(folder / "eval.csv")
    last = {"encoder": [row for row in rows if row["features"] == "encoder" and row["kind"] == "final"]}
    last |= {name: [row for row in rows if row["features"] == name] for name in REFERENCES}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "rep/embedding/effective_rank" in line]
    curve = [
        {"updates": line["updates"], **rounded({k: v for k, v in line.items() if k.startswith(("rep/", "probe/enc"))})}
        for line in evaluated
    ]
    values = {name: gathered(found) for name, found in last.items()}
    probes = {name: {probe: statistics.fmean(each) for probe, each in found.items()} for name, found in values.items()}
    draws = {name: {probe: found[probe] for probe in FEW if probe in found} for name, found in values.items()}
    return Outcome(probes, draws, {k: v for k, v in evaluated[-1].items() if k.startswith("rep/")}, curve)


def gathered(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    """Return every value of each probe: of all variables, of all draws of few labels."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(f"{row['probe']}_{row['metric']}", []).append(float(row["value"]))
    return found


def plan(suite: str, seeds: int, words: Words) -> list[Run]:
    """Return a suite's runs; seeds vary slowest."""
    more = ("preset=cpu", *QUIET, *LENGTHS[suite], *words)
    return [Run(*cell, seed, (*chosen, *more)) for seed in range(seeds) for cell, chosen in arms(suite).items()]


def arms(suite: str) -> dict[tuple[str, str], Words]:
    """Return the words of every arm by data and name."""
    if suite == "frames":
        return {(env, arm): (*chosen, *data) for env, data in FRAMES.items() for arm, chosen in ON_FRAMES.items()}
    without = GUARDS if suite == "collapse" else {name: {control(name): CONTROLS[name][1]} for name in METHODS}
    return {
        ("digits", arm): (f"method={name}", "data=digits", *change)  # of two methods the last counts
        for name, changes in without.items()
        for arm, change in {name: (), **changes}.items()
    }


def control(method: str) -> str:
    """Return what a method without what is its own is called."""
    return f"{method} without {CONTROLS[method][0]}"


def report(suite: str, runs: Sequence[Run], work: Path, jobs: int) -> dict[str, object]:
    """Return what the result file says."""
    found: dict[str, dict[str, dict[int, Outcome]]] = {}
    for run in runs:
        if run.finished(work):
            outcome = read_outcome(run.folder(work))
            found.setdefault(run.task, {}).setdefault(run.arm, {})[run.seed] = outcome
    first = {(run.task, run.arm): run for run in reversed(runs)}
    seeds = [len(outcomes) for arms in found.values() for outcomes in arms.values()]
    return {
        "question": "What do linear and nearest-neighbour probes read from the features that each method learns?",
        "limits": LIMITS[suite],
        "jobs_at_a_time": jobs,
        "runs": {"asked": len(runs), "finished": sum(len(s) for arms in found.values() for s in arms.values())},
        "table": {
            "columns": columns(suite, seeds),
            "rows": [r for data in found for r in table(suite, data, found[data])],
        },
        "lines": lines(suite, found),
        "tasks": {
            data: {arm: describe(first[data, arm], seeds, curve=suite == "collapse") for arm, seeds in arms.items()}
            for data, arms in found.items()
        },
    }


def lines(suite: str, found: Mapping[str, Mapping[str, Mapping[int, Outcome]]]) -> dict[str, str]:
    """Return a sentence per method, for its page."""
    outcomes = {arm: next(iter(seeds.values())) for arm, seeds in found.get("digits", {}).items()}
    if suite == "digits":
        return {arm: sentence(arm, outcomes) for arm in METHODS if {arm, control(arm)} <= outcomes.keys()}
    return {
        arm: f"Twice as long: {'; '.join([decline(outcomes[arm]), *named_declines(arm, outcomes)])}."
        for arm, changes in GUARDS.items()
        if {arm, *changes} <= outcomes.keys()
    }


def named_declines(method: str, outcomes: Mapping[str, Outcome]) -> list[str]:
    """Say the same of each arm without the method's guard."""
    return [f"{arm[len(method) + 1 :]}: {decline(outcomes[arm])}" for arm in GUARDS[method]]


def decline(outcome: Outcome) -> str:
    """Say how the projections spread over the sphere and its directions, and what neighbours still tell."""
    meters = {name: outcome.meters[f"rep/embedding/{name}"] for name in METERS}
    accuracy = 100 * outcome.probes["encoder"]["knn_accuracy"]
    said = (f"{name.replace('_', ' ')} {meters[name]:{form}}" for name, form in METERS.items())
    return f"{', '.join(said)}, nearest neighbours {accuracy:.1f} %"


def sentence(method: str, outcomes: Mapping[str, Outcome]) -> str:
    """Say what probes read from digits, beside the untrained encoder and the method without what is its own."""
    outcome, without = outcomes[method], outcomes[control(method)]
    three = [cells(outcome.probes["encoder"]), cells(outcome.probes["random"]), cells(without.probes["encoder"])]
    what = ("nearest neighbours", "linear probe", "one label per class", "ten")
    parts = [f"{name} {a} % ({b}; {c})" for name, a, b, c in zip(what, *three, strict=True)]
    beside = f"in parentheses the untrained encoder and the method without {CONTROLS[method][0]}"
    return f"Digits, `preset=cpu`, one seed, {beside}: {', '.join(parts)}."


METERS = {"effective_rank": ".1f", "correlation": ".2f", "uniformity": ".2f"}
"""Of the projector's output, and how they are written."""
_DRAWS = "(sd): the mean over 20 draws of the labels, the same for all rows, and the standard deviation of one draw"
LIMITS = {
    "digits": "One seed, 80 epochs, a small encoder: differences of a percent mean nothing. "
    f"{_DRAWS}; what another seed would change is not in it.",
    "collapse": "One seed. Rank, correlation and uniformity are those of the projector's output on test images. "
    f"{_DRAWS}.",
    "frames": "Frames of a uniformly random policy; the mean over the variables of the simulator that vary. "
    "Spread: 1 = all over the sphere, 0 = collapsed to a point.",
}


def describe(run: Run, seeds: Mapping[int, Outcome], *, curve: bool) -> dict[str, object]:
    """Return an arm's command and, by seed, its probes, draws of few labels, meters and, if asked for, the curve."""
    told = {
        str(seed): {
            "probes": {
                name: {probe: round(value, 4) for probe, value in each.items()} for name, each in o.probes.items()
            },
            "draws": {probe: [round(value, 4) for value in each] for probe, each in o.draws["encoder"].items()},
            "meters": {name: round(value, 4) for name, value in o.meters.items()},
            **({"curve": list(o.curve)} if curve else {}),
        }
        for seed, o in seeds.items()
    }
    return {"command": " ".join(["python", *run.command(Path("runs"))]), "seeds": told}


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Return values as the file has them."""
    return {name: round(value, 4) for name, value in values.items()}


def columns(suite: str, seeds: Sequence[int]) -> list[str]:
    """Return the table's head. seeds: of its rows, how many."""
    if suite == "frames":
        return [
            "frames",
            "features",
            "seeds",
            "probe",
            spread_head("mean", seeds),
            "minus untrained",
            "spread of embeddings",
        ]
    few = [f"{name} (sd)" for name in ("1 label per class", "10 labels")]
    control = ["1 label minus control (sd)", "10 labels"] if suite == "digits" else []
    return ["features", "kNN", "linear", *few, *control, *(name.replace("_", " ") for name in METERS)]


def table(suite: str, data: str, arms: Mapping[str, Mapping[int, Outcome]]) -> list[list[str]]:
    """Return the table's rows: what the methods are held against first."""
    if suite == "frames":
        return frames_table(data, arms)
    outcomes = {arm: next(iter(seeds.values())) for arm, seeds in arms.items()}
    any_run = next(iter(outcomes.values()))
    width = len(columns(suite, []))
    rows = [probe_cells(label, any_run, name) for name, label in REFERENCES.items()]
    for arm, outcome in outcomes.items():
        gains = [gain(outcome, outcomes.get(control(arm)) if arm in CONTROLS else None, name) for name in FEW]
        meters = [f"{outcome.meters[f'rep/embedding/{name}']:{form}}" for name, form in METERS.items()]
        rows.append([*probe_cells(arm, outcome, "encoder"), *(gains if suite == "digits" else []), *meters])
    return [row + [""] * (width - len(row)) for row in rows]


def probe_cells(label: str, outcome: Outcome, features: str) -> list[str]:
    """Return a row's beginning: its name and the accuracies in percent, of draws with the deviation of one."""
    means, draws = cells(outcome.probes[features]), outcome.draws[features]
    few = [f"{mean} ({100 * statistics.stdev(draws[name]):.1f})" for mean, name in zip(means[2:], FEW, strict=True)]
    return [label, *means[:2], *few]


def gain(outcome: Outcome, without: Outcome | None, probe: str) -> str:
    """Return by how many percent a method is above its control on the same labels, and the deviation of one draw."""
    if without is None:
        return ""
    pairs = zip(outcome.draws["encoder"][probe], without.draws["encoder"][probe], strict=True)
    differences = [100 * (a - b) for a, b in pairs]
    return f"{statistics.fmean(differences):+.1f} ({statistics.stdev(differences):.1f})"


def cells(probes: Probe) -> list[str]:
    """Return the accuracies of digits in percent."""
    return [f"{100 * probes[name]:.1f}" for name in PROBES]


def frames_table(data: str, arms: Mapping[str, Mapping[int, Outcome]]) -> list[list[str]]:
    """Return one row per arm: the headline probe, its gain over the same seeds' untrained encoders, the spreads."""
    every = [outcome for seeds in arms.values() for outcome in seeds.values()]
    probe = "linear_r2" if "linear_r2" in every[0].probes["encoder"] else "linear_macro_f1"
    rows = []
    for name, label in REFERENCES.items():
        values = [outcome.probes[name][probe] for outcome in next(iter(arms.values())).values()]
        rows.append([data, label, str(len(values)), probe, mean(values), "", ""])
    for arm, seeds in arms.items():
        values = [outcome.probes["encoder"][probe] for outcome in seeds.values()]
        gains = [outcome.probes["encoder"][probe] - outcome.probes["random"][probe] for outcome in seeds.values()]
        spreads = ", ".join(f"{outcome.meters['rep/embedding/spread']:.2f}" for outcome in seeds.values())
        rows.append([data, arm, str(len(values)), probe, mean(values), mean(gains), spreads])
    return rows


def mean(values: Sequence[float]) -> str:
    """Return the mean of seeds and what stands behind it."""
    return f"{statistics.fmean(values):.3f}{spread(values, 3)}"


def main() -> int:
    """Run what is missing and write the results. Returns the exit status."""
    parser = command_line(__doc__, "pretraining")
    parser.add_argument("--suite", choices=tuple(LIMITS), action="append")
    parser.add_argument("--seeds", type=int, help="default 1, of frames 3")
    options = parser.parse_intermixed_args()
    return max(conduct(suite, options) for suite in options.suite or LIMITS)


def conduct(suite: str, options: argparse.Namespace) -> int:
    """Run and write one suite."""
    runs = plan(suite, options.seeds or (3 if suite == "frames" else 1), tuple(options.words))
    runs = [run for run in runs if options.only in f"{run.task}/{run.arm}/seed{run.seed}"]
    work = options.work / suite
    if options.dry_run:
        show(runs, work)
        return 0
    failed = [] if options.collect else run_all(runs, work, jobs=options.jobs)
    if not options.only and any(run.finished(work) for run in runs):
        result.write(options.results / f"pretraining_{suite}.json", report(suite, runs, work, options.jobs))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
