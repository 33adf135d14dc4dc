"""The code behind the numbers: aggregates, result files, the tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import learn_pixels, learn_state, pretraining, tables
from benchmarks.grid import Run, read_evaluations, run_all
from benchmarks.learning import Study, parser, spread, spread_head, summarise, write
from rlrep.agents.sac import SACConfig
from rlrep.agents.sb3 import SB3SACConfig
from rlrep.config.compose import compose_run
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.scores.published import Published

HEADER = "agent_steps,env_steps,updates,wall_seconds,episode,return,length,success,kind\n"


def fake_run(work: Path, run: Run, *, level: float, finished: bool = True) -> None:
    """Write an eval.csv of three evaluations of two episodes each: `level` times 1, 3, 2, plus and minus one."""
    lines = []
    for number, factor in enumerate((1, 3, 2), start=1):
        kind = "final" if number == 3 and finished else "periodic"
        for episode, offset in enumerate((-1, 1)):
            steps = f"{100 * number},{800 * number},{90 * number},{5.0 * number}"
            lines.append(f"{steps},{episode},{level * factor + offset},125,,{kind}\n")
    run.folder(work).mkdir(parents=True)
    (run.folder(work) / "eval.csv").write_text(HEADER + "".join(lines))


def test_summary_of_seeds() -> None:
    found = summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found["mean"] == found["iqm"] == 3.0
    assert found["standard_error"] == pytest.approx(np.sqrt(2.5 / 5), abs=0.05)
    bounds: Any = found["iqm_95"]
    assert 1.0 <= bounds[0] < 3.0 < bounds[1] <= 5.0
    few = summarise([1.0, 2.0, 3.0, 4.0])
    assert (few["standard_error"], few["iqm_95"], few["per_seed"]) == (None, None, [1.0, 2.0, 3.0, 4.0])


def test_a_mean_has_an_error_or_the_runs_behind_it() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0], 1) == " ± 0.7"
    assert spread([1.0, 2.0, 3.0, 4.0], 1) == " (1.0, 2.0, 3.0, 4.0)"
    assert spread([1.0], 1) == ""
    heads = [spread_head("gain", counts) for counts in ([5, 6], [2, 3], [1], [1, 4, 5])]
    assert heads == ["gain ± SE", "gain (runs)", "gain", "gain ± SE or (runs)"]


def test_evaluations_are_read_by_step(tmp_path: Path) -> None:
    run = Run("task", "arm", 0, ())
    fake_run(tmp_path, run, level=10)
    found = read_evaluations(run.folder(tmp_path) / "eval.csv")
    assert [(e.env_steps, e.mean_return, e.kind) for e in found] == [
        (800, 10.0, "periodic"),
        (1600, 30.0, "periodic"),
        (2400, 20.0, "final"),
    ]
    assert run.finished(tmp_path)


def test_result_holds_finished_runs_only(tmp_path: Path) -> None:
    runs = tuple(Run("task", arm, seed, ("env=x",)) for arm in ("a", "b") for seed in range(2))
    for run, level in zip(runs[:3], (10, 20, 30), strict=True):
        fake_run(tmp_path, run, level=level)
    fake_run(tmp_path, runs[3], level=1000, finished=False)
    published = (Published("task", "Paper", 2400, 50.0, 5.0, None, "final", "Table 1"),)
    write(Study("study", "?", runs, published), tmp_path, tmp_path, jobs=1)
    report = json.loads((tmp_path / "study.json").read_text())
    arm = report["tasks"]["task"]["a"]
    assert arm["final"]["per_seed"] == [20.0, 40.0]
    assert arm["best"]["mean"] == 45.0
    assert arm["curve"]["returns"]["1"] == [20.0, 60.0, 40.0]
    assert report["tasks"]["task"]["b"]["seeds"] == [0]
    assert report["runs"] == {"asked": 4, "finished": 3}
    assert [row[:3] for row in report["table"]["rows"]][-1] == ["task", "published: Paper, Table 1", ""]
    assert [row[4] for row in report["table"]["rows"]] == ["30 (20, 40)", "60", "50"], "of how many runs no one says"
    assert report["table"]["columns"][4:] == ["final return (runs)", "IQM", "best of training"]
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_the_two_sacs_share_environment_length_and_rates() -> None:
    made = parser("", "learn_state")
    learn_state.add_options(made)
    study = learn_state.plan(made.parse_args(["agent.lr=1e-3"]))
    both = [compose_run(list(run.words)).config for run in study.runs[:2]]
    assert (both[0].env, both[0].train) == (both[1].env, both[1].train)
    ours: Any = both[0].agent
    theirs: Any = both[1].agent
    assert (type(ours), type(theirs)) == (SACConfig, SB3SACConfig)
    shared = ("batch_size", "capacity", "discount", "hidden_dim", "initial_temperature", "lr", "n_step")
    assert all(getattr(ours, name) == getattr(theirs, name) for name in shared)
    assert ours.lr == 1e-3 and ours.critic_tau == theirs.tau
    assert {entry.task for entry in study.published} == set(learn_state.TASKS)


def test_pixel_grid_has_every_arm() -> None:
    made = parser("", "learn_pixels")
    learn_pixels.add_options(made)
    runs = learn_pixels.plan(made.parse_args(["train.env_steps=9"])).runs
    assert len({(run.arm, run.seed) for run in runs}) == len(runs) == 4 * 2 + 6
    assert all("train.env_steps=9" in run.words for run in runs)


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


TOY = ("env=toy_state", "preset=debug", "device=cpu", "video=false", "train.agent_steps=150")


def test_both_arms_run_and_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*TOY, "train.eval_every=100")
    runs = [Run("toy", "ours", 0, (*words, "encoder=identity")), Run("toy", "SB3 SAC", 0, (*words, "agent=sb3_sac"))]
    assert run_all(runs, tmp_path, jobs=2) == []
    ours, theirs = (read_evaluations(run.folder(tmp_path) / "eval.csv") for run in runs)
    assert [(e.env_steps, e.kind, e.episodes) for e in ours] == [(e.env_steps, e.kind, e.episodes) for e in theirs]
    capsys.readouterr()
    assert run_all(runs, tmp_path, jobs=2) == []
    assert capsys.readouterr().out == "2 of 2 runs are finished\n"


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    runs = [Run("toy", "broken", 0, (*TOY, "aux=ccm")), Run("toy", "whole", 0, (*TOY, "encoder=identity"))]
    assert run_all(runs, tmp_path, jobs=1) == runs[:1]
    assert "tells tasks apart" in runs[0].folder(tmp_path).with_suffix(".log").read_text()


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
