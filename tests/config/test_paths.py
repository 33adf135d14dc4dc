"""Paths on a command line mean the file or folder that is called so, whatever is in its name."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.probe import compose_probe
from rlrep.commands.report import main as report
from rlrep.commands.train import main
from rlrep.config.compose import compose_run
from rlrep.config.overrides import PROBE, as_path, expand, parse
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.grid.suite import read_request
from rlrep.process.cli import Arguments, read_arguments
from rlrep.record.trust import Trust
from rlrep.settings.groups import names
from tests.runs import ROOT, run

WORDS = """
ü 日本 a,b a=b x/lr=0.1 ( a) [ [a] ] { } it's a"b # $x ${seed} ${oc.env:HOME} ${ a\\${seed} a\\ a\\\\b a:b a://b %j
a%20b * ? ! @ & 123 1e3 true nan -a +a a~b ~no_such_user
"""
HARD = (*WORDS.split(), "{a: b}", "a #b", "a b", " a", "tab\there", "\udcff")
ALL_AT_ONCE = "ü , = ( [ ' # {$x} $ {seed} \" \\ a:b"


@pytest.mark.parametrize("name", [*HARD, ALL_AT_ONCE])
def test_a_path_is_what_follows_the_equals_sign(name: str) -> None:
    place = f"runs/{name}"
    words = [f"out={place}", f"++root={place}", f"data.path={place}", f"encoder.load={place}"]
    assert [setting.value for setting in parse(words).settings] == [place] * 4
    assert parse([f"encoder={place}"], grammar=PROBE).setting("encoder") == place
    bare = os.path.abspath(name) if name == "~no_such_user" else name
    assert parse([f"out={name}"]).setting("out") == bare
    assert expand([*words, "seed=0,1"])[1] == [*words, "seed=1"]


@pytest.mark.parametrize("name", ["${seed}", "${", "a\\${seed}", "123", "true", "a #b", "a://b", ALL_AT_ONCE])
def test_a_composed_config_has_the_same_path(name: str) -> None:
    place = f"runs/{name}"
    config: Any = compose_run(["env=toy_state", f"root={place}", f"encoder.load={name}"]).config
    assert config.encoder.load == name
    assert config.out.startswith(f"{Path(place)}/toy_state/paper/")
    pretraining = compose_pretraining(["data=folder", f"data.path={name}", f"out={place}"])
    assert pretraining.tree["data"]["path"] == name and pretraining.config.out == place
    request = read_request(["suite=toy", f"out={name}"], [])
    assert request.root == name and compose_run(["env=toy_state", *request.place]).config.root == name


def test_a_tilde_is_home_in_every_path_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert compose_run(["env=toy_state", "out=~/runs"]).config.out == f"{tmp_path}/runs"
    assert compose_run(["env=toy_state", "encoder.load=~/runs"]).tree["encoder"]["load"] == f"{tmp_path}/runs"
    assert read_request(["suite=toy", "out=~"], []).root == str(tmp_path)
    assert compose_probe(["encoder=~/x", "data=digits"], Trust()).encoder == f"{tmp_path}/x"
    assert as_path("./~") == f"{tmp_path}/~" and as_path("a/~") == "a/~"
    (tmp_path / "more").mkdir()
    assert read_arguments(["--config-dir=~/more"]).folders == [tmp_path / "more"]


def test_null_is_no_path() -> None:
    assert compose_run(["env=toy_state", "encoder.load=null"]).tree["encoder"]["load"] is None


@pytest.mark.parametrize("name", ["$x", "${x", "a\\", "it's", "a:b", "%j", "\udcff", "-a", ALL_AT_ONCE])
def test_config_dir_may_have_every_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    (folder / "preset").mkdir(parents=True)
    (folder / "preset" / "mine.yaml").write_text("# @package _global_\nseed: 77\ntrain: {agent_steps: 9}\n")
    for flags in (["--config-dir", str(folder)], [f"--config-dir={folder}"]):
        arguments = read_arguments([*flags, "env=toy_state"])
        assert "mine" in names("preset", arguments.folders)
        assert compose_run([*arguments.words, "preset=mine"], arguments.folders).config.seed == 77
    again = shlex.split(arguments.again("rlrep.train", arguments.words))
    assert read_arguments(again[3:]) == Arguments(["env=toy_state"], folders=[folder])


@pytest.mark.parametrize("argv", [["--config-dir"], ["--config-dir="], ["--config-dir", "nowhere"]])
def test_config_dir_without_a_folder_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env=toy_state", *argv]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_cfg_takes_no_other_flag_for_its_value() -> None:
    assert read_arguments(["--cfg", "-m", "env=toy_state"]).multirun
    assert read_arguments(["--cfg", "job", "env=toy_state"]).words == ["env=toy_state"]


COMPONENT = """
from dataclasses import dataclass
from rlrep.envs.toy import ToyState

@dataclass(frozen=True)
class Mine(ToyState):
    speed: int = 1
"""


def test_modules_of_config_dir_are_found_by_runs_workers_and_launched_jobs(tmp_path: Path) -> None:
    folder = tmp_path / ALL_AT_ONCE
    (folder / "env").mkdir(parents=True)
    (folder / "env" / "mine.yaml").write_text(
        "# @package _global_\nenv:\n  _target_: my_colon_env.Mine\n  workers: process\n"
    )
    (folder / "my_colon_env.py").write_text(COMPONENT)
    command = [sys.executable, "-m", "rlrep.train", "-m", "--config-dir", str(folder), "env=mine", "preset=debug"]
    command += [
        "agent.batch_size=8",
        "train.agent_steps=30",
        "train.init_steps=20",
        "train.eval_every=0",
        f"root={ALL_AT_ONCE}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.parent.parent.parent.parent.name for path in (tmp_path / ALL_AT_ONCE).rglob("config.yaml")] == ["mine"]


def test_a_run_is_trained_resumed_evaluated_and_reported_in_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path(ALL_AT_ONCE) / "ü=1"
    words = ("env=toy_state", "logger=default")
    assert run(out, *words) == 0
    assert run(out, *words) == 0
    assert f"see {out}" in capsys.readouterr().out
    assert yaml.safe_load((out / "config.yaml").read_text())["out"] == str(out)
    assert evaluate([f"out={out}", "episodes=1", "device=cpu"]) == 0
    assert report([ALL_AT_ONCE, f"out={ALL_AT_ONCE}/rep", "title=A, (B = ${x}", "figures=false"]) == 0
    assert "<title>A, (B = ${x}" in (tmp_path / ALL_AT_ONCE / "rep" / "report.html").read_text()


def test_videos_are_written_in_folders_with_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from rlrep.record.video import Video

    monkeypatch.chdir(tmp_path)
    video = Video(Path("a:b") / "v.mp4")
    for _ in range(3):
        video.add(np.zeros((16, 16, 3), np.uint8))
    video.close()
    assert (tmp_path / "a:b" / "v.mp4").stat().st_size > 100
