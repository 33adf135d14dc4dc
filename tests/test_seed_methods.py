"""The table of methods beside their controls: paired seeds, and what is said of the marks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.grid import Run
from benchmarks.seed_methods import SUITES, mean, report, wins
from rlrep.config.pretrain_compose import compose_pretraining

SUITE = replace(
    SUITES["comatch"],
    stages=({"plain": ("a={seed}",), "better": ("b={runs}",)},),
    measures={"accuracy": "classifier_accuracy", "other": "knn_accuracy"},
    controls={"better": "plain"},
    marks=(
        ("better at least .8", lambda f: mean(f, "better") >= 0.8),
        ("better above plain on all seeds", lambda f: wins(f, "better", "plain") == 5),
    ),
)


def fake(work: Path, run: Run, value: float) -> None:
    folder = run.folder(work)
    folder.mkdir(parents=True)
    rows = (
        f"encoder,digit,classifier,accuracy,{value + more},,{kind}" for kind, more in (("initial", 9), ("final", 0))
    )
    (folder / "eval.csv").write_text("features,variable,probe,metric,value,draw,kind\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("name", SUITES)
def test_every_arm_composes_and_differs_from_the_others(name: str) -> None:
    suite = SUITES[name]
    runs = [run for stage in range(len(suite.stages)) for run in suite.runs(stage, 1, Path("work"), ())]
    trees = [str(compose_pretraining([*run.words, "seed=0", "out=x"]).tree) for run in runs]
    assert len(set(trees)) == len(runs) and set(suite.controls) <= {run.arm for run in runs}


@pytest.mark.parametrize("seeds", [5, 2])
def test_marks_are_told_of_five_seeds_that_all_arms_have(seeds: int, tmp_path: Path) -> None:
    runs = SUITE.runs(0, seeds + 1, tmp_path, ())
    assert runs[2].words[-3:-1] == (*SUITE.words[-1:], "a=1") and f"b={tmp_path}/digits" in runs[1].words
    for run in runs[:-1]:  # the last arm of the last seed is not finished
        fake(tmp_path, run, 0.5 + 0.01 * run.seed + (0.2 if run.arm == "better" else 0.0))
    found: Any = report("x", SUITE, runs, tmp_path, 1)
    plain, better = found["table"]["rows"]
    assert plain[:2] == ["plain", str(seeds)] and better[3].startswith("0.200") and (" ± " in better[3]) == (seeds == 5)
    said = found["lines"]["marks"]
    if seeds == 5:
        assert said.endswith("better at least .8: not reached; better above plain on all seeds: reached.")
    else:
        assert "not settled by 2" in said
