"""Checkpoints: exact trees, damage found and survived, chunks shared and collected, a full disk."""

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlrep.record import checkpoint, chunks, files
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.chunks import Damaged
from rlrep.record.files import AppendFile
from rlrep.record.tree import join, split
from rlrep.replay.ring import Ring
from rlrep.settings import UserError
from tests.runs import differences

CPU = torch.device("cpu")


def tree() -> dict[str, Any]:
    tied = torch.arange(6.0).reshape(2, 3)
    return {
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "strided": torch.arange(10)[::2],
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "tied": [tied, tied],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "array": np.random.default_rng(0).normal(size=(3, 2)),
        "words": np.arange(5, dtype=np.uint32),
        "numpy_scalar": np.float32(0.1),
        "big": 2**127 + 1,
        "tiny": 5e-324,
        "nan": float("nan"),
        "none": None,
        "text": "µ\n",
        "bytes": b"\x00\xff",
        "tuple": (1, (2.0, "x")),
        "optimiser": {3: {"integer": "keys"}},
        "nested": {"__tensor__": 1, "list": []},
    }


def test_every_tree_comes_back_exactly() -> None:
    before = tree()
    data, tensors = split(before)
    after = join(json.loads(json.dumps(data)), tensors)
    before["numpy_scalar"] = np.array(before["numpy_scalar"])
    assert np.isnan(after.pop("nan")) and np.isnan(before.pop("nan"))
    assert differences(before, after) == []


def test_tied_tensors_are_stored_once_and_temporaries_are_not_mistaken_for_them() -> None:
    tied = torch.ones(4)
    _, tensors = split({"a": tied, "b": tied, "view": tied[:2]})
    assert len(tensors) == 2
    data, tensors = split([np.full(1000, value) for value in range(50)])
    assert [int(array[0]) for array in join(data, tensors)] == list(range(50))


def test_what_cannot_be_stored_is_named() -> None:
    with pytest.raises(TypeError, match=r"state\.a\.1 is a set"):
        split({"a": [1, {2}]})


def make_ring(capacity: int = 10) -> Ring:
    return Ring(capacity, {"frame": ((2,), torch.uint8), "reward": ((), torch.float32)}, device=CPU)


def fill(ring: Ring, count: int) -> None:
    for row in range(ring.written, ring.written + count):
        ring.append({"frame": torch.full((1, 2), row % 256, dtype=torch.uint8), "reward": torch.tensor([float(row)])})


def saved(checkpoints: Checkpoints, ring: Ring, step: int, *, finished: bool = False) -> None:
    state = {"step": step, "weight": torch.full((3,), float(step))}
    checkpoints.save(state, {} if finished else {"steps": ring}, step=step, finished=finished)


def restored(folder: Path, capacity: int = 10) -> tuple[int, Ring]:
    checkpoints = Checkpoints(folder, say=lambda _: None)
    loaded = checkpoints.load()
    assert loaded is not None
    ring = make_ring(capacity)
    checkpoints.restore_rings(loaded[0], {"steps": ring})
    assert loaded[1]["weight"].tolist() == [loaded[1]["step"]] * 3
    return loaded[1]["step"], ring


@pytest.mark.parametrize("counts", [[3], [3, 4], [3, 0, 4, 3], [9, 9, 9], [25], [4, 25, 1]])
def test_a_ring_comes_back_through_any_series_of_saves(tmp_path: Path, counts: list[int]) -> None:
    checkpoints, ring = Checkpoints(tmp_path), make_ring()
    for step, count in enumerate(counts, 1):
        fill(ring, count)
        saved(checkpoints, ring, step)
    step, back = restored(tmp_path)
    assert (step, back.written, back.oldest) == (len(counts), ring.written, ring.oldest)
    assert differences(ring.read(ring.oldest, ring.written), back.read(back.oldest, back.written)) == []
    assert differences(dict(ring.columns), dict(back.columns)) == [] or ring.written > ring.capacity


def test_a_resumed_ring_goes_on_appending_to_the_same_chunks(tmp_path: Path) -> None:
    first, ring = Checkpoints(tmp_path), make_ring(100)
    fill(ring, 5)
    saved(first, ring, 1)
    old = set((tmp_path / "chunks").iterdir())
    again = Checkpoints(tmp_path)
    loaded = again.load()
    assert loaded is not None
    back = make_ring(100)
    again.restore_rings(loaded[0], {"steps": back})
    fill(back, 5)
    saved(again, back, 2)
    new = set((tmp_path / "chunks").iterdir())
    assert old < new and len(new) == 2
    assert restored(tmp_path, 100)[1].columns["reward"][:10].tolist() == list(range(10))


def test_only_what_is_new_is_written_and_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    checkpoints, ring = Checkpoints(tmp_path), make_ring(10)
    for step in range(1, 9):
        fill(ring, 4)
        saved(checkpoints, ring, step)
    names = sorted(path.name for path in (tmp_path / "chunks").iterdir())
    assert len([path for path in tmp_path.glob("*_step_*")]) == 2
    spans = sorted((int(name.split("-")[1]), int(name.split("-")[2])) for name in names)
    assert spans == [(16, 20), (20, 24), (24, 28), (28, 32)]  # of the last two checkpoints: rows 18.. and 22..


