"""Slurm through submitit, Ray, and what a user is told where one of them is missing."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlrep.commands.train import main
from rlrep.launch import LauncherConfig, Local, Ray, Slurm
from rlrep.launch.base import Job, Launcher, Task
from rlrep.launch.slurm import Cluster
from rlrep.settings import UserError

ODD = "a b,c=1#[x] ü'q\" $x (y); {z}"
SAVES = """
import signal, sys, time
def save(*_): print('saved', flush=True); sys.exit(143)
signal.signal(signal.SIGTERM, save)
print('began', flush=True)
if open(sys.argv[1]).read().count('began') < {sessions}: time.sleep(60)
print('finished', flush=True)
"""
"""A run in small: interrupted, it saves; its last session finishes."""


def in_sessions(folder: Path, sessions: int) -> Job:
    """Return a job that finishes in its `sessions`-th session and waits to be interrupted in those before."""
    log = folder / "run.log"
    return Job("run", (sys.executable, "-c", SAVES.format(sessions=sessions), str(log)), log)


def wait_for(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def said(job: Job) -> list[str]:
    """Return the lines of a job's log."""
    return job.log.read_text().splitlines() if job.log is not None and job.log.exists() else []


def ended(task: Task) -> bool:
    """Whether a job is over."""
    return task.status().state == "ended"


def children(process: int) -> list[int]:
    """Return the ids of a process's children."""
    stats = [path.read_text().rsplit(")", 1) for path in Path("/proc").glob("[0-9]*/stat")]
    return [int(head.split()[0]) for head, tail in stats if int(tail.split()[1]) == process]


def program(folder: Path, name: str, script: str) -> None:
    """Write an executable that a cluster would have."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs of Slurm's names into the path; sbatch keeps the script it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "srun", "exit 0")
    program(folder, "sbatch", f'cp "$1" {folder}/script; echo Submitted batch job 12')
    program(folder, "sacct", 'echo "JobID|State|NodeList"; echo "12|PENDING|None"')
    program(folder, "scancel", f'echo "$@" > {folder}/cancelled')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_slurm_is_asked_for_what_the_options_say(slurm_here: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    config = Slurm(partition="gpu", timeout_min=90, cpus=3, mem_gb=8, setup=("module load cuda",))
    launcher = config.make(jobs=7, device="auto", folder=tmp_path / "submitit")
    assert launcher.width == 7
    task = launcher.submit(in_sessions(tmp_path, 1))
    script = (slurm_here / "script").read_text()
    flags = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    asked = {"partition=gpu", "time=90", "cpus-per-task=3", "gpus-per-node=1", "mem=8GB", "requeue"}
    assert asked | {"signal=USR2@120"} <= flags and "module load cuda" in script
    assert task.status().state == "waiting"
    task.stop(signal.SIGINT)
    assert (slurm_here / "cancelled").read_text() == "12\n"


def test_a_job_that_slurm_refuses_is_one_line(slurm_here: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    program(slurm_here, "sbatch", "echo invalid partition specified: gpus >&2; exit 1")
    launcher = Slurm().make(jobs=1, device="cpu", folder=tmp_path / "submitit")
    with pytest.raises(UserError, match=r"refuses the job: .*invalid partition") as error:
        launcher.submit(in_sessions(tmp_path, 1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", [Local(), Slurm()], ids=["local", "slurm"])
def test_a_folder_may_have_any_name(slurm_here: Path, tmp_path: Path, config: LauncherConfig) -> None:
    """Slurm's script is run by a shell, as Slurm does; Ray is given the same job, as arguments and not as a text."""
    pytest.importorskip("submitit")
    program(
        slurm_here, "srun", 'while test "${1#--}" != "$1"; do test "$1" = --output && shift; shift; done; exec "$@"'
    )
    variables = "SLURM_JOB_ID=12 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NNODES=1"
    later = f'(sleep 1; {variables} sh "$script") > {slurm_here}/said 2>&1 &'
    program(slurm_here, "sbatch", f'script={slurm_here}/script; cp "$1" $script; {later}\necho Submitted batch job 12')
    program(slurm_here, "sacct", 'echo "JobID|State|NodeList"; echo "12|RUNNING|here"')
    folder = tmp_path / ODD
    launcher = config.make(jobs=1, device="cpu", folder=folder / ".launcher")
    job = in_sessions(folder, 1)
    task = launcher.submit(job)
    wait_for(lambda: ended(task))
    assert task.status().exit_code == 0 and said(job) == ["began", "finished"]
    assert {path.name for path in tmp_path.iterdir()} == {"bin", ODD}


