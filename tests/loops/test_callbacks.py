"""Callbacks: what they are told and when, exact resume, an early end, failures; never from a run folder."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import rlrep
from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.pretrain import main as pretrain
from rlrep.loops.callbacks import Callbacks
from rlrep.loops.loop import Loop
from rlrep.loops.meta.work import Meta
from rlrep.loops.online import Online
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.folder import read_config, write_config
from tests.runs import evaluations, final_state, metrics, run
from tests.ssl.ssl_rig import SMALL

from .test_loop import Rig
from .test_meta_runs import POINT
from .test_resume import assert_equal_runs, assert_resumes, at_step
from .watchers import Faulty

HERE = "tests.loops.watchers"
COUNTS = ("env=toy_state", f"train.callbacks=[{HERE}.Counts]")


class Told(rlrep.Callback):
    """Remembers all that it is told."""

    heard: list[tuple[str, Any]]

    def __init__(self) -> None:
        type(self).heard = []

    def on_start(self, folder: Path, learner: Any) -> None:
        self.heard.append(("start", (folder, learner)))

    def on_log(self, row: Any) -> str | None:
        self.heard.append(("log", row))
        return None

    def on_step(self, position: Any) -> str | None:
        self.heard.append(("step", position["agent_steps"]))
        return None

    def on_evaluation(self, rows: Any, summary: Any) -> str | None:
        self.heard.append(("evaluation", (rows, summary)))
        return None


def test_what_is_told_is_what_is_written_in_order(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.loop = Loop(rig.work, rig.loop._cadence, rings=rig.agent.rings, callbacks=Callbacks([f"{__name__}.Told"]))
    rig.run()
    heard = Told.heard
    assert heard[0] == ("start", (tmp_path, rig.agent))
    assert [value for name, value in heard if name == "step"] == list(range(2, 41, 2))
    assert json.loads(json.dumps([row for name, row in heard if name == "log"])) == rig.rows()
    told = [value for name, value in heard if name == "evaluation"]
    assert [[row["kind"] for row in rows] for rows, _ in told] == [["periodic"] * 3] * 3 + [["final"] * 3]
    assert [str(rows[0]["env_steps"]) for rows, _ in told] == [row["env_steps"] for row in rig.evaluations()[::3]]
    assert all("eval/return_mean" in summary and summary["env_steps"] for _, summary in told)
    at_24 = [name for name, value in heard][heard.index(("step", 22)) + 1 :][:3]
    assert at_24 == ["log", "step", "evaluation"] and heard[-1][0] == "evaluation"


@pytest.mark.parametrize(
    ("words", "kind", "place", "calls"),
    [
        (COUNTS, Online, at_step(25), {"log": 12, "step": 60, "evaluation": 2}),
        ((*COUNTS, *POINT), Meta, lambda work: work.updates == 2, {"log": 15, "step": 45}),
    ],
    ids=["online", "meta"],
)
def test_callbacks_resume_exactly(tmp_path: Path, words: tuple[str, ...], kind: Any, place: Any, calls: Any) -> None:
    out = assert_resumes(tmp_path, words, kind, place)
    assert final_state(out)["callbacks"]["states"][f"{HERE}.Counts"]["calls"] == calls


def test_a_callback_ends_a_run_as_if_it_were_that_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("env=toy_state", f"train.callbacks=[{HERE}.Thirty]")
    parts = assert_resumes(tmp_path, words, Online, at_step(30))  # stopped when it was decided, before it is over
    assert f"{HERE}.Thirty: thirty steps are enough: the run ends here, at 30 env steps" in capsys.readouterr().out
    final = [row for row in evaluations(parts) if row["kind"] == "final"]
    assert [row["agent_steps"] for row in final] == ["30"] and metrics(parts)[-1]["agent_steps"] == 30
    assert run(parts, *words) == 0 and "this run is finished (30 agent steps)" in capsys.readouterr().out


FAULTY = ("env=toy_state", f"train.callbacks=[{HERE}.Faulty]")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run in which nothing failed."""
    out = tmp_path_factory.mktemp("callbacks") / "whole"
    assert run(out, *FAULTY) == 0
    return out


@pytest.mark.parametrize("where", ["log", "step", "evaluation"])
def test_a_callback_that_fails_costs_one_line_and_no_step(
    where: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "parts"
    monkeypatch.setattr(Faulty, "where", where)
    capsys.readouterr()
    assert run(parts, *FAULTY) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"error: callback {HERE}.Faulty: ZeroDivisionError: a fault (watchers.py:")
    assert said.endswith("; the run is saved where it stood") and "\n" not in said
    monkeypatch.setattr(Faulty, "where", "")
    assert run(parts, *FAULTY) == 0
    assert_equal_runs(whole, parts)


def test_failing_at_the_last_evaluation_or_in_parting_leaves_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Faulty, "where", "evaluation")
    words = ("env=toy_state", f"train.callbacks=[{HERE}.Faulty,{HERE}.Parting]", "train.eval_every=40")
    assert run(tmp_path / "x", *words) == 1
    newest = Checkpoints(tmp_path / "x" / "checkpoints").latest()
    assert newest is not None and newest.finished and newest.step == 60
    assert f"warning: callback {HERE}.Parting: OSError: no way back" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("early", "cannot load early"),
        (f"{HERE}.Absent", "cannot load .*has no attribute 'Absent'"),
        (f"{HERE}.NoCallback", "it is no subclass of rlrep.Callback"),
        (f"{HERE}.NeedsMore", r"it cannot be made without arguments \(.*'more'\)"),
        (f"{HERE}.Unsavable", r"Unsavable's state\(\) cannot be saved: state.file is a PosixPath"),
    ],
)
def test_what_is_no_callback_is_one_line(
    name: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "x", "env=toy_state", f"train.callbacks=[{name}]") > 0
    said = capsys.readouterr().err.strip()
    assert re.search(line, said) and "\n" not in said


def test_a_run_folder_names_none_that_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    assert run(out, "env=toy_state", "train.agent_steps=20") == 0
    (tmp_path / "hostile_watcher.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    tree = read_config(out)
    tree["train"]["callbacks"] = ["hostile_watcher.Bomb"]
    write_config(out, tree)
    assert evaluate([f"out={out}", "episodes=1", "device=cpu"]) == 0
    assert rlrep.load(out).config["train"]["callbacks"] == ["hostile_watcher.Bomb"]
    assert run(out, "env=toy_state", "train.agent_steps=20") > 0  # another run: refused, by name
    assert "hostile_watcher" not in sys.modules


def test_pretraining_is_watched_and_ends_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "method=simclr", "train.updates=40", "train.evaluations=1", f"train.callbacks=[{HERE}.Thirty]"]
    assert pretrain([*words, f"out={tmp_path / 'x'}"]) == 0
    assert "the run ends here, at update 30" in capsys.readouterr().out
    assert evaluations(tmp_path / "x")[-1]["updates"] == "30"
