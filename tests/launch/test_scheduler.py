"""Keeping a launcher busy: order, width, and jobs that end in every way there is."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlrep.launch.base import RUNNING, Job, Status, at_a_time
from rlrep.launch.lines import Lines, complain
from rlrep.launch.local import Local, Processes, Share, split_machine, visible_gpus
from rlrep.launch.scheduler import Entry, Scheduler, State, last_line
from rlrep.process.signals import PARENT_VARIABLE, StopRequest
from rlrep.settings import UserError
from tests.runs import ROOT


class Script:
    """A launcher on paper: every job runs for as many questions as its name says."""

    poll_seconds = 0.0

    def __init__(self, width: int, refused: str = "") -> None:
        self.width, self.refused = width, refused
        self.order: list[str] = []
        self.running = self.most = 0

    def submit(self, job: Job) -> "Step":
        if job.name == self.refused:
            raise UserError("no such partition")
        self.order.append(job.name)
        self.running += 1
        self.most = max(self.most, self.running)
        return Step(self, len(self.order))

    def close(self) -> None: ...


class Step:
    def __init__(self, script: Script, questions: int) -> None:
        self.script, self.left = script, questions

    def status(self) -> Status:
        self.left -= 1
        if self.left:
            return RUNNING
        self.script.running -= 1
        return Status("ended", 0)

    def stop(self, number: int) -> None: ...
    def kill(self) -> None: ...


class Silent:
    """Remembers every change."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def changed(self, entry: Entry) -> None:
        self.seen.append((entry.job.name, entry.state))

    def refresh(self) -> None: ...


def shell(folder: Path, name: str, script: str) -> Entry:
    """Return a job that runs a shell script in `folder`, and whose log is there."""
    return Entry(Job(name, ("sh", "-c", f"cd {folder}; {script}"), folder / f"{name}.log"))


def run(entries: list[Entry], *, width: int = 2, stop: StopRequest | None = None) -> int:
    """Run jobs as processes."""
    shares = [Share((), 1) for _ in range(width)]
    return Scheduler(Processes(shares), stop or StopRequest(), Silent()).run(entries)


def test_jobs_run_in_order_as_many_at_a_time_as_the_launcher_takes() -> None:
    script, view = Script(3), Silent()
    entries = [Entry(Job(str(index), (), None)) for index in range(8)]
    assert Scheduler(script, StopRequest(), view).run(entries) == 0
    assert script.order == [str(index) for index in range(8)] and script.most == 3
    assert view.seen.count(("7", "done")) == 1 and {entry.attempts for entry in entries} == {1}


def test_what_was_settled_before_is_not_started() -> None:
    script = Script(3)
    states = ("done", "waiting", "elsewhere", "failed")
    entries = [Entry(Job(state, (), None), state) for state in states]  # type: ignore[arg-type]
    assert Scheduler(script, StopRequest(), Silent()).run(entries) == 0
    assert script.order == ["waiting"]


def test_a_refused_job_fails_and_the_others_run() -> None:
    script = Script(1, refused="b")
    entries = [Entry(Job(name, (), None)) for name in "abc"]
    assert Scheduler(script, StopRequest(), Silent()).run(entries) == 1
    assert [(entry.state, entry.note) for entry in entries][1] == ("failed", "no such partition")
    assert script.order == ["a", "c"]


def test_a_job_that_ends_well_without_results_failed(tmp_path: Path) -> None:
    entry = shell(tmp_path, "a", "echo nothing to do")
    launcher = Processes([Share((), 1)])
    assert Scheduler(launcher, StopRequest(), Silent(), lambda job: ("waiting", "")).run([entry]) == 1
    assert (entry.state, entry.note) == ("failed", "nothing to do")


def test_a_killed_job_is_started_once_more(tmp_path: Path) -> None:
    entries = [shell(tmp_path, "a", "test -e flag || { touch flag; kill -9 $$; }"), shell(tmp_path, "b", "true")]
    assert run(entries) == 0
    assert [(entry.state, entry.attempts) for entry in entries] == [("done", 2), ("done", 1)]


def test_a_job_that_is_killed_again_is_reported_by_the_last_line_of_its_log(tmp_path: Path) -> None:
    entries = [
        shell(tmp_path, "a", "echo step 7; echo; kill -9 $$"),
        shell(tmp_path, "b", "kill -SEGV $$"),
        shell(tmp_path, "c", "sleep 0.2"),
    ]
    assert run(entries) == 1
    assert [(e.state, e.attempts) for e in entries] == [("failed", 2), ("failed", 2), ("done", 1)]
    assert entries[0].note == "killed by SIGKILL, after: step 7" and entries[1].note == "killed by SIGSEGV"


def test_two_schedulers_share_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrep.launch.scheduler._ELSEWHERE_SECONDS", 0.1)
    began = [shell(tmp_path, name, "exit 9") for name in "ab"]
    left, late, raced = shell(tmp_path, "c", "touch c"), shell(tmp_path, "d", "exit 9"), shell(tmp_path, "e", "exit 75")
    overtaken = shell(tmp_path, "f", "exit 75")
    inherited = shell(tmp_path, "g", "test -e tried && exit 0; touch tried; exit 75")
    told: dict[str, list[State]] = {
        "a": ["elsewhere", "done"],  # the other finishes it
        "b": ["failed"],
        "c": ["elsewhere", "waiting", "waiting", "done"],  # the other dies
        "d": ["done"],  # finished by the other before it was our turn
        "e": ["waiting", "elsewhere", "done"],  # both start it
        "f": ["waiting", "done"],  # both start it, and the other has finished it before ours gives way
        "g": ["waiting", "waiting", "done"],  # both start it, and the other dies before ours gives way
    }

    def standing(job: Job) -> tuple[State, str]:
        return told[job.name].pop(0), "as told"

    entries = [*began, left, late, raced, overtaken, inherited]
    for entry in (began[0], left):
        entry.state = "elsewhere"
    view = Silent()
    assert Scheduler(Processes([Share((), 1)]), StopRequest(), view, standing).run(entries) == 1
    assert [entry.state for entry in entries] == ["done", "failed", *["done"] * 5]
    assert [entry.attempts for entry in entries] == [0, 0, 1, 0, 1, 1, 2] and (tmp_path / "c").exists()
    assert ("e", "elsewhere") in view.seen and ("e", "failed") not in view.seen and not any(told.values())