def test_a_folder_whose_name_slurm_would_fill_in_is_refused(slurm_here: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match=r"Slurm reads the % in .*runs%j as a sign of its own: use root="):
        Slurm().make(jobs=1, device="cpu", folder=tmp_path / "runs%j")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_preempted_job_saves_and_is_queued_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launcher = Slurm(cluster="local").make(jobs=1, device="cpu", folder=tmp_path / "submitit")
    job = in_sessions(tmp_path, 2)
    task = launcher.submit(job)
    wait_for(lambda: said(job) == ["began"])
    assert task.status().state == "running"
    (runner,) = children(int(task._job.job_id))
    os.kill(runner, signal.SIGUSR2)  # as Slurm does before a time limit
    wait_for(lambda: ended(task))
    assert task.status().exit_code == 0
    assert said(job) == ["began", "saved", "began", "finished"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_sigterm_alone_saves_and_leaves_the_queue_to_slurm(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launcher = Slurm(cluster="local").make(jobs=1, device="cpu", folder=tmp_path / "submitit")
    job = in_sessions(tmp_path, 2)
    task = launcher.submit(job)
    wait_for(lambda: said(job) == ["began"])
    (runner,) = children(int(task._job.job_id))
    os.kill(runner, signal.SIGTERM)
    wait_for(lambda: ended(task))
    assert said(job) == ["began", "saved"]
    assert task.status().exit_code is None and list((tmp_path / "submitit").rglob("*_result.pkl")) == []


@pytest.fixture
def background() -> Iterator[None]:
    """Ignore SIGINT, as what a shell starts in the background does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_job_in_submitits_debugger_ends_as_elsewhere(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    launcher = Cluster(submitit.AutoExecutor(tmp_path / "submitit", "debug"), 1, slurm=False)
    job = in_sessions(tmp_path, 1)
    assert launcher.submit(job).status().exit_code == 0 and said(job) == ["began", "finished"]


@pytest.mark.slow
def test_ray_runs_jobs_cancels_them_and_says_what_does_not_fit(tmp_path: Path, background: None) -> None:
    pytest.importorskip("ray")
    launcher: Launcher = Ray().make(jobs=2, device="cpu", folder=tmp_path)
    try:
        assert launcher.width >= 1
        first = in_sessions(tmp_path, 1)
        task = launcher.submit(first)
        wait_for(lambda: ended(task))
        assert task.status().exit_code == 0 and said(first) == ["began", "finished"]
        folder = tmp_path / "second"
        second = in_sessions(folder, 2)
        task = launcher.submit(second)
        wait_for(lambda: said(second) == ["began"])
        task.stop(signal.SIGINT)
        wait_for(lambda: ended(task))
        assert task.status().exit_code == 143 and said(second) == ["began", "saved"]
    finally:
        launcher.close()
    with pytest.raises(UserError, match=r"a run asks for 100000 and 0: lower launcher\.cpus"):
        Ray(cpus=100_000).make(jobs=2, device="cpu", folder=tmp_path)


def multirun(*words: str) -> int:
    """Try to launch two runs."""
    return main(["-m", "env=toy_state", "seed=0,1", "device=cpu", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("launcher=slurm",), "no Slurm here"),
        (("launcher=ray", "launcher.address=nowhere"), "expected HOST:PORT"),
        (("launcher=ray", "launcher.address=127.0.0.1:{port}"), "no Ray cluster answers at 127.0.0.1:"),
        (("launcher=ray", "launcher.address=two..dots:80"), "no Ray cluster answers at two..dots:80"),
        (("launcher=flock",), "launcher=flock is not known: did you mean local?"),
        (("launcher.partition=gpu",), "unknown option launcher.partition"),
        (("launcher.jobs=0",), "jobs must be auto or at least 1, not 0"),
        (("launcher=slurm", "launcher.cpus=0"), "cpus must be at least 1"),
    ],
)
def test_a_launcher_that_cannot_be_reached_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert multirun(*(word.format(port=port) for word in words)) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert list(tmp_path.rglob("config.yaml")) == []


def test_what_listens_but_is_no_ray_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("rlrep.launch.ray_cluster._ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address}.*does not answer as Ray does"):
            Ray(address=address).make(jobs=1, device="cpu", folder=tmp_path)


@pytest.mark.parametrize(("name", "module"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert multirun(f"launcher={name}") == 1
    assert capsys.readouterr().err == f"error: launcher={name} needs {module}: pip install 'rlrep[{name}]'\n"
