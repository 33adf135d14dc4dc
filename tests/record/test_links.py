"""Links, FIFOs and devices in a folder: nothing is written, emptied or deleted behind them, nothing waits for them."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.probe import main as probe
from rlrep.commands.report import main as report
from rlrep.files import NotPlain, foreign, open_plain, read_plain, replace_plain, write_new
from rlrep.grid.plan import Run, standing
from rlrep.launch.base import Job
from rlrep.launch.remote import start
from rlrep.record.chunks import ChunkStore
from rlrep.record.files import AppendFile
from rlrep.record.folder import check_plain
from rlrep.record.stored import Unreadable, read_json, read_yaml
from rlrep.settings import UserError
from rlrep.ssl.data.frames import read_about
from tests.runs import run
from tests.scores.report_runs import grid
from tests.ssl.ssl_rig import FEW

from .hostile import WORDS, complaint, listing, make_pretraining, make_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("links") / "run")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pretraining(tmp_path_factory.mktemp("links") / "pretraining")


def file_link(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victim / "precious.txt")


def new_link(path: Path, victim: Path) -> None:
    """One that leads to a file that is not there yet."""
    path.unlink(missing_ok=True)
    path.symlink_to(victim / "new.txt")


def folder_link(path: Path, victim: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(victim)


def fifo(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


Trap = Callable[[Path, Path], None]
TRAPS: list[tuple[str, Trap]] = [
    *((name, file_link) for name in (".lock", "metrics.jsonl", "metrics.csv", "eval.csv", "evaluate.csv", "probe.csv")),
    *((name, file_link) for name in ("config.yaml", "versions.json", ".config.yaml.tmp", ".learning_curve.png")),
    *((name, new_link) for name in (".lock", ".versions.json.tmp", "evaluate.csv", "tensorboard/events", "videos/x")),
    *((name, folder_link) for name in ("checkpoints", "checkpoints/chunks", "checkpoints/.writing", "videos", "wandb")),
    *((name, fifo) for name in (".lock", "config.yaml", "metrics.jsonl", "eval.csv", "checkpoints/000009_step_99")),
    ("a/b/c/deep", file_link),
]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Somebody's folder."""
    place = tmp_path / "victim"
    place.mkdir()
    (place / "precious.txt").write_text("years of work")
    (place / "steps-0-9-0123456789ab.safetensors").write_text("looks like a chunk")
    return place


@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", ["train", "evaluate", "bench"])
@pytest.mark.parametrize(("name", "trap"), TRAPS, ids=[f"{name}-{trap.__name__}" for name, trap in TRAPS])
def test_a_run_folder_with_links_is_refused_before_anything_is_written(
    trained: Path, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], name: str, trap: Trap, command: str
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    trap(out / name, victim)
    before = (listing(victim), listing(out))
    if command == "bench":
        kind, reason = standing(Run("task", "sac", "arm", 0, (), str(out), {}))
        assert kind == "refused" and name in reason
    else:
        code = run(out, *WORDS) if command == "train" else evaluate([f"out={out}", "episodes=1", "device=cpu"])
        assert code == 1
        assert name in (line := complaint(capsys)) and ("link" in line or "FIFO" in line)
    assert (listing(victim), listing(out)) == before


@pytest.mark.parametrize(("name", "trap"), [("probe.csv", file_link), (".probe.csv.tmp", file_link), ("x", fifo)])
def test_probe_writes_through_no_link(
    pretrained: Path, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], name: str, trap: Trap
) -> None:
    out = shutil.copytree(pretrained, tmp_path / "run")
    trap(out / name, victim)
    before = listing(victim)
    assert probe([f"encoder={out}", "device=cpu", *FEW]) == 1
    assert name in complaint(capsys) and listing(victim) == before


