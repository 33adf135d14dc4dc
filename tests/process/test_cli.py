"""The commands as a user types them: what they print, what they leave behind, how they end."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from rlrep.commands import evaluate as evaluate_command
from rlrep.commands.evaluate import interquartile_mean
from rlrep.commands.train import main
from rlrep.record.checkpoint import Checkpoints
from tests.record.test_checkpoint import file_size_limit
from tests.runs import ROOT, TINY, differences, evaluations, final_state, lines, metrics, replay, run, start


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished pixel run with both heads, everything switched on."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    words = ("env=toy_pixels", "aux=[curl,return_contrast]", "logger=default", "video=every", "train.eval_episodes=2")
    assert run(out, *words) == 0
    return out


WORDS = ("env=toy_pixels", "aux=[curl,return_contrast]", "logger=default", "video=every", "train.eval_episodes=2")


def test_a_run_folder_holds_what_the_design_says(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert names >= {"config.yaml", "versions.json", "metrics.jsonl", "metrics.csv", "eval.csv", "learning_curve.png"}
    assert {path.name for path in (finished / "videos").iterdir()} == {
        "final.mp4",
        "env_steps_000000025.mp4",
        "env_steps_000000050.mp4",
    }
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["000004_step_60"]
    assert {row["kind"] for row in evaluations(finished)} == {"periodic", "final"}
    assert any(key.startswith("aux/return_contrast/") for key in metrics(finished)[-1])
    assert any(key.startswith("aux/curl/") for key in metrics(finished)[-1])


def test_config_yaml_is_resolved_and_remembers_what_was_asked(finished: Path) -> None:
    tree = yaml.safe_load((finished / "config.yaml").read_text())
    assert (tree["device"], tree["compile"], tree["train"]["overlap"]) == ("cpu", "off", "true")
    assert (tree["train"]["agent_steps"], tree["train"]["env_steps"]) == (60, 60)
    assert tree["requested"] == {
        "device": "cpu",
        "compile": "auto",
        "train.overlap": "auto",
        "train.agent_steps": 60,
        "train.env_steps": None,
    }
    assert tree["choices"]["encoder"] == "curl" and tree["encoder"]["_target_"].startswith("rlrep.nn")


def test_scoring_json_says_what_the_environment_said(finished: Path) -> None:
    scoring = json.loads((finished / "scoring.json").read_text())
    assert scoring["references"] == {"optimal": 18.0} and (scoring["scale"], scoring["one"]) == ("return", None)


def test_versions_json_names_packages_device_and_command(finished: Path) -> None:
    versions = json.loads((finished / "versions.json").read_text())
    assert versions["packages"]["torch"] == torch.__version__
    assert "gymnasium" in versions["simulators"] and versions["device"].startswith("cpu")
    assert "command" in versions and "git" in versions


def test_a_finished_run_says_so_and_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert run(finished, *WORDS) == 0
    assert "this run is finished (60 agent steps)" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_device_logger_and_video_are_no_part_of_the_identity(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(finished, *WORDS, "logger=none", "video=false", "launcher.jobs=3") == 0
    assert "this run is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("agent.lr=0.5",), "agent.lr was 0.001, now 0.5"),
        (("seed=1",), "seed was 0, now 1"),
        (("aux=curl",), "aux.return_contrast"),
        (("train.agent_steps=80",), "its replay was dropped"),
        (("agent.lr=0.5", "train.agent_steps=80"), "agent.lr was 0.001, now 0.5"),
    ],
)
def test_another_config_in_the_same_folder_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    before = (finished / "config.yaml").read_text()
    assert run(finished, *WORDS, *words) == 1
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert (finished / "config.yaml").read_text() == before


def test_evaluate_scores_the_final_parameters(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_command.main([f"out={finished}", "episodes=3", "video=true", "device=cpu"]) == 0
    assert "IQM" in capsys.readouterr().out
    with open(finished / "evaluate.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["episode"] for row in rows] == ["0", "1", "2"]
    assert (finished / "videos" / "evaluate.mp4").stat().st_size > 500
    returns = np.array([float(row["return"]) for row in rows])
    assert evaluate_command.main([f"out={finished}", "episodes=3", "device=cpu"]) == 0
    assert f"mean {returns.mean():.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ([], "out=RUN", 2),
        (["out=nowhere"], "nowhere is not a run folder", 1),
        (["out=x", "episode=3"], "did you mean episodes?", 2),
        (["out=x", "episodes=0"], "episodes must be at least 1", 2),
    ],
)
def test_evaluate_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str, code: int
) -> None:
    assert evaluate_command.main(words) == code
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_the_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5
    assert interquartile_mean(np.array([5.0])) == 5.0
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 4.0])) == pytest.approx(2.0)
    assert interquartile_mean(np.array([0.0, 10.0, 20.0])) == pytest.approx(10.0)


@pytest.mark.parametrize("flags", [[], ["-m"]])
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("env=toy_pixel", "did you mean toy_pixels?"),
        ("agent.lrr=1", "did you mean agent.lr?"),
        ("agent.lr=fast", "agent.lr=fast: expected a number"),
        ("--hlep", "did you mean --help?"),
        ("--config-dir=nowhere", "there is no such folder"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], flags: list[str], word: str, message: str
) -> None:
    assert main([*flags, "env=toy_state", word]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and error.startswith("error: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_and_absent_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "x", "env=toy_state", "device=cuda") == 1
    error = capsys.readouterr().err
    assert "no GPU can be used here" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_parts_that_do_not_fit_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("env=toy_state", "augment=random_crop"), ("env=toy_pixels", "encoder=mlp")):
        assert run(tmp_path / "x", *words) == 1
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and ("for pixels" in error or "flat states" in error)


def test_help_is_quick_and_lists_groups_and_options() -> None:
    code = "import sys; from rlrep.train import main; sys.argv[1:] = ['--help']; main(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    for word in ("toy_pixels", "return_contrast", "eval_every", "--multirun", "debug"):
        assert word in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
    assert evaluate_command.main(["--help"]) == 0


def test_cfg_prints_the_composed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env=toy_state", "agent.lr=0.25", "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["agent"]["lr"] == 0.25


def test_a_loss_that_diverges_stops_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x"
    assert run(out, "env=toy_state", "agent.lr=1e30") == 1
    (error,) = lines(capsys.readouterr().err)
    assert "not finite" in error and str(out / "nonfinite_batch.safetensors") in error
    assert (out / "nonfinite_batch.safetensors").exists()


def test_a_full_disk_costs_checkpoints_not_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel refuses every file above 12 kB: parameters do not fit, logs do."""
    out = tmp_path / "x"
    with file_size_limit(12_000):
        assert run(out, "env=toy_state", "agent.hidden_dim=64") == 1
    captured = capsys.readouterr()
    assert captured.out.count("training goes on") >= 2
    assert "make room and repeat the command" in captured.err and len(captured.err.splitlines()) == 1
    assert [row["agent_steps"] for row in metrics(out)] == list(range(5, 65, 5))
    assert run(out, "env=toy_state", "agent.hidden_dim=64") == 0  # there is room again


