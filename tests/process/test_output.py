"""What cannot be written: output, files that nobody needs, a run that is finished already."""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from rlrep.commands import evaluate as evaluate_command
from rlrep.commands import probe as probe_command
from rlrep.commands.pretrain import main as pretrain_main
from rlrep.commands.train import main
from rlrep.process.cli import run_main
from rlrep.process.output import open_streams, spare_output
from rlrep.process.signals import catch_signals
from tests.record.test_checkpoint import file_size_limit
from tests.runs import ROOT, TINY, evaluations, lines, metrics, run
from tests.ssl.ssl_rig import SMALL

PRETRAIN = (*SMALL, "method=simclr", "train.updates=6", "train.log_every=2", "train.evaluations=2")


def pretrain(out: Path) -> int:
    """Pretrain in this process and return the exit code."""
    state = torch.get_rng_state()
    try:
        return pretrain_main([*PRETRAIN, f"out={out}"])
    finally:
        torch.set_rng_state(state)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert run(out, "env=toy_state") == 0
    return out


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrain") / "finished"
    assert pretrain(out) == 0
    return out


@contextmanager
def full_disk() -> Iterator[None]:
    """Standard output and error go to a full disk; not a fixture, whose streams pytest would replace."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = open("/dev/full", "w"), open("/dev/full", "w")  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def test_a_full_disk_under_the_output_costs_lines_not_the_run(tmp_path: Path) -> None:
    with full_disk():
        assert run(tmp_path / "x", "env=toy_state") == 0
    assert evaluations(tmp_path / "x")[-1]["kind"] == "final"


def test_a_multirun_goes_on_without_output(tmp_path: Path) -> None:
    with full_disk():
        assert main(["-m", *TINY, "env=toy_state", f"root={tmp_path}"]) == 0
    assert len(list(tmp_path.rglob("eval.csv"))) == 1


def test_what_was_asked_for_only_to_be_printed_fails_where_it_cannot_be() -> None:
    def prints() -> int:
        print("text")
        return 0

    with full_disk():
        assert run_main(prints) == 1


@pytest.mark.parametrize("redirection", ["| head -1", ">&- 2>&-", "> /dev/full 2> /dev/full"])
def test_a_run_ends_well_whatever_its_output_is(tmp_path: Path, redirection: str) -> None:
    """As a shell starts it: with a reader that goes away, closed streams, a full disk."""
    command = (
        f"{sys.executable} -m rlrep.train {' '.join(TINY)} env=toy_state out=x {redirection}; echo ${{PIPESTATUS[0]}}"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""
    assert evaluations(tmp_path / "x")[-1]["kind"] == "final"
    assert (tmp_path / "x" / ".lock").read_bytes() == b""  # a closed stream's number is no file's of the run


def test_text_that_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    open_streams()
    print("ü ± 1", flush=True)
    assert raw.getvalue() == b"\\xfc \\xb1 1\n"


def test_held_text_comes_out_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(io.StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                raise OSError(28, "No space left on device")

    disk = Disk()
    monkeypatch.setattr(sys, "stdout", disk)
    with spare_output():
        print("one", flush=True)
        disk.full = False
        print("two", flush=True)
    assert disk.getvalue() == "one\ntwo\n" and sys.stdout is disk


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU])
def test_a_closed_terminal_and_the_end_of_cpu_time_are_requests_to_stop(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with catch_signals() as stop:
            os.kill(os.getpid(), number)
            assert stop.signal_number == number
    finally:
        signal.signal(number, before)


def test_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_whose_notice_cannot_be_written_stops_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with catch_signals() as stop:
        monkeypatch.setattr(os, "write", fail)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_number == signal.SIGTERM


def contents(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def tidied(source: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run whose checkpoints somebody deleted."""
    out = tmp_path / "copy"
    shutil.copytree(source, out)
    shutil.rmtree(out / "checkpoints")
    return out


def test_a_finished_run_without_checkpoints_stays(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tidied(finished, tmp_path)
    before = contents(out)
    assert run(out, "env=toy_state", f"out={out}") == 0
    assert "this run is finished, its checkpoints are gone" in capsys.readouterr().out
    assert run(out, "env=toy_state", f"out={out}", "train.agent_steps=80") == 1
    assert "its checkpoints are gone" in capsys.readouterr().err
    assert contents(out) == before


def test_a_finished_pretraining_without_checkpoints_stays(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tidied(pretrained, tmp_path)
    before = contents(out)
    assert pretrain(out) == 0
    assert "this run is finished, its checkpoints are gone" in capsys.readouterr().out
    assert contents(out) == before
    (out / "config.yaml").unlink()  # then these are results of who knows what
    assert pretrain(out) == 0
    assert "this run is finished" not in capsys.readouterr().out and (out / "config.yaml").exists()


def test_what_an_unfinished_run_without_checkpoints_logged_is_kept(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tidied(finished, tmp_path)
    table = out / "eval.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if "final" not in line))
    rows, logged = table.read_bytes(), (out / "metrics.jsonl").read_bytes()
    assert run(out, "env=toy_state") == 0
    said = capsys.readouterr().out
    assert "its eval.csv is now eval.before.csv" in said and "its metrics.jsonl is now metrics.before.jsonl" in said
    assert (out / "eval.before.csv").read_bytes() == rows and (out / "metrics.before.jsonl").read_bytes() == logged
    assert metrics(out) == metrics(finished)


def damage(out: Path, name: str, content: str | None) -> None:
    """Put `content` into a file, or a folder in its place."""
    path = out / name
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode("latin-1"))


SPARED = ("versions.json", "metrics.csv", "learning_curve.png", "videos", "tensorboard")


@pytest.mark.parametrize(
    "found",
    [
        dict.fromkeys(SPARED[:3]),
        dict.fromkeys(SPARED, ""),
        {"versions.json": "[]", "metrics.csv": "\xff\x00"},
        {"versions.json": '{"resumed": 3}', "metrics.csv": 'a,"b'},
        {"versions.json": "[" * 100_000},
    ],
)
def test_files_that_resume_does_not_need_never_block_it(tmp_path: Path, found: dict[str, str | None]) -> None:
    words = ("env=toy_state", "checkpoint.keep_replay=true", "logger=default")
    assert run(tmp_path, *words, "train.agent_steps=25", "logger=none") == 0
    for name, content in found.items():
        damage(tmp_path, name, content)
    assert run(tmp_path, *words, "train.agent_steps=30", "video=true") == 0
    assert evaluations(tmp_path)[-1]["agent_steps"] == "30"


def test_pretraining_survives_a_full_disk_at_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with file_size_limit(12_000):  # logs fit, the encoder does not
        assert pretrain(tmp_path / "x") == 1
    said = capsys.readouterr()
    assert said.out.count("warning: encoder not saved") == 3
    (error,) = lines(said.err)
    assert "make room and repeat the command" in error
    assert pretrain(tmp_path / "x") == 0


@pytest.mark.parametrize("command", ["evaluate", "probe"])
def test_a_score_is_shown_where_it_cannot_be_written(
    finished: Path, pretrained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("rlrep.record.files.replace_file", refuse)
    if command == "evaluate":
        assert evaluate_command.main([f"out={finished}", "episodes=1", "device=cpu"]) == 0
    else:
        assert probe_command.main([f"encoder={pretrained}", "device=cpu"]) == 0
    said = capsys.readouterr()
    assert ("IQM" if command == "evaluate" else "knn") in said.out and ".csv" not in said.out
    assert f"{command}.csv is not written (Read-only file system)" in said.err and len(said.err.splitlines()) == 1
