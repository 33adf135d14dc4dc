"""Run folders that are sound, unfinished, damaged or hostile."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_runs import Shape, write_run
from rlrep.record.stored import Unreadable, read_json, read_yaml
from rlrep.scores.files import flatten, read_csv, read_lines
from rlrep.scores.runs import find_folders, read_health, read_run, read_runs

from .report_runs import BASE, CURL, SMALL, family, grid

HEADER = "agent_steps,env_steps,updates,wall_seconds,episode,return,length,success,kind\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", "cartpole-swingup", CURL, 3, SMALL)
    return tmp_path / "run"


def test_sound_run_is_read(run: Path) -> None:
    found, faults = read_run(run)
    assert faults == []
    assert (found.seed, found.choice("aux"), found.options["env.domain"]) == ("3", "curl", "cartpole")
    assert found.evaluations.final
    assert found.evaluations.env_steps.tolist() == [20_000, 40_000, 60_000, 80_000, 100_000]
    assert found.evaluations.agent_steps[-1] == 25_000
    assert np.isnan(found.evaluations.success).all()


def test_what_was_asked_for_stands_for_what_auto_became(run: Path) -> None:
    assert read_run(run)[0].options["train.agent_steps"] == "null"


def test_evaluations_are_means_over_episodes(run: Path) -> None:
    rows = "1,4,0,1,0,10,5,0,periodic\n1,4,0,1,1,20,5,1,periodic\n2,8,0,1,0,40,5,1,final\n"
    (run / "eval.csv").write_text(HEADER + rows)
    found = read_run(run)[0].evaluations
    assert found.returns.tolist() == [15.0, 40.0]
    assert found.success.tolist() == [0.5, 1.0]


def test_final_evaluation_stands_before_a_periodic_one_of_the_same_step(run: Path) -> None:
    (run / "eval.csv").write_text(HEADER + "2,8,0,1,0,1,5,,periodic\n2,8,0,1,0,40,5,,final\n")
    assert read_run(run)[0].evaluations.returns.tolist() == [40.0]


def test_last_adaptation_is_the_score(tmp_path: Path) -> None:
    found = read_run(family(tmp_path / "run", BASE, 1))[0].evaluations
    assert found.returns.tolist() == [21.0, 21.0]
    assert found.adaptation.tolist() == [1.0, 11.0, 21.0]


def test_half_written_and_senseless_rows_are_counted_and_left_out(run: Path) -> None:
    good = "1,4,0,1,0,10,5,,periodic\n"
    bad = "1,4,0,1,0,nan,5,,periodic\n1,4,0,1,1,inf,5,,periodic\n1,4,x,1,1,y,5,,periodic\n1,4,0\n"
    bad += "-1,-4,0,1,0,10,5,,periodic\n1,4,0,1,0,10,5,,fin\n"
    (run / "eval.csv").write_text(HEADER + good + bad + "2,8,0,1,0,4")
    found, faults = read_run(run)
    assert found.evaluations.returns.tolist() == [10.0]
    assert not found.evaluations.final
    assert [line for _, line in faults] == [
        "5 rows of eval.csv are damaged and left out",
        "2 episodes of eval.csv have no finite return and are left out",
    ]


def test_last_row_without_its_end_is_not_trusted(run: Path) -> None:
    """`...,final` of `123,...` may have lost digits only if no newline follows; then the row is left out."""
    (run / "eval.csv").write_text(HEADER + "1,4,0,1,0,10,5,,periodic\n2,8,0,1,0,40,5,,final")
    assert read_run(run)[0].evaluations.returns.tolist() == [10.0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("eval.csv", None, "its eval.csv is missing"),
        ("eval.csv", "", "has no column agent_steps"),
        ("eval.csv", HEADER, "holds no evaluation yet"),
        ("eval.csv", "\x00\xff\xfe" * 50, "has no column"),
        ("eval.csv", '"' * 200_000, "has no column"),
        ("eval.csv", "features,variable,probe,metric,value,kind\nrandom,a,knn,accuracy,1,final\n", "a pretraining run"),
        ("config.yaml", None, "its config.yaml is missing"),
        ("config.yaml", "", "holds no options"),
        ("config.yaml", "a: [1,", "is not YAML"),
        ("config.yaml", "- a\n- b\n", "holds no options"),
        ("config.yaml", "a: " + "[" * 500_000, "nested more than 50 deep"),
        ("config.yaml", "- " * 500_000, "nested more than 50 deep"),
        ("config.yaml", "x: " + "y" * 2**20, "is larger than 1 MB"),
        ("config.yaml", "a: &a {b: *a}\n", "is not YAML"),
        ("config.yaml", "".join(f"k{n}: 1\n" for n in range(6000)), "more than 5000 options"),
        ("config.yaml", "a: [" + "1," * 400_000 + "1]", "more than 5000 options"),
    ],
)
def test_unusable_run_is_one_line(run: Path, name: str, content: str | None, said: str) -> None:
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content.encode("latin-1"))
    runs, faults = read_runs(find_folders([run.parent]))
    assert runs == []
    ((folder, line),) = faults
    assert folder == run
    assert said in line
    assert "\n" not in line


def test_scalars_are_texts_and_nothing_is_worked_out(tmp_path: Path) -> None:
    """A huge number is not computed, a tag constructs nothing, a merge merges nothing."""
    lines = [
        "number: 0x" + "f" * 10_000,
        "sixties: " + ":".join(["1"] + ["59"] * 5000) + ".5",
        "call: !!python/object/apply:os.system [echo]",
        "day: 2001-13-41",
        "base: &base {k: 1}",
        "merged: {<<: *base}",
        "rate: 1.0e-4",
    ]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    found = flatten(read_yaml(tmp_path / "config.yaml"))
    assert len(found["number"]) == len(found["sixties"]) == 300
    assert (found["call"], found["day"], found["merged.<<.k"]) == ("[echo]", "2001-13-41", "1")
    assert found["rate"] == "1.0e-4"


def test_aliases_do_not_unfold(tmp_path: Path) -> None:
    """Ten levels of ten references each: ten thousand million leaves from 400 bytes."""
    levels = [
        "a0: &a0 {x: 1}",
        *(f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(10))}}}" for n in range(1, 11)),
    ]
    (tmp_path / "config.yaml").write_text("\n".join(levels))
    with pytest.raises(Unreadable, match="more than 5000 options"):
        flatten(read_yaml(tmp_path / "config.yaml"))


def test_a_mark_of_the_encoding_is_no_part_of_the_header(run: Path) -> None:
    """As spreadsheets write it."""
    (run / "eval.csv").write_bytes(b"\xef\xbb\xbf" + (run / "eval.csv").read_bytes())
    assert read_run(run)[0].evaluations.final


def test_folder_in_place_of_a_file_is_one_line(run: Path) -> None:
    (run / "eval.csv").unlink()
    (run / "eval.csv").mkdir()
    assert [line for _, line in read_runs(find_folders([run]))[1]] == ["left out: its eval.csv is not a file"]


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": ' * 3000])
def test_versions_that_cannot_be_read_cost_only_themselves(run: Path, content: str) -> None:
    (run / "versions.json").write_text(content)
    found, faults = read_run(run)
    assert found.versions == {}
    assert len(faults) == 1
    with pytest.raises(Unreadable):
        read_json(run / "versions.json")


def test_health_is_thinned_and_leaves_out_what_is_no_number(run: Path) -> None:
    rows = [
        {"env_steps": n, "rep/effective_rank": n / 2, "aux/curl/accuracy": None, "perf/x": 1.0} for n in range(1000)
    ]
    lines = [json.dumps(row) for row in rows]
    text = "\n".join(["[1]", '{"rep/effective_rank": "a", "env_steps": 3}', '"rep/', *lines]) + '\n{"rep/'
    (run / "metrics.jsonl").write_text(text)
    found = read_health(read_run(run)[0])
    assert list(found) == ["rep/effective_rank"]
    steps, values = found["rep/effective_rank"]
    assert 20 <= len(steps) <= 40
    assert steps[-1] == 999
    np.testing.assert_array_equal(values, steps / 2)


def test_run_without_metrics_has_no_health(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    assert read_health(read_run(run)[0]) == {}
    with pytest.raises(Unreadable):
        read_lines(run / "metrics.jsonl", (b"rep",), 3)


def test_every_run_is_found_once(tmp_path: Path) -> None:
    root = grid(tmp_path / "runs", seeds=1)
    assert len(list(find_folders([root, root / "dmc_cheetah_run"]))) == 8
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    assert len(list(find_folders([root]))) == 8


@pytest.mark.parametrize("name", ["config.yaml", "eval.csv"])
def test_a_stray_file_above_runs_hides_none(tmp_path: Path, name: str) -> None:
    root = grid(tmp_path / "runs", seeds=1)
    (root / name).write_text("x: 1\n")
    runs, faults = read_runs(find_folders([root]))
    assert len(runs) == 8
    assert [folder for folder, _ in faults] == [root]


def test_folders_that_are_no_runs_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert list(find_folders([tmp_path, tmp_path / "missing"])) == []


def test_csv_of_many_lengths_is_cut_to_its_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n\n3\n4,5,6\n7,8\n")
    table = read_csv(tmp_path / "x.csv")
    assert table.rows == [["1", "2"], ["7", "8"]]
    assert table.damaged == 2


def test_unfinished_run_is_read(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "cartpole-swingup", BASE, 0, Shape(evaluations=2, finished=False))
    assert not read_run(tmp_path / "run")[0].evaluations.final


def test_senseless_numbers_reach_no_score(run: Path) -> None:
    header = HEADER.replace("kind", "kind,task,adaptation")
    rows = "1,4,0,1,0,10,5,7,final,t,0\n1,4,0,1,0,1e308,5,1,final,t,0\n1,4,0,1,0,30,5,1,final,t,nan\n"
    (run / "eval.csv").write_text(header + rows)
    found = read_run(run)[0].evaluations
    assert found.returns.tolist() == [30.0]
    assert found.adaptation.tolist() == [30.0]


@pytest.mark.parametrize("cell", ["", "nan", "7", "-1"])
def test_an_episode_without_a_success_costs_itself_and_not_the_runs_unit(run: Path, cell: str) -> None:
    rows = f"1,4,0,1,0,10,5,{cell},periodic\n1,4,0,1,1,20,5,1,periodic\n2,8,0,1,0,30,5,0,final\n"
    (run / "eval.csv").write_text(HEADER + rows)
    found, faults = read_run(run)
    assert found.evaluations.success.tolist() == [1.0, 0.0] and found.evaluations.returns.tolist() == [20.0, 30.0]
    assert ["1 episodes of eval.csv have no success" in line for _, line in faults] == [True]


def test_texts_that_no_file_or_screen_can_take_are_cleaned(run: Path) -> None:
    (run / "versions.json").write_text('{"\\ud800": "\\udfff", "a\\nb": "\\u001b[31m"}')
    assert read_run(run)[0].versions == {"?": "?", "a?b": "?[31m"}


def test_a_pipe_is_not_waited_for(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    assert read_health(read_run(run)[0]) == {}
