"""What people bring to `rlrep.pretrain` is read right, or refused in one line that names the file."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from rlrep.commands.pretrain import main
from rlrep.ssl.data import Cifar10, Digits, ImageArrays, ImageData, ImageFolder, Split, describe

from .ssl_rig import SMALL
from .test_ssl_data import joined, write_cifar

CPU = torch.device("cpu")
Array = Any
RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17


def folder(path: Path, **options: Any) -> Split:
    return ImageFolder(path=str(path), size=4, **options).make(CPU)


def save(path: Path, pixels: Array = RAMP, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def classes(root: Path, *names: str, count: int = 3) -> None:
    """Write a few different images per class folder."""
    for k, name in enumerate(names):
        for i in range(count):
            save(root / name / f"{i}.png", np.full((4, 4), 40 * k + i, np.uint8))


def values(split: Split) -> list[int]:
    """Return the gray level of every image, sorted."""
    return sorted(torch.cat([split.train.images[:], split.test.images[:]])[:, 0, 0, 0].tolist())


def arrays(path: Path, split_of: int = 20, **more: Any) -> Split:
    images = more.pop("images", np.zeros((split_of, 4, 4, 3), np.uint8))
    options = {key: more.pop(key) for key in ("layout", "size") if key in more}
    np.savez(path / "x.npz", images=images, **more)
    return ImageArrays(path=str(path / "x.npz"), **options).make(CPU)


# --- pixels


@pytest.mark.parametrize(
    ("kind", "pixels"),
    [
        ("png", RAMP.astype(np.uint16) * 257),
        ("tif", RAMP.astype(np.uint16) * 257),
        ("tif", RAMP.astype(np.float32) / 255),
    ],
)
def test_wide_pixels_are_scaled_not_cut_off(kind: str, pixels: Array, tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "x" / f"{name}.{kind}", pixels)
    split = folder(tmp_path / "x", colour="gray", test_fraction=0.5)
    assert torch.equal(split.train.images[:][0, 0], torch.from_numpy(RAMP))
    assert any("2 of 2 images of" in line and "scaled" in line for line in describe(split))


@pytest.mark.parametrize(
    ("make", "scale"), [(np.float64, 1 / 255), (np.float16, 1 / 255), (np.uint16, 257), (np.uint8, 1)]
)
def test_arrays_of_other_types_are_scaled(make: Callable[[Array], Array], scale: float, tmp_path: Path) -> None:
    images = np.arange(20 * 48).reshape(20, 4, 4, 3) % 256
    split = arrays(tmp_path, images=make(images * scale), row=images[:, 0, 0, 0])
    found, rows = joined(split, "row")
    assert torch.equal(found[:, 0, 0, 0].long(), rows)
    assert (make is np.uint8) == (not any("scaled" in note for note in split.notes))


def test_masks_are_black_and_white(tmp_path: Path) -> None:
    assert values(arrays(tmp_path, images=np.ones((9, 4, 4), bool))) == [255] * 9


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((4, 4), 2.5, np.float32), r"float pixels in \[2.5, 2.5\], not in \[0, 1\]"),
        (np.full((4, 4), np.nan, np.float32), r"float pixels in \[nan, nan\]"),
        (np.full((4, 4), 70_000, np.int32), "type int32"),
        (np.full((4, 4), 255, np.uint16), "16 bits but no value above 255"),
    ],
)
def test_pixels_of_unknown_range_are_refused_by_name(pixels: Array, words: str, tmp_path: Path) -> None:
    save(tmp_path / "x" / "b.tif", pixels)
    save(tmp_path / "x" / "a.png")
    with pytest.raises(ValueError, match=words) as error:
        folder(tmp_path / "x")
    assert str(error.value).startswith(str(tmp_path / "x" / "b.tif")) and "save them" in str(error.value)
    with pytest.raises(ValueError, match=words):
        arrays(tmp_path, images=np.stack([pixels] * 5))


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    for orientation, turns in ((3, 2), (6, 1), (8, 3)):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        save(tmp_path / f"{orientation}.jpg", np.rot90(upright, turns), exif=exif, quality=95)
    split = ImageFolder(path=str(tmp_path), size=16, test_fraction=0.4).make(CPU)
    for image in torch.cat([split.train.images[:], split.test.images[:]]):
        assert int(image[:, :7].min()) > 240 and int(image[:, 9:].max()) < 15
    assert any("3 of 3 images turned upright" in line for line in describe(split))


def test_what_is_left_out_of_an_image_is_said(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((4, 4, 4), np.uint8))
    first, second = (Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (10, 90))
    first.save(tmp_path / "b.gif", save_all=True, append_images=[second])
    split = folder(tmp_path, test_fraction=0.5)
    assert values(split) == [0, 10]
    said = " ".join(describe(split))
    assert "1 of 2 images with transparency" in said and "1 of 2 images of several frames" in said


def png_of(path: Path, width: int, height: int) -> Path:
    """Write a small file whose header promises a large image."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [9_000, 12_000, 100_000])
