"""The code behind the numbers: aggregates, result files, the tables."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import attacked, pretraining, tables
from benchmarks.grid import Run, run_all
from benchmarks.synthetic_runs import Shape, write_run
from benchmarks.tables import spread, spread_head
from rlrep.commands.report import main as report
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.grid.suite import read_request

ROOT = Path(__file__).resolve().parent.parent


def test_a_mean_has_an_error_or_the_runs_behind_it() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0], 1) == " ± 0.7"
    assert spread([1.0, 2.0, 3.0, 4.0], 1) == " (1.0, 2.0, 3.0, 4.0)"
    assert spread([1.0], 1) == ""
    heads = [spread_head("gain", counts) for counts in ([5, 6], [2, 3], [1], [1, 4, 5])]
    assert heads == ["gain ± SE", "gain (runs)", "gain", "gain ± SE or (runs)"]


def test_a_report_is_quoted_with_its_runs_or_their_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arm, seeds in ((("none", "none"), 5), (("random_shift", "curl"), 2)):
        for seed in range(seeds):
            write_run(tmp_path / "runs" / arm[1] / str(seed), "cheetah-run", arm, seed)
    write_run(tmp_path / "runs" / "going", "cheetah-run", ("none", "none"), 9, Shape(finished=False))
    monkeypatch.chdir(tmp_path)
    assert report(["runs", "figures=false"]) == 0
    found: Any = tables.quoted(tmp_path / "report", ["MR.Q"])
    assert found["table"]["columns"][2:] == ["seeds", "env / agent steps", "final ± SE or (runs)", "best of training"]
    base, curl, beside = found["table"]["rows"]
    assert beside == ["cheetah-run", "published: MR.Q", "10", "100,000", "253.5 (sd 41.3)", ""]
    assert base[:4] == ["cheetah-run", "base", "5", "100,000 / 25,000"] and " ± " in base[4]
    single = [float(value) for value in curl[4].partition(" (")[2].strip(")").split(", ")]
    assert float(curl[4].split()[0]) == pytest.approx(np.mean(single), rel=1e-3) and len(single) == 2


def test_the_docs_commands_are_there() -> None:
    text = "\n".join(page.read_text() for page in tables.PAGES)
    scripts = set(re.findall(r"`python -m benchmarks\.(\w+)", text))
    assert len(scripts) > 10 and all((ROOT / "benchmarks" / f"{name}.py").exists() for name in scripts)
    suites = [words for words in re.findall(r"`python -m rlrep\.bench (suite=[^`]*)`", text) if "NAME" not in words]
    assert len(suites) >= 9 and all(read_request(words.split(), ()).seeds for words in suites)


def test_table_is_filled_from_the_result(tmp_path: Path) -> None:
    table = {"columns": ["a", "b"], "rows": [["x", 1]]}
    (tmp_path / "speed.json").write_text(json.dumps({"table": table, "machine": {"cpu": "CPU", "cores": 2}}))
    text = "before\n<!-- table speed -->\nold\n<!-- end speed -->\n<!-- table other -->\n<!-- end other -->\n"
    filled = tables.fill(text, tmp_path)
    assert "| a | b |\n| --- | --- |\n| x | 1 |\n" in filled
    assert "2 cores of CPU" in filled
    assert "old" not in filled
    assert "Not measured yet" in filled
    assert tables.fill(filled, tmp_path) == filled


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("method=simclr", "preset=debug", "device=cpu", "logger=none")
    data = {"broken": ("data=npz", "data.path=none.npz"), "whole": ("data=digits",)}
    runs = [Run("toy", arm, 0, (*words, *more)) for arm, more in data.items()]
    assert run_all(runs, tmp_path, jobs=1) == runs[:1]
    assert "none.npz" in runs[0].folder(tmp_path).with_suffix(".log").read_text()
    capsys.readouterr()
    assert run_all(runs[1:], tmp_path, jobs=1) == []
    assert capsys.readouterr().out == "1 of 1 runs are finished\n"


def fake_pretraining(work: Path, run: Run, *, gain: float) -> None:
    """Write what a pretraining run leaves: probes that are 0.5 and 0.25 untrained, `gain` more when trained."""
    folder = run.folder(work)
    folder.mkdir(parents=True)
    kinds = (
        ("random", "initial", 0.0),
        ("pixels", "initial", 0.1),
        ("encoder", "initial", 0.0),
        ("encoder", "final", gain),
    )
    few = [(f"linear_{count}_per_class,accuracy", draw, 0.1 * draw) for count in (1, 10) for draw in (0, 1, 2)]
    rows = [
        f"{f},{v},{p},{level + more + luck},{draw},{kind}"
        for f, kind, more in kinds
        for p, draw, luck in (("knn,accuracy", "", 0), ("linear,accuracy", "", 0), ("linear,r2", "", 0), *few)
        for v, level in (VARIABLES if p == "linear,r2" else ONE)
    ]
    (folder / "eval.csv").write_text("features,variable,probe,metric,value,draw,kind\n" + "\n".join(rows) + "\n")
    measured = {"effective_rank": 7.0, "uniformity": -2.0, "correlation": 0.5, "spread": 0.25}
    meters = {f"rep/embedding/{name}": value for name, value in measured.items()}
    lines = [
        {"updates": 0, **meters},
        {"updates": 5, "train/loss": 1.0},
        {"updates": 9, **meters, "rep/embedding/effective_rank": 3.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


VARIABLES = (("a", 0.5), ("b", 0.25))
ONE = (("class", 0.375),)


def test_methods_of_pretraining_are_held_against_an_untrained_encoder(tmp_path: Path) -> None:
    runs = [run for run in pretraining.plan("digits", 1, ()) if run.arm.startswith(("simclr", "debiased"))]
    for run in runs:
        fake_pretraining(tmp_path, run, gain=0.1 if "without" in run.arm else 0.2)
    report: Any = pretraining.report("digits", runs, tmp_path, 1)
    rows = {row[0]: row[1:] for row in report["table"]["rows"]}
    assert rows["untrained encoder"] == ["37.5", "37.5", "47.5 (10.0)", "47.5 (10.0)", "", "", "", "", ""]
    assert rows["raw pixels"][0] == "47.5"
    few = ["67.5 (10.0)"] * 2
    assert rows["simclr"] == ["57.5", "57.5", *few, *["+10.0 (0.0)"] * 2, "3.0", "0.50", "-2.00"]
    assert rows["debiased without tau_plus"][4:6] == ["", ""]
    assert all(len(row) == len(report["table"]["columns"]) - 1 for row in rows.values())
    beside = (
        "in parentheses the untrained encoder and the method without tau_plus: nearest neighbours 57.5 % (37.5; 47.5)"
    )
    assert beside in report["lines"]["debiased"]
    draws = report["tasks"]["digits"]["simclr"]["seeds"]["0"]["draws"]["linear_1_per_class_accuracy"]
    assert draws == pytest.approx([0.575, 0.675, 0.775])


@pytest.mark.parametrize("suite", ["digits", "collapse", "frames"])
def test_every_pretraining_arm_composes_and_differs_from_its_method(suite: str) -> None:
    runs = pretraining.plan(suite, 1, ())
    assert len({run.folder(Path()) for run in runs}) == len(runs)
    trees: dict[tuple[str, str], Any] = {}
    for run in runs:
        tree = compose_pretraining([*run.command(Path("work"))[2:], "out=x"]).tree
        trees[run.task, run.arm] = {part: tree[part] for part in ("method", "data")}
    changed = [(task, arm) for task, arm in trees if " with" in arm]
    assert len(changed) == {"digits": len(pretraining.METHODS), "collapse": 4, "frames": 4}[suite]
    assert all(trees[task, arm] != trees[task, arm.split(" with")[0]] for task, arm in changed)


def test_the_collapse_table_tells_correlation(tmp_path: Path) -> None:
    runs = pretraining.plan("collapse", 1, ())
    for run in runs:
        fake_pretraining(tmp_path, run, gain=0.2)
    report: Any = pretraining.report("collapse", runs, tmp_path, 1)
    head, rows = report["table"]["columns"], {row[0]: row for row in report["table"]["rows"]}
    assert rows["shuffled_dbn with batch norm only"][head.index("correlation")] == "0.50"
    assert "with batch norm only: effective rank 3.0, correlation 0.50" in report["lines"]["shuffled_dbn"]


def test_gains_on_frames_are_over_seeds(tmp_path: Path) -> None:
    runs = [run for run in pretraining.plan("frames", 2, ()) if run.task == "dmc_cartpole" and run.arm == "byol"]
    for run, gain in zip(runs, (0.1, 0.3), strict=True):
        fake_pretraining(tmp_path, run, gain=gain)
    rows = pretraining.report("frames", runs, tmp_path, 1)["table"]["rows"]  # type: ignore[index]
    means = ["0.575 (0.475, 0.675)", "0.200 (0.100, 0.300)"]
    assert rows[-1] == ["dmc_cartpole", "byol", "2", "linear_r2", *means, "0.25, 0.25"]


def test_a_line_of_a_page_is_filled(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"lines": {"a": "It is 1."}}))
    text = "<!-- line x a -->\nold\n<!-- end x -->"
    assert tables.fill(text, tmp_path) == "<!-- line x a -->\nIt is 1.\n<!-- end x -->"


def test_runs_under_attack_are_played_once_and_told_as_a_report_tells_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run's table has the reaches already, nothing is played: `evaluate` would fail on these folders."""
    for arm, kept in ((("none", "none"), 20), (("random_shift", "curl"), 60)):
        for seed in range(5):
            folder = tmp_path / "runs" / arm[1] / str(seed)
            write_run(folder, "cheetah-run", arm, seed)
            rows = "".join(f"{reach},{100 if reach == 0 else kept + seed}\n" * 2 for reach in (0.0, 0.1))
            (folder / "evaluate.csv").write_text(f"epsilon,return\n{rows}")
    words = ["attacked", str(tmp_path / "runs"), "--epsilon", "0.1", "--episodes", "2", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    attacked.main()
    found = json.loads((tmp_path / "attacked.json").read_text())["table"]
    assert found["columns"] == ["task", "arm", "seeds", "return at 0 ± SE", "return at 0.1 ± SE"]
    assert found["rows"] == [
        ["cheetah-run", "base", 5, "100 ± 0", "22 ± 1"],
        ["cheetah-run", "curl", 5, "100 ± 0", "62 ± 1"],
    ]
    assert (tmp_path / "attacked.png").exists()
    monkeypatch.setattr("sys.argv", [*words, "--tasks", "another"])
    with pytest.raises(SystemExit, match="no finished run of another"):
        attacked.main()
