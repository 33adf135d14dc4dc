"""The cache of decoded images: it gives what decoding gives, however it came about, or one line says why not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlrep.images import cache as caches
from rlrep.images import workers
from rlrep.images.cache import Cache, open_cache
from rlrep.images.image_file import read_image
from rlrep.images.shards import Recipe
from rlrep.settings import UserError

RECIPE = Recipe(8, "rgb")


def write_images(root: Path, count: int, first: int = 0) -> list[Path]:
    """Write images of random pixels, wider than high, and return their paths in order."""
    root.mkdir(exist_ok=True)
    paths = [root / f"{number:03d}.png" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder of ten images, of which four make a shard; one process decodes."""
    monkeypatch.setattr(caches, "LEAST_ROWS", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    write_images(tmp_path / "images", 10)
    yield tmp_path / "images"


def opened(root: Path, place: Path | None = None, recipe: Recipe = RECIPE) -> tuple[Cache, list[str]]:
    """Return the cache of all images, and what was said."""
    said: list[str] = []
    return open_cache(root, sorted(root.glob("*.png")), recipe, place=place, say=said.append), said


def check(cache: Cache, root: Path) -> None:
    """Every image is what decoding gives."""
    paths = sorted(root.glob("*.png"))
    assert cache.count == len(paths)
    for row, path in enumerate(paths):
        assert np.array_equal(cache.image(row), read_image(path, cache.recipe.size, cache.recipe.colour).pixels)


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(5, "gray"), Recipe(None, "rgb")], ids=str)
def test_it_holds_what_decoding_gives_and_is_made_once(root: Path, recipe: Recipe) -> None:
    cache, said = opened(root, recipe=recipe)
    check(cache, root)
    assert len(cache.shards) == 3 and len(said) == 1 and "10 of 10 images are decoded into" in said[0]
    assert cache.folder.parent == root.parent / ".images.rlrep"
    check(opened(root, recipe=recipe)[0], root)
    assert opened(root, recipe=recipe)[1] == [], "nothing is decoded again"


def test_several_processes_decode_and_remarks_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(root / "100.png")
    cache, _ = opened(root)
    check(cache, root)
    assert cache.remarks == {"with transparency, which is left out": 1} == opened(root)[0].remarks


@pytest.mark.parametrize("cores", [1, 2])
def test_a_file_that_is_no_image_is_named(root: Path, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    (root / "005.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"005.png is not a sound image"):
        opened(root)
    write_images(root, 1, first=5)
    check(opened(root)[0], root)


def test_a_process_that_dies_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"ended \(exit code 1\): the same command goes on"):
        opened(root)


_MAKE = """
import os, sys
from pathlib import Path
from rlrep.images import cache, workers, shards
cache.LEAST_ROWS = 4
os.sched_getaffinity = lambda _: {0, 1}
root = Path(sys.argv[1])
cache.open_cache(root, sorted(root.glob("*.png")), shards.Recipe(8, "rgb"), place=None, say=print)
"""


def test_a_kill_in_the_middle_loses_the_shards_under_way_alone(root: Path) -> None:
    """The processes that decode follow; what they had finished is not decoded again."""
    write_images(root, 790, first=10)
    made = subprocess.Popen([sys.executable, "-c", _MAKE, str(root)], stdout=subprocess.DEVNULL)
    folder = root.parent / ".images.rlrep" / "8-rgb"
    while len(list(folder.glob("*.images"))) < 3:
        assert made.poll() is None, "it is killed before it is through"
        time.sleep(0.001)
    made.send_signal(signal.SIGKILL)
    made.wait()
    there = {path: path.stat().st_mtime_ns for path in folder.glob("*.images")}
    cache, said = opened(root)  # waits for the processes to go
    check(cache, root)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert "800 of 800" not in said[-1] and "since it was made" not in said[-1]
    assert list(folder.glob(".*.tmp")) == []


def test_a_changed_folder_is_noticed_and_what_changed_is_decoded_again(root: Path) -> None:
    opened(root)
    pixels = np.full((9, 9, 3), 7, np.uint8)
    Image.fromarray(pixels).save(root / "005.png")
    cache, said = opened(root)
    check(cache, root)
    assert int(cache.image(5).max()) == 7
    assert said[0].startswith("data: 4 of 10 images are decoded") and "1 files are new or changed" in said[0]
    (root / "000.png").unlink()
    (root / "009.png").unlink()
    cache, said = opened(root)
    check(cache, root)
    assert len(cache.shards) == 2 == len(list(cache.folder.glob("*.images"))), "no shard is left over"
    assert "8 of 8 images" in said[0] and "2 gone" in said[0]


def spoil(at: int, byte: bytes = b"\xff\xfe\xfd") -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at : at + len(byte)] = bytes(a ^ b for a, b in zip(content[at : at + len(byte)], byte, strict=True))
        path.write_bytes(content)

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked_folder(path: Path) -> None:
    path.parent.rename(path.parents[2] / "elsewhere")
    path.parent.symlink_to(path.parents[2] / "elsewhere")