def test_a_bomb_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    path = png_of(tmp_path / "a" / "bomb.png", side, side)
    with pytest.raises(ValueError, match="is too large") as error:
        folder(tmp_path)
    assert str(path) in str(error.value)


def cut(path: Path, keep: int = -20) -> None:
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tif"])
@pytest.mark.parametrize("keep", [3, 20, -30])
def test_a_cut_image_is_named(suffix: str, keep: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a" / f"x.{suffix}", np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    cut(path, keep)
    with pytest.raises(ValueError, match=rf"x.{suffix} is not a sound image") as error:
        folder(tmp_path)
    assert str(path) in str(error.value)


# --- folders


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    for part, shift in (("train", 0), ("Test", 100), ("extra", 200)):
        for k, name in enumerate(("ant", "cat")):
            for i in range(4 - 2 * (part == "Test")):
                save(tmp_path / part / name / f"{i}.png", np.full((4, 4), shift + 20 * k + i, np.uint8))
    split = folder(tmp_path, test_fraction=0.9)
    assert sorted(split.train.images[:][:, 0, 0, 0].tolist()) == [0, 1, 2, 3, 20, 21, 22, 23]
    assert sorted(split.test.images[:][:, 0, 0, 0].tolist()) == [100, 101, 120, 121]
    assert split.test.labels["class"].tolist() == [0, 0, 1, 1]
    said = " ".join(describe(split))
    assert "train and Test are the split" in said and "not read: extra" in said and "2 classes: ant 6, cat 6" in said


def test_half_a_split_is_refused_with_the_folder_to_give(tmp_path: Path) -> None:
    classes(tmp_path / "train", "ant", "cat")
    with pytest.raises(ValueError, match=f"give data.path={tmp_path / 'train'}"):
        folder(tmp_path)
    assert folder(tmp_path / "train").class_names["class"] == ("ant", "cat")
    save(tmp_path / "val" / "a.png")
    with pytest.raises(ValueError, match="only one has class folders"):
        folder(tmp_path)
    classes(tmp_path / "test", "ant", "dog")
    with pytest.raises(ValueError, match=r"has classes that .* has not: dog"):
        folder(tmp_path)


def test_a_folder_of_class_folders_alone_is_refused(tmp_path: Path) -> None:
    classes(tmp_path / "images", "ant", "cat")
    with pytest.raises(ValueError, match=f"give data.path={tmp_path / 'images'}"):
        folder(tmp_path)


def test_trains_are_a_class_beside_others(tmp_path: Path) -> None:
    classes(tmp_path, "train", "bus")
    assert folder(tmp_path).class_names["class"] == ("bus", "train")


def test_hidden_files_and_folders_are_left_out_and_said(tmp_path: Path) -> None:
    classes(tmp_path, "ant", "cat", ".ipynb_checkpoints", "__MACOSX")
    classes(tmp_path / "ant", ".ipynb_checkpoints", ".deep")
    (tmp_path / "cat" / "._0.png").write_bytes(b"resource fork")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    split = folder(tmp_path)
    assert values(split) == [0, 1, 2, 40, 41, 42]
    said = " ".join(describe(split))
    assert "1 .txt" in said and "1 folders without images" in said and "5 hidden" in said
    assert "2 classes: ant 3, cat 3" in said


def test_a_link_to_the_folder_itself_is_no_class(tmp_path: Path) -> None:
    classes(tmp_path, "ant", "cat")
    (tmp_path / "all").symlink_to(tmp_path)
    (tmp_path / "ant" / "up").symlink_to(tmp_path)
    (tmp_path / "dog").symlink_to(tmp_path / "cat")
    assert folder(tmp_path).class_names["class"] == ("ant", "cat", "dog")


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / f"{i}.png", np.full((4, 4), i, np.uint8))
    split = folder(tmp_path)
    assert values(split) == list(range(10)) and dict(split.train.labels) == {}
    assert any("no labels" in line for line in describe(split))


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="is no folder"):
        folder(tmp_path / "x.zip")
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="is no file"):
            ImageArrays(path=str(path)).make(CPU)
    for config in (ImageArrays(path=""), ImageFolder(path=""), Cifar10("")):
        with pytest.raises(ValueError, match=r"data.path is empty"):
            config.make(CPU)