def test_a_run_may_grow_if_its_replay_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    words = ("env=toy_pixels", "aux=return_contrast", "checkpoint.keep_replay=true")
    assert run(short, *words) == 0
    assert run(short, *words, "train.agent_steps=40") == 1
    assert "not shorter (40)" in capsys.readouterr().err
    assert run(short, *words, "train.agent_steps=90") == 0
    assert run(long, *words, "train.agent_steps=90") == 0
    assert metrics(short) == metrics(long)
    assert evaluations(short) == evaluations(long)
    assert differences(final_state(short), final_state(long)) == []
    assert differences(replay(short), replay(long)) == []


def test_two_processes_cannot_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("rlrep.record.folder._LOCK_SECONDS", 0.2)
    out = tmp_path / "x"
    out.mkdir()
    with open(out / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(out, "env=toy_state") == 75
    assert "another process is training" in capsys.readouterr().err


def test_a_multirun_trains_every_combination_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlrep.train", "-m", *TINY, "env=toy_state", "aux=none,curl", "launcher.jobs=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first, second = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True) for _ in range(2)
    )
    assert first.returncode == 0, first.stdout + first.stderr
    folders = sorted(path.parent for path in tmp_path.rglob("config.yaml"))
    assert [path.parent.name.split("-")[2] for path in folders] == ["curl", "none"]
    for folder in folders:
        latest = Checkpoints(folder / "checkpoints").latest()
        assert latest is not None and latest.finished
    assert second.returncode == 0 and second.stdout.count("this run is finished") == 2


def test_a_multirun_into_one_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "env=toy_state", "seed=range(0,3)", "out=x"]) == 2
    assert "two runs share the folder x" in capsys.readouterr().err


def test_a_multirun_reports_the_run_that_failed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlrep.train", "-m", *TINY, "env=toy_state", "agent.lr=1e30,1e-3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "failed:" in done.stderr and "agent.lr=1e+30" in done.stderr
    assert len(list(tmp_path.rglob("learning_curve.png"))) == 1  # the other one finished


def test_plain_output_ends_with_where_things_are_and_the_full_size_job(tmp_path: Path) -> None:
    process = start(tmp_path / "x", "env=toy_state")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert out.splitlines()[-2].startswith("done: ") and "learning_curve.png" in out.splitlines()[-2]
    assert out.splitlines()[-1].startswith("full-size job: python -m rlrep.train ")
    assert "preset" not in out.splitlines()[-1] and "out=" not in out.splitlines()[-1]
