"""A run folder is data: what it names is compared as text before any import, and its texts refer to nothing."""

import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.probe import main as probe
from rlrep.config.compose import compose_run
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.record.bounds import check_amounts
from rlrep.record.trust import Trust
from rlrep.settings import TARGET, UserError, groups
from tests.runs import run
from tests.ssl.ssl_rig import FEW, METHODS

from .hostile import WORDS, complaint, edit_yaml, listing, make_pretraining, make_run, put

MODULE = "hostile_module"
COLLECTED = "rlrep.loops.pretraining.collected.CollectedFrames"
CODE = """
from dataclasses import dataclass
from pathlib import Path
from rlrep.envs.toy import ToyState
from rlrep.nn import PixelEncoderConfig
from rlrep.ssl.data import Digits

Path("imported").write_text("")

class Toy(ToyState): pass
class Images(Digits): pass
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trust") / "run")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pretraining(tmp_path_factory.mktemp("trust") / "pretraining")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module that leaves a trace where it is imported."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop(MODULE, None)


def copied(folder: Path, place: Path, path: str, value: object) -> Path:
    """Return a copy of a run with one value of its config changed."""
    out: Path = shutil.copytree(folder, place / "copy")
    edit_yaml(out / "config.yaml", lambda tree: put(tree, path, value))
    return out


HOSTILE = [
    (f"env.{TARGET}", f"{MODULE}.Toy"),
    (f"agent.{TARGET}", f"{MODULE}.Toy"),
    (f"encoder.{TARGET}", f"{MODULE}.Toy"),
    (f"augment.{TARGET}", f"{MODULE}.Toy"),
    (f"launcher.{TARGET}", f"{MODULE}.Toy"),
    (f"train.{TARGET}", f"{MODULE}.Toy"),  # no group: no component belongs there
    (f"train.log_every.{TARGET}", f"{MODULE}.Toy"),
    (f"agent.pull.{TARGET}", f"{MODULE}.Toy"),
    (f"aux.new.{TARGET}", f"{MODULE}.Toy"),
    ("aux.new", {TARGET: "rlrep.heads.InstanceContrast", "view": {TARGET: f"{MODULE}.Toy"}}),
    ("agent.heads", [[{TARGET: f"{MODULE}.Toy"}]]),
    (f"choices.new.{TARGET}", f"{MODULE}.Toy"),
    (f"env.{TARGET}", "venv.__main__.Env"),
    (f"env.{TARGET}", "subprocess.Popen"),
    (f"env.{TARGET}", "rlrep.train.main"),
    (f"env.{TARGET}", "rlrep.views.NoAugment"),  # ours, and no environment
    (f"env.{TARGET}", "rlrep.envs.toy.ToyState.\x1b[2J"),
    (f"env.{TARGET}", "..x"),
    (f"env.{TARGET}", ""),
    (f"env.{TARGET}", 5),
    (f"env.{TARGET}", ["a", "b"]),
]


@pytest.mark.parametrize(("path", "value"), HOSTILE)
def test_evaluate_imports_nothing_that_a_run_folder_names(
    trained: Path, place: Path, capsys: pytest.CaptureFixture[str], path: str, value: object
) -> None:
    out = copied(trained, place, path, value)
    before, modules = listing(place), set(sys.modules)
    assert evaluate([f"out={out}", "episodes=1", "device=cpu"]) == 1
    line = complaint(capsys)
    assert str(out) in line and path.removesuffix(f".{TARGET}") in line and TARGET in line
    assert not {MODULE, "venv"} & (set(sys.modules) - modules)
    assert listing(place) == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"data.{TARGET}", f"{MODULE}.Images"),
        (f"encoder.{TARGET}", f"{MODULE}.Images"),
        (f"encoder.norm.{TARGET}", f"{MODULE}.Images"),
        (f"method.{TARGET}", f"{MODULE}.Images"),
        (f"probe.{TARGET}", f"{MODULE}.Images"),
    ],
)
def test_probe_imports_nothing_that_a_run_folder_names(
    pretrained: Path, place: Path, capsys: pytest.CaptureFixture[str], path: str, value: object
) -> None:
    out = copied(pretrained, place, path, value)
    before = listing(place)
    assert probe([f"encoder={out}", "device=cpu", *FEW]) == 1
    assert (str(out) in (line := complaint(capsys)) and f"{MODULE}.Images" in line) or "probe" in line
    assert MODULE not in sys.modules and listing(place) == before


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "load_encoder"},
        {"kind": "Encoder"},
        {"kind": "os"},
        {"kind": "../x"},
        {"kind": 3},
        {"norm": {TARGET: f"{MODULE}.Images"}},
        {"width": {TARGET: f"{MODULE}.Images"}},
    ],
)
def test_an_encoders_sidecar_names_no_code(
    pretrained: Path, place: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    for name in ("encoder.json", "encoder.safetensors"):
        shutil.copy(pretrained / name, place / name)
    about = json.loads((place / "encoder.json").read_text())
    about["architecture"].update(change)
    (place / "encoder.json").write_text(json.dumps(about))
    assert probe([f"encoder={place}", "data=digits", "data.size=16", "device=cpu", *FEW]) == 1
    complaint(capsys)
    assert MODULE not in sys.modules


def test_the_users_own_word_lets_a_component_in(trained: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copied(trained, place, f"env.{TARGET}", f"{MODULE}.Toy")
    words = [f"out={out}", "episodes=1", "device=cpu"]
    assert evaluate(words) == 1
    assert f"--trust {MODULE}" in (line := complaint(capsys)) and "--config-dir" in line
    assert evaluate([*words, "--trust", "hostile_mod"]) == 1  # a module of another name is another module
    assert MODULE not in sys.modules
    assert evaluate([*words, "--trust", MODULE]) == 0
    assert sys.modules.pop(MODULE, None)
    (place / "mine" / "env").mkdir(parents=True)
    (place / "mine" / "env" / "toy.yaml").write_text(f"_target_: {MODULE}.Toy\n")
    assert evaluate([*words, "--config-dir", str(place / "mine")]) == 0
    assert evaluate([*words, "--trust", "a b"]) == 2


def test_a_resumed_run_takes_nothing_from_its_folder(
    trained: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(trained, place, f"env.{TARGET}", f"{MODULE}.Toy")
    before = listing(out)
    assert run(out, *WORDS) == 1
    assert f"env.{TARGET} was {MODULE}.Toy" in complaint(capsys)
    assert MODULE not in sys.modules and listing(out) == before


def test_entry_points_are_known_by_what_they_register(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "package.heads:Mine", "rlrep.aux")
    monkeypatch.setattr(groups, "registered", lambda group: {"mine": point} if group == "aux" else {})
    groups.targets.cache_clear()
    try:
        Trust().check("aux", {"mine": {TARGET: "package.heads.Mine"}}, "run")
        for group, target in (("env", "package.heads.Mine"), ("aux", "package.heads.Other"), ("aux", "package.heads")):
            with pytest.raises(UserError, match="no registered"):
                Trust().check(group, {"x": {TARGET: target}}, "run")
    finally:
        groups.targets.cache_clear()


def test_a_default_is_known_by_the_module_that_defines_it() -> None:
    inner = {"view": {TARGET: "rlrep.views.image.NoAugment"}}
    Trust().check("aux", {"x": {TARGET: "rlrep.heads.InstanceContrast", **inner}}, "run")
    with pytest.raises(UserError, match=r"rlrep\.views\.other\.NoAugment"):
        inner = {"view": {TARGET: "rlrep.views.other.NoAugment"}}
        Trust().check("aux", {"x": {TARGET: "rlrep.heads.InstanceContrast", **inner}}, "run")


@pytest.mark.parametrize(
    "words",
    [
        "env=toy_state agent=sb3_sac",
        "env=toy_pixels augment=random_crop aux=[curl,return_contrast,autoencoder,byol,directpred,self_prediction]",
        "env=dmc_cheetah aux=[barlow_twins,vicreg,temporal,trajectory_contrast] encoder=impala launcher=slurm",
        "env=atari_pong aux=[curl,sup_con_return]",
        "env=cheetah_vel aux=[trajectory_contrast,focal,ccm]",
        "env=metaworld_push agent=pearl_recurrent launcher=ray",
    ],
)
def test_what_our_commands_store_is_trusted(words: str) -> None:
    for group, node in compose_run(words.split()).tree.items():
        Trust().check(group, node, "run")


def test_what_pretraining_stores_is_trusted() -> None:
    for method in METHODS:
        for group, node in compose_pretraining([f"method={method}", "data=digits"]).tree.items():
            Trust().check(group, node, "run")


def test_texts_of_a_stored_config_refer_to_nothing(
    pretrained: Path, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "0.25")
    out = copied(pretrained, place, "data.test_fraction", "${oc.decode:${oc.env:SECRET}}")
    assert probe([f"encoder={out}", "device=cpu", *FEW]) == 2
    assert "0.25" not in (line := complaint(capsys)) and "${oc.decode:${oc.env:SECRET}}" in line


@pytest.mark.parametrize(
    ("path", "value", "asked"),
    [
        ("data.size", 65536, "data.size=65536"),
        ("data", {TARGET: "rlrep.ssl.data.MovingDigits", "clips": 30, "size": 100}, "data.size=100 data.clips=30"),
        ("data", {TARGET: COLLECTED, "env": "toy_pixels", "steps": 10**12}, "data.steps=1000000000000"),
    ],
)
def test_a_run_folder_does_not_choose_how_much_is_read(
    pretrained: Path, place: Path, capsys: pytest.CaptureFixture[str], path: str, value: object, asked: str
) -> None:
    out = copied(pretrained, place, path, value)
    assert probe([f"encoder={out}", "device=cpu", *FEW]) == 2
    assert f"times the usual data ({asked})" in complaint(capsys)


def test_amounts_that_are_usual_or_the_users_own_are_taken() -> None:
    frames = {TARGET: COLLECTED, "env": "toy_pixels", "steps": 300_000, "seed": 10**9, "size": 84}
    check_amounts(frames, "run", lambda _: False)
    check_amounts({**frames, "steps": 10**9}, "run", lambda option: option == "data.steps")
    with pytest.raises(UserError, match="run asks for 50,000 times the usual data"):
        check_amounts({**frames, "steps": 10**9}, "run", lambda option: option == "data.size")


def test_a_run_folder_does_not_choose_where_decoded_images_are_written(
    pretrained: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {TARGET: "rlrep.ssl.data.ImageFolder", "path": "x", "cache": "always", "cache_path": str(place / "victim")}
    out = copied(pretrained, place, "data", stored)
    assert probe([f"encoder={out}", "device=cpu", f"data.path={place}", *FEW]) == 2
    assert "repeat data.cache_path=" in complaint(capsys) and not (place / "victim").exists()


def test_a_run_folder_does_not_choose_what_is_read(
    pretrained: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {TARGET: "rlrep.ssl.data.ImageArrays", "path": "/etc/passwd"}
    out = copied(pretrained, place, "data", stored)
    assert probe([f"encoder={out}", "device=cpu", *FEW]) == 2
    assert "repeat data.path=" in complaint(capsys)
    assert probe([f"encoder={out}", "device=cpu", "data.path=/etc/passwd", *FEW]) == 1
    assert "is not a sound .npz or .npy file" in complaint(capsys)


@pytest.mark.parametrize(("group", "known"), [("env", True), ("env", False)])
def test_an_options_own_dataclass_comes_with_its_component(tmp_path: Path, group: str, known: bool) -> None:
    """It is stored under a target of its own, which no file of the user's names."""
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(f"# @package _global_\nenv:\n  {TARGET}: mine.Mine\n")
    nested = {TARGET: "mine.Option" if known else "theirs.Option"}
    node = {TARGET: "mine.Mine", "option": nested}
    trust = Trust(folders=(tmp_path,))
    if known:
        trust.check(group, node, "run")
    else:
        with pytest.raises(UserError, match=r"theirs\.Option, which is no registered component"):
            trust.check(group, node, "run")
    with pytest.raises(UserError, match="no registered env"):
        Trust().check(group, node, "run")


def test_a_run_of_another_version_is_called_so() -> None:
    with pytest.raises(UserError, match=r"rlrep\.aux\.Old, which this version of rlrep does not have.*versions\.json"):
        Trust().check("aux", {"x": {TARGET: "rlrep.aux.Old"}}, "run")