def test_more_images_than_memory_is_one_line(tmp_path: Path) -> None:
    classes(tmp_path, "ant", count=2)
    with pytest.raises(ValueError, match="GiB in memory"):
        ImageFolder(path=str(tmp_path), size=500_000).make(CPU)
    with pytest.raises(ValueError, match="GiB in memory"):
        arrays(tmp_path, size=500_000)
    with pytest.raises(ValueError, match="GiB in memory"):
        Digits(size=50_000).make(CPU)


# --- arrays


def test_channels_are_found_first_or_last(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), dtype=np.uint8)
    first, last = arrays(tmp_path, images=images), arrays(tmp_path, images=images.transpose(0, 2, 3, 1))
    assert first.train.shape == last.train.shape == (3, 64, 64)
    assert torch.equal(first.train.images[:], last.train.images[:])
    assert arrays(tmp_path, images=images[:, [0] * 9]).train.shape == (9, 64, 64), "stacked frames"
    with pytest.raises(ValueError, match=r"give data.layout=nchw or nhwc"):
        arrays(tmp_path, images=np.zeros((20, 4, 4, 4), np.uint8))
    assert arrays(tmp_path, images=np.zeros((20, 4, 5, 4), np.uint8), layout="nhwc").train.shape == (4, 4, 5)


def test_arrays_are_cut_to_squares_where_a_size_is_asked_for(tmp_path: Path) -> None:
    images = np.zeros((20, 8, 16, 3), np.uint8)
    images[:, :, 4:12] = 200
    split = arrays(tmp_path, images=images, size=4)
    assert split.train.shape == (3, 4, 4) and values(split) == [200] * 20


def test_an_npy_file_is_images_without_labels(tmp_path: Path) -> None:
    images = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 4, 4), np.uint8)
    np.save(tmp_path / "x.npy", images)
    split = ImageArrays(path=str(tmp_path / "x.npy")).make(CPU)
    assert values(split) == list(range(12)) and dict(split.train.labels) == {}


@pytest.mark.parametrize("keep", [4, 60, 200, -200, -40])
@pytest.mark.parametrize("kind", ["npz", "npy", "compressed"])
def test_cut_arrays_are_named(kind: str, keep: int, tmp_path: Path) -> None:
    path, images = tmp_path / "x", np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    with open(path, "wb") as file:
        write: Any = {"npz": np.savez, "npy": np.save, "compressed": np.savez_compressed}[kind]
        write(file, images) if kind == "npy" else write(file, images=images)
    assert len(ImageArrays(path=str(path)).make(CPU).train) == 16
    cut(path, keep)
    with pytest.raises(ValueError, match=r"not a sound .npz or .npy file") as error:
        ImageArrays(path=str(path)).make(CPU)
    assert str(path) in str(error.value)


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            ImageArrays(path=str(path)).make(CPU)
        except ValueError as error:
            assert str(path) in str(error)