def test_a_run_folder_may_be_reached_through_links(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = tmp_path / "scratch"
    shutil.copytree(trained, scratch / "run")
    (tmp_path / "runs").symlink_to(scratch)
    (tmp_path / "one").symlink_to(scratch / "run")
    assert run(tmp_path / "runs" / "run", *WORDS) == 0
    assert "continuing at 47 env steps" in capsys.readouterr().out
    assert evaluate([f"out={tmp_path / 'one'}", "episodes=1", "device=cpu"]) == 0
    assert (scratch / "run" / "evaluate.csv").exists()


def test_what_wandb_links_inside_its_own_folder_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    (tmp_path / "wandb" / "latest-run").symlink_to("run-1")
    check_plain(tmp_path)
    (tmp_path / "wandb" / "out").symlink_to(tmp_path.parent)
    with pytest.raises(UserError, match="a link, wandb/out"):
        check_plain(tmp_path)
    (tmp_path / "wandb" / "out").unlink()
    (tmp_path / "wandb2").symlink_to("wandb")
    assert foreign(tmp_path) == "a link, wandb2"


def test_only_chunks_are_deleted_and_only_in_a_real_folder(tmp_path: Path, victim: Path) -> None:
    before = listing(victim)
    (tmp_path / "chunks").symlink_to(victim)
    ChunkStore(tmp_path / "chunks").drop_all_but([])
    assert listing(victim) == before
    ChunkStore(victim).drop_all_but([])
    assert [path.name for path in victim.iterdir()] == ["precious.txt"]


def test_hard_links_are_not_written_through(tmp_path: Path, victim: Path) -> None:
    os.link(victim / "precious.txt", tmp_path / "log")
    with pytest.raises(NotPlain, match="another name"):
        AppendFile(tmp_path / "log").append("x")
    with pytest.raises(NotPlain, match="another name"):
        AppendFile(tmp_path / "log").cut(0)
    replace_plain(tmp_path / "log", b"new")
    assert (victim / "precious.txt").read_text() == "years of work" and (tmp_path / "log").read_bytes() == b"new"


def test_a_jobs_log_is_appended_to_no_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "seed0.log").symlink_to(victim / "precious.txt")
    with pytest.raises(OSError, match="link"):
        start(Job("job", ("true",), tmp_path / "seed0.log"), environment={})
    assert (victim / "precious.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["tables", "figures", "report.html", "tables/runs.csv", ".report.html.tmp"])
def test_a_report_is_written_and_cleared_through_no_link(
    tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    grid(tmp_path / "runs", tasks=("cartpole-swingup",), seeds=1)
    (victim / "01-curves.png").write_text("mine")
    path = tmp_path / "report" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(victim if "." not in name else victim / "precious.txt")
    before = listing(victim)
    code = report([str(tmp_path / "runs"), f"out={tmp_path / 'report'}", "resamples=10"])
    assert listing(victim) == before
    assert code == (0 if name.endswith(".tmp") else 1)
    assert code == 0 or name in complaint(capsys)


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo", tmp_path / "zero", Path("/dev/zero"), tmp_path):
        for follow in (False, True):
            with pytest.raises(OSError, match=r"not a file|no file"):
                read_plain(path, 10, follow=follow)
        with pytest.raises(OSError, match=r"not a file|is a link|exists"):
            write_new(path, b"")
        with pytest.raises(OSError, match="not a file"):
            open_plain(path, os.O_RDWR | os.O_CREAT)
        for read in (read_json, read_yaml):
            with pytest.raises(Unreadable, match="is not a file"):
                read(path)


@pytest.mark.timeout(20)
def test_frames_are_read_from_files_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "header").write_bytes(b"\xff" * 100)
    for path in (tmp_path / "fifo", tmp_path / "header", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="is not a sound frame file"):
            read_about(path)


def test_a_file_beyond_its_bound_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(NotPlain, match="cannot have more than 100"):
        read_plain(tmp_path / "sparse", 100)


def test_what_a_run_takes_away_while_we_look_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_text("")
    (tmp_path / ".metrics.csv.tmp").write_text("")

    class Gone:
        """An entry whose file is replaced between listing and looking."""

        path = str(tmp_path / ".metrics.csv.tmp")

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError(self.path)

    @contextmanager
    def listed(folder: str) -> Iterator[list[object]]:
        with os_scandir(folder) as entries:
            yield [Gone(), *(entry for entry in entries if not entry.name.endswith(".tmp"))]

    os_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", listed)
    assert foreign(tmp_path) is None
    (tmp_path / "link").symlink_to("kept")
    assert foreign(tmp_path) == "a link, link"