def test_a_job_that_says_what_is_wrong_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [shell(tmp_path, "a", "echo error: unknown option >&2; exit 2"), shell(tmp_path, "b", "true")]
    assert run(entries) == 1
    assert entries[0].attempts == 1 and entries[1].state == "done"
    complain(entries)
    assert capsys.readouterr().err == f"failed: a: error: unknown option ({tmp_path / 'a.log'})\n"


def test_a_command_that_is_not_there_frees_its_share(tmp_path: Path) -> None:
    missing = Entry(Job("a", ("/no/such/program",), tmp_path / "a.log"))
    entries = [missing, shell(tmp_path, "b", "true")]
    assert run(entries, width=1) == 1
    assert missing.state == "failed" and "cannot start" in missing.note and entries[1].state == "done"


def test_one_job_that_was_stopped_does_not_stop_the_others(tmp_path: Path) -> None:
    entries = [shell(tmp_path, "a", "exit 143"), shell(tmp_path, "b", "sleep 0.2"), shell(tmp_path, "c", "true")]
    assert run(entries, width=1) == 1
    assert [entry.state for entry in entries] == ["stopped", "done", "done"]
    assert entries[0].note == "stopped by SIGTERM, saved" and entries[0].attempts == 1


def test_a_signal_is_passed_on_and_everything_saves(tmp_path: Path) -> None:
    saves = 'trap "echo saved; exit 143" TERM; echo began; while :; do sleep 0.02; done'
    entries = [shell(tmp_path, name, saves) for name in "abc"]
    stop = StopRequest()

    def ask() -> None:
        while not all(last_line(entry.job.log) == "began" for entry in entries[:2]):
            time.sleep(0.02)
        stop.signal_number = signal.SIGTERM  # INT is ignored by what a background shell starts

    asker = threading.Thread(target=ask)
    asker.start()
    assert run(entries, stop=stop) == 143
    asker.join()
    assert [entry.state for entry in entries] == ["stopped", "stopped", "waiting"]
    assert [last_line(entry.job.log) for entry in entries[:2]] == ["saved", "saved"]


def test_lines_tell_of_every_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [shell(tmp_path, "good", "true"), shell(tmp_path, "bad", "echo why; exit 1")]
    Scheduler(Processes([Share((), 1)]), StopRequest(), Lines(entries)).run(entries)
    said = capsys.readouterr().out
    assert "[1/2] good\n[1/2] done in 0:00:00: good\n" in said and "[2/2] failed: bad: why\n" in said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_processes_keep_to_their_cores(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    launcher = Processes([Share((core,), 3, gpu="GPU-7"), Share((core,), 3)])
    entry = shell(tmp_path, "a", "sleep 0.1; grep Cpus_allowed_list /proc/self/status; env")
    Scheduler(launcher, StopRequest(), Silent()).run([entry])
    said = (tmp_path / "a.log").read_text().splitlines()
    assert said[0].split() == ["Cpus_allowed_list:", str(core)]
    assert {"OMP_NUM_THREADS=3", f"{PARENT_VARIABLE}={os.getpid()}"} <= set(said)


def test_the_machine_is_shared_out() -> None:
    pairs = split_machine(2, [0, 1, 2, 3, 4], [])
    assert [share.threads for share in pairs] == [3, 2] and all(share.gpu is None for share in pairs)
    assert sorted(core for share in pairs for core in share.cores) == [0, 1, 2, 3, 4]
    assert [share.gpu for share in split_machine(3, [0, 1, 2], ["4", "GPU-x"])] == ["4", "GPU-x", "4"]
    assert [share.cores for share in split_machine(3, [5, 6], [])] == [(5,), (6,), (5,)]


def test_how_many_go_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [at_a_time("auto", 8, 3), at_a_time("auto", 2, 30), at_a_time(5, 2, 30), at_a_time(5, 2, 0)] == [3, 2, 5, 1]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert visible_gpus() == ["5", "6"]
    assert Local(jobs="auto").make(jobs=9, device="auto", folder=Path()).width == 2
    cores = len(os.sched_getaffinity(0))
    assert Local(jobs="auto").make(jobs=999, device="cpu", folder=Path()).width == cores


def wait_for(ready: Callable[[], bool]) -> None:
    """Wait until something is so; fails after half a minute."""
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_a_run_saves_when_its_launcher_is_killed(tmp_path: Path) -> None:
    child = (
        "import signal, sys, time; from rlrep.process.signals import follow_parent; follow_parent();"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(143)));"
        "print('began', flush=True); time.sleep(60)"
    )
    environment = f"{{**os.environ, {PARENT_VARIABLE!r}: str(os.getpid())}}"
    parent = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], env={environment})"
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=file)
        wait_for(lambda: last_line(log) == "began")
        process.kill()
        process.wait()
    wait_for(lambda: last_line(log) == "saved")