def test_an_array_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000, 3), }"
    header += b" " * (117 - len(header)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 100
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", content)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match="is cut short: 100 bytes"):
            ImageArrays(path=str(tmp_path / name)).make(CPU)


def test_cifar_archives_hold_what_cifar_holds(tmp_path: Path) -> None:
    files = write_cifar(tmp_path / "c.tar.gz")
    split = Cifar10(str(tmp_path / "c.tar.gz")).make(CPU)
    assert split.class_names["class"][3] == "cat"
    whole = (tmp_path / "c.tar.gz").read_bytes()
    for place in range(0, len(whole), len(whole) // 60):
        (tmp_path / "c.tar.gz").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            Cifar10(str(tmp_path / "c.tar.gz")).make(CPU)
        except ValueError as error:
            assert str(tmp_path) in str(error)
    for content, words in ((b"\x0a" + files["test_batch.bin"][1:], "has class 10"), (b"\0" * 31_000_000, "more than")):
        write_cifar(tmp_path / "d.tar.gz", test=content)
        with pytest.raises(ValueError, match=words):
            Cifar10(str(tmp_path / "d.tar.gz")).make(CPU)


# --- labels


def test_texts_are_classes_by_sorted_names(tmp_path: Path) -> None:
    kind = np.array(["dog", "cat", "", "dog", "ant"] * 4)
    images = np.arange(20, dtype=np.uint8)[:, None, None] + np.zeros((20, 4, 4), np.uint8)
    for text in (kind, kind.astype("S")):
        split = arrays(tmp_path, images=images, kind=text)
        found, labels = joined(split, "kind")
        by_image = dict(zip(found[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))
        assert [by_image[i] for i in range(5)] == [2, 1, -1, 2, 0]
        assert "label kind: 3 classes: ant 4, cat 4, dog 8; 4 images without" in describe(split)


def test_unknown_labels_are_said_and_no_class(tmp_path: Path) -> None:
    split = arrays(tmp_path, y=np.array([0, 1, 2, -1] * 5), speed=np.array([0.5, np.nan, 2.0, 1.0] * 5))
    lines = describe(split)
    assert "label y: 3 classes: 0 5, 1 5, 2 5; 5 images without" in lines
    assert any(
        line.startswith("label speed: a quantity from 0.5 to 2 ") and "5 images without" in line for line in lines
    )
    nothing = arrays(tmp_path, y=np.full(20, -1), speed=np.full(20, np.nan))
    assert dict(nothing.train.labels) == {} and sum("is known of no image" in line for line in describe(nothing)) == 2


def test_columns_and_booleans_are_classes(tmp_path: Path) -> None:
    split = arrays(tmp_path, y=np.arange(20)[:, None] % 2, lit=np.arange(20) % 4 == 0)
    assert "label y: 2 classes: 0 10, 1 10" in describe(split)
    assert "label lit: 2 classes: 0 15, 1 5" in describe(split)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (np.array([1, -1] * 10), "has the values -1, 1: classes are whole numbers from 0"),
        (np.array([0, -2] * 10), "has the values -2, 0"),
        (np.eye(20), r"a value per image, got \(20, 20\): save y.argmax\(1\)"),
        (np.zeros(19), r"must be \(20,\)"),
        (np.array([np.inf] * 20), "infinite"),
        (np.array([1e300] * 20), "infinite"),
        (np.array(["2020-01-01"] * 20, "M8[D]"), "type datetime64"),
        (np.array([2**64 - 1] * 20, np.uint64), "from 0"),
        (np.array([b"\xff"] * 20), "no text in UTF-8"),
        (np.array([{}] * 20), "Python objects"),
    ],
)
def test_labels_that_are_neither_classes_nor_quantities_are_refused(label: Array, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        arrays(tmp_path, y=label)
    assert "y" in str(error.value) and "\n" not in str(error.value)


def test_many_classes_are_counted_not_listed(tmp_path: Path) -> None:
    split = arrays(tmp_path, 200, y=np.arange(200) % 50)
    (line,) = describe(split)
    assert line.startswith("label y: 50 classes: 0 4, 1 4") and line.endswith("... (4 to 4 images each)")


def test_episodes_that_do_not_go_with_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="episode must be int64"):
        ImageData(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), {}, torch.zeros(2, dtype=torch.int64))


# --- as a user types it


def pretrain(out: Path, *words: str) -> int:
    base = [word for word in SMALL if not word.startswith("data")]
    state = torch.get_rng_state()
    try:
        return main([*base, "train.updates=2", "train.evaluations=1", f"out={out}", *words])
    finally:
        torch.set_rng_state(state)


def noise(count: int, *shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_unlabelled_images_pretrain_and_probes_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, image in enumerate(noise(80, 16, 16, 3)):
        save(tmp_path / "flat" / f"{i}.png", image)
    words = ("data=folder", f"data.path={tmp_path / 'flat'}", "data.size=16")
    assert pretrain(tmp_path / "run", "method=simclr", *words) == 0
    assert "no labels, so that probes are left out" in capsys.readouterr().out
    assert (tmp_path / "run" / "encoder.safetensors").exists()
    for method in ("supcon", "suncet"):
        assert pretrain(tmp_path / method, f"method={method}", *words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "these images have no labels" in line


def test_partly_labelled_images_serve_the_methods_that_need_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = np.where(np.arange(200) % 2, -1, np.arange(200) // 2 % 5)
    np.savez(tmp_path / "x.npz", images=noise(200, 16, 16), y=label, id=np.arange(200))
    words = ("data=npz", f"data.path={tmp_path / 'x.npz'}", "train.label=y")
    few = ("method.labelled.classes=4", "method.labelled.per_class=2", "method.labelled.fraction=0.5")
    assert pretrain(tmp_path / "run", "method=suncet", *few, *words) == 0
    assert "label y: 5 classes: 0 20, 1 20, 2 20, 3 20, 4 20; 100 images without" in capsys.readouterr().out
    scores = (tmp_path / "run" / "eval.csv").read_text()
    assert ",y,knn,accuracy," in scores and ",id," not in scores, "an image's number is no class"
    assert pretrain(tmp_path / "all", "method=supcon", *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs the class of every image" in line and "have no y" in line
