"""`launcher=fleet`: which processes are started, and what is made of what they say."""

import time
from pathlib import Path

import pytest

from rlrep.commands.train import main
from rlrep.launch import Fleet, fleet
from rlrep.launch.base import Job
from rlrep.launch.fleet import Fleets, Run
from rlrep.settings import UserError
from tests.runs import TINY

CONDUCTOR = """
import json, os, signal, sys
runs = json.load(sys.stdin)["runs"]
print("what a simulator prints", file=sys.stderr)
for number, run in enumerate(runs):
    print(json.dumps({"run": number, "code": None}), flush=True)
print(json.dumps({"run": 0, "code": 3}), flush=True)
if runs[0]["words"][0] == "waits":
    signal.pause()
os.kill(os.getpid(), signal.SIGKILL)
"""


def submitted(folder: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> list[Run]:
    """Two runs given to a process that ends the first of them."""
    (folder / "conductor.py").write_text(CONDUCTOR)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(fleet, "CONDUCTOR", "conductor")
    launcher = Fleet().make(jobs=2, device="cpu", folder=folder / "launcher")
    assert launcher.width == 2
    jobs = [Job(str(n), ("python", "-m", "rlrep.train", word), folder / f"{n}.log") for n in range(2)]
    return [launcher.submit(job) for job in jobs]


def wait(run: Run, state: str) -> None:
    deadline = time.monotonic() + 60
    while run.status().state != state and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.status().state == state


def test_runs_that_a_lost_process_has_not_ended_are_lost_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submitted(tmp_path, monkeypatch, "dies")
    assert first.state.state == "waiting", "nothing is started before all are there"
    wait(second, "ended")
    assert first.status().exit_code == 3 and second.status().exit_code == -9
    assert "fleet.log" in second.status().note and "simulator" in (tmp_path / "launcher" / "fleet.log").read_text()


def test_a_signal_and_the_end_are_the_whole_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = submitted(tmp_path, monkeypatch, "waits")
    wait(first, "ended")
    assert second.status().state == "running"
    second.stop(15)
    second.stop(15)
    wait(second, "ended")
    assert second.status().exit_code == -15
    second.kill()


def test_a_process_for_every_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(
        fleet, "Process", lambda fleets, runs, place: started.append(([r.job.name for r in runs], place))
    )
    launcher = Fleets("auto", 3, ["2", "5"], tmp_path)
    for name in "abc":
        launcher.submit(Job(name, ("python", "-m", "rlrep.train"), None))
    launcher.start()
    assert started == [(["a", "c"], {"CUDA_VISIBLE_DEVICES": "2"}), (["b"], {"CUDA_VISIBLE_DEVICES": "5"})]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size must be auto or at least 1, not 0"):
        Fleet(size=0)
    with pytest.raises(
        UserError, match=r"launcher=fleet is for rlrep\.train: use another launcher for rlrep\.pretrain"
    ):
        Fleets("auto", 1, [], tmp_path).submit(Job("", ("python", "-m", "rlrep.pretrain"), None))


def test_a_multirun_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = ("env=toy_state", "env.workers=inline", "agent.lr=1e30,1e-3", "launcher=fleet", "train.eval_every=0")
    assert main(["-m", *TINY, *words]) == 1
    out, err = capsys.readouterr()
    assert "[2/2] done in" in out and "no GPU is used here" in out
    (line,) = err.splitlines()
    assert line.startswith("failed: ") and "not finite" in line
