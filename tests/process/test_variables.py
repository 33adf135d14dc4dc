"""Variables that other programs left in a shell: named in one line, with what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlrep.commands.bench import main as bench
from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.pretrain import main as pretrain
from rlrep.commands.probe import main as probe
from rlrep.commands.report import main as report
from rlrep.commands.study import main as study
from rlrep.commands.train import main as train
from rlrep.envs.render.gl import OFTEN_LEFT
from rlrep.process.machine import set_threads
from tests.runs import ROOT, run
from tests.ssl.ssl_rig import SMALL


@pytest.mark.parametrize("command", [train, bench, evaluate, probe, report, study])
@pytest.mark.parametrize(
    ("size", "message"), [("2", "only a single rlrep.pretrain"), ("x", "unset it"), ("0", "unset")]
)
def test_several_processes_are_refused_where_they_would_share_a_folder(
    command: object, size: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert callable(command) and command(["env=toy_state"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert f"WORLD_SIZE={size}" in error and message in error


def test_one_process_of_torchrun_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert run(tmp_path / "x", "env=toy_state") == 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "but RANK=:"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "abc"}, "but MASTER_PORT=abc:"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two is no number of processes"),
    ],
)
def test_a_part_of_torchruns_variables_is_one_line_in_pretraining(
    variables: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert pretrain([*SMALL, "method=simclr", f"out={tmp_path / 'x'}"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
    assert pretrain(["-m", *SMALL, "method=simclr", f"root={tmp_path}"]) == 1
    assert "WORLD_SIZE" in capsys.readouterr().err


def test_a_rank_without_several_processes_silences_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    words = (*SMALL, "method=simclr", "train.updates=1", "train.evaluations=1", f"out={tmp_path / 'x'}")
    assert pretrain(list(words)) == 0
    assert "done: " in capsys.readouterr().out


@pytest.mark.parametrize("value", ["x", "0", "-1"])
def test_a_number_of_threads_that_is_none_is_named(value: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlrep.train", "env=toy_state", "preset=debug", f"out={tmp_path / 'x'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": value}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and said == [
        f"error: OMP_NUM_THREADS={value} is no number of threads: unset it, or say how many"
    ]


def test_the_threads_of_the_outermost_level_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1,2")
    assert set_threads() == 1


GL = {"MUJOCO_GL": "egl"}


@pytest.mark.parametrize(
    ("variables", "unset"),
    [
        ({"MUJOCO_GL": "foo"}, "unset MUJOCO_GL"),
        ({"MUJOCO_GL": "glfw"}, "unset MUJOCO_GL"),
        ({**GL, "PYOPENGL_PLATFORM": "osmesa"}, "unset MUJOCO_GL PYOPENGL_PLATFORM"),
        ({"PYOPENGL_PLATFORM": "glx"}, "unset PYOPENGL_PLATFORM"),
        ({**GL, "MUJOCO_EGL_DEVICE_ID": "x"}, "unset MUJOCO_GL MUJOCO_EGL_DEVICE_ID"),
        ({**GL, "MUJOCO_EGL_DEVICE_ID": "7"}, "unset MUJOCO_GL MUJOCO_EGL_DEVICE_ID"),
        ({**GL, "__EGL_VENDOR_LIBRARY_FILENAMES": "/no"}, "unset MUJOCO_GL __EGL_VENDOR_LIBRARY_FILENAMES"),
    ],
)
def test_a_gl_variable_that_is_left_in_a_shell_is_named(variables: dict[str, str], unset: str) -> None:
    code = "from rlrep.envs.dmc.env import DMC; DMC('cartpole', 'swingup', 'pixels', 8, size=16).make(0)"
    environment = {name: value for name, value in os.environ.items() if name not in OFTEN_LEFT} | variables
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("RuntimeError: cannot render pixels") and f"try `{unset}`" in line and "apt-get" in line


def test_an_empty_gl_variable_is_as_good_as_none() -> None:
    env = "DMC('cartpole', 'swingup', 'pixels', 8, size=16).make(0)"
    code = f"from rlrep.envs.dmc.env import DMC; print({env}.reset(seed=0)[0].shape)"
    environment = {**os.environ, "MUJOCO_GL": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "(9, 16, 16)", done.stderr