def test_large_rings_are_cut_into_bounded_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 24)  # four rows of six bytes
    checkpoints, ring = Checkpoints(tmp_path), make_ring(10)
    fill(ring, 10)
    saved(checkpoints, ring, 1)
    assert len(list((tmp_path / "chunks").iterdir())) == 3
    assert restored(tmp_path)[1].columns["reward"].tolist() == list(range(10))


def two_checkpoints(folder: Path) -> Path:
    checkpoints, ring = Checkpoints(folder), make_ring(100)
    for step in (1, 2):
        fill(ring, 5)
        saved(checkpoints, ring, step)
    return sorted(folder.glob("*_step_*"))[-1]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path: Path, name: str, damage: str) -> None:
    path = two_checkpoints(tmp_path) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": bytes(data[:-7]), "flip": bytes(data), "empty": b""}[damage])
    said: list[str] = []
    loaded = Checkpoints(tmp_path, say=said.append).load()
    assert loaded is not None and loaded[1]["step"] == 1
    assert len(said) == 1 and "is damaged" in said[0] and "previous one is used" in said[0]


def test_checkpoints_of_another_format_are_refused_in_one_line_and_stay(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT - 1)
        two_checkpoints(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="written by another version of rlrep") as error:
        Checkpoints(tmp_path).load()
    assert "\n" not in str(error.value) and sorted(tmp_path.rglob("*")) == before


def test_a_damaged_chunk_of_the_newest_checkpoint_leaves_the_previous_one(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    chunk = next((tmp_path / "chunks").glob("steps-5-10-*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    step, ring = restored(tmp_path, 100)
    assert (step, ring.written) == (1, 5)


def test_training_on_after_damage_replaces_the_damaged_one(tmp_path: Path) -> None:
    (two_checkpoints(tmp_path) / "state.json").write_text("{}")
    checkpoints = Checkpoints(tmp_path, say=lambda _: None)
    loaded = checkpoints.load()
    assert loaded is not None
    ring = make_ring(100)
    checkpoints.restore_rings(loaded[0], {"steps": ring})
    fill(ring, 7)
    saved(checkpoints, ring, 3)
    assert restored(tmp_path, 100)[0] == 3
    assert [path.name for path in tmp_path.glob("damaged_*")] == []
    assert restored(tmp_path, 100)[1].columns["reward"][:12].tolist() == list(range(12))


def test_nothing_sound_left_is_an_error_and_nothing_at_all_is_not(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).load() is None
    two_checkpoints(tmp_path)
    for path in tmp_path.glob("*/manifest.json"):
        path.unlink()
    checkpoints = Checkpoints(tmp_path, say=lambda _: None)
    for _ in range(2):  # and it stays one
        with pytest.raises(Damaged, match="no sound checkpoint"):
            checkpoints.load()


def test_a_half_written_checkpoint_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_checkpoints(tmp_path)
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "manifest.json").write_text("{}")
    assert restored(tmp_path, 100)[0] == 2


def test_a_finished_run_keeps_its_parameters_and_drops_its_replay(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is not None
    saved(checkpoints, make_ring(), 3, finished=True)
    assert [path.name for path in tmp_path.iterdir()] == ["000003_step_3"]
    manifest = checkpoints.latest()
    assert manifest is not None and manifest.finished and not manifest.rings
    assert checkpoints.peek()[1]["step"] == 3


def test_a_replay_of_another_size_is_refused(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    with pytest.raises(ValueError, match="holds 7 rows, the checkpoint's held 100"):
        restored(tmp_path, 7)


@pytest.mark.parametrize("files_before_full", range(4))
def test_a_full_disk_leaves_the_old_checkpoints_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_before_full: int
) -> None:
    two_checkpoints(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    loaded = checkpoints.load()
    assert loaded is not None
    ring = make_ring(100)
    checkpoints.restore_rings(loaded[0], {"steps": ring})
    before = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    fill(ring, 5)
    left = [files_before_full]
    write = files.write_synced

    def full(path: Path, data: bytes) -> str:
        left[0] -= 1
        if left[0] < 0:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "write_synced", full)
        patch.setattr(checkpoint, "write_synced", full)
        with pytest.raises(OSError, match="No space left"):
            saved(checkpoints, ring, 3)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == before
    assert restored(tmp_path, 100)[0] == 2
    saved(checkpoints, ring, 3)  # there is room again
    step, back = restored(tmp_path, 100)
    assert step == 3 and back.columns["reward"][:15].tolist() == list(range(15))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse writes past `size` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_the_kernel_refusing_a_write_is_survived_too(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.load()
    with file_size_limit(4096), pytest.raises(OSError):
        checkpoints.save({"large": torch.zeros(10_000)}, {}, step=3)
    assert restored(tmp_path, 100)[0] == 2
    assert not (tmp_path / ".writing").exists()


def test_a_log_keeps_whole_lines_through_a_full_disk(tmp_path: Path) -> None:
    log = AppendFile(tmp_path / "log")
    log.append("first\n")
    with file_size_limit(8), pytest.raises(OSError):
        log.append("second\n")
    log.append("third\n")
    assert (tmp_path / "log").read_text() == "first\nsecond\nthird\n"
    log.cut(6)
    log.append("fourth\n")
    assert (tmp_path / "log").read_text() == "first\nfourth\n"
    os.truncate(tmp_path / "log", 2)
    with pytest.raises(Exception, match="was cut"):
        AppendFile(tmp_path / "log").cut(6)