def linked_above(path: Path) -> None:
    path.parents[1].rename(path.parents[2] / "elsewhere")
    path.parents[1].symlink_to(path.parents[2] / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (spoil(128 + 3 * 192 + 5), r"00001.images is damaged \(the pixels of 007.png are not"),
        (spoil(-30), "00001.images is damaged"),
        (spoil(0), "00001.images is damaged"),
        (cut, "00001.images is damaged"),
        (empty, "00001.images is damaged"),
        (link, "holds a link"),
        (pipe, "holds a FIFO"),
        (linked_folder, "8-rgb is a link"),
        (linked_above, ".images.rlrep is a link"),
    ],
)
def test_links_and_damaged_shards_are_refused_in_one_line(
    damage: Callable[[Path], None], words: str, root: Path
) -> None:
    folder = opened(root)[0].folder
    damage(folder / "00001.images")
    with pytest.raises(UserError, match=words) as error:
        check(opened(root)[0], root)
    assert "\n" not in str(error.value)


def test_a_damaged_shard_that_is_removed_is_made_again(root: Path) -> None:
    folder = opened(root)[0].folder
    cut(folder / "00001.images")
    (folder / "00001.images").unlink()
    cache, said = opened(root)
    check(cache, root)
    assert "4 of 10 images" in said[0] and "since" not in said[0]


def unwritable(monkeypatch: pytest.MonkeyPatch, *roots: Path) -> None:
    """Refuse new folders in some places, to root too."""
    make = Path.mkdir

    def refuse(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if any(self.is_relative_to(root) for root in roots):
            raise PermissionError(13, "Permission denied")
        make(self, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", refuse)


def test_beside_a_folder_that_cannot_be_written_the_users_cache_is_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, home = root.parent / ".images.rlrep", root.parent / "home"
    unwritable(monkeypatch, beside)
    cache, said = opened(root)
    check(cache, root)
    assert cache.folder.is_relative_to(home) and not beside.exists()
    assert "cannot be written (Permission denied), decoded images are kept in" in said[-1]
    again, said = opened(root)
    assert again.folder == cache.folder and len(said) == 1, "it is found there at the next start"
    unwritable(monkeypatch, beside, home)
    write_images(root, 1)
    with pytest.raises(UserError, match=r"data\.cache_path=FOLDER, or give data\.cache=never"):
        opened(root)


def test_a_whole_cache_that_cannot_be_written_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(root)[0].folder
    unwritable(monkeypatch, root.parent)
    assert opened(root)[0].folder == made


def test_a_folder_that_the_user_names_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    check(opened(root, tmp_path / "cache")[0], root)
    assert (tmp_path / "disk" / "8-rgb" / "files.jsonl").read_text().count("\n") == 10
    assert not (tmp_path / ".images.rlrep").exists()


def test_many_images_make_few_shards() -> None:
    assert [caches._rows(count) for count in (1, 20_000, 1_281_167)] == [1024, 1024, 5005]
