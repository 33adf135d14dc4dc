"""`rlrep.pretrain` and `rlrep.probe` as a user types them: folders, exact resume, endings, errors."""

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rlrep.commands.pretrain import main
from rlrep.commands.probe import main as probe_main
from rlrep.commands.train import main as train_main
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.picture import Picture
from rlrep.loops.pretraining.work import Pretraining
from rlrep.nn import read_encoder
from rlrep.record.versions import command_line
from rlrep.ssl import Learner
from tests.runs import ROOT, differences, evaluations, final_state, lines, metrics
from tests.ssl.ssl_rig import FEW, METHODS, SMALL

TINY = (*SMALL, "train.updates=9", "train.log_every=2", "train.checkpoint_every=4", "train.evaluations=2")
WORDS = ("method=simclr",)


def run(out: Path, *words: str) -> int:
    """Pretrain in this process and return the exit code."""
    state = torch.get_rng_state()
    try:
        return main([*TINY, f"out={out}", *words])
    finally:
        torch.set_rng_state(state)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrain") / "finished"
    assert run(out, *WORDS) == 0
    return out


def test_a_run_folder_holds_what_a_training_run_holds(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "versions.json",
        "metrics.jsonl",
        "metrics.csv",
        "eval.csv",
        "pretraining.png",
        "encoder.safetensors",
        "encoder.json",
        "checkpoints",
    }
    tree = yaml.safe_load((finished / "config.yaml").read_text())
    assert tree["requested"] == {"device": "cpu"} and tree["choices"]["method"] == "simclr"
    assert (finished / "pretraining.png").stat().st_size > 20_000
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["000004_step_9"], (
        "one before the final evaluation, one after"
    )


def test_logs_hold_losses_probes_and_meters(finished: Path) -> None:
    rows = metrics(finished)
    assert [row["updates"] for row in rows] == [0, 2, 4, 4, 6, 8, 9]
    assert {"train/loss", "train/lr", "train/positive_similarity"} <= rows[1].keys()
    probes = [row for row in rows if "probe/encoder/linear_accuracy" in row]
    assert [row["updates"] for row in probes] == [0, 4, 9]
    meters = {f"rep/{name}/{m}" for name in ("latent", "embedding") for m in ("spread", "effective_rank", "alignment")}
    assert meters <= probes[-1].keys()
    scores = evaluations(finished)
    assert {row["kind"] for row in scores} == {"initial", "periodic", "final"}
    assert {row["features"] for row in scores if row["kind"] == "initial"} == {"encoder", "random", "pixels"}
    assert {row["probe"] for row in scores} == {"knn", "linear", "linear_1_per_class", "linear_10_per_class"}
    few = [float(row["value"]) for row in scores if (row["probe"], row["kind"]) == ("linear_1_per_class", "final")]
    assert len(few) == 3 and len(set(few)) > 1, "a draw each"
    name = "probe/encoder/linear_1_per_class_accuracy"
    assert probes[-1][name] == pytest.approx(fmean(few)) and probes[-1][f"{name}_sd"] == pytest.approx(stdev(few))


def test_the_encoder_file_is_that_of_the_last_update(finished: Path) -> None:
    saved = read_encoder(finished)
    assert saved.command == command_line()
    state = final_state(finished)["learner"]["method"]
    prefix = "online.encoder."
    trained = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    assert trained.keys() == saved.tensors.keys()
    assert all(torch.equal(value, saved.tensors[name]) for name, value in trained.items())


def test_a_finished_run_says_so_and_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert run(finished, *WORDS) == 0
    assert "this run is finished (9 updates)" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("seed=1",), "seed was 0, now 1"),
        (("method=byol",), "method"),
        (("train.updates=12",), "train.updates was 9, now 12"),
        (("method.objective.temperature=0.2",), "method.objective.temperature was 0.5, now 0.2"),
    ],
)
def test_another_config_in_the_same_folder_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert run(finished, *WORDS, *words) == 1
    error = capsys.readouterr().err
    assert message in error and "holds another run" in error and len(error.splitlines()) == 1


def interrupt_at(monkeypatch: pytest.MonkeyPatch, updates: int) -> None:
    """Let a signal come during the given update."""
    step = Pretraining.step

    def interrupted(work: Pretraining) -> bool:
        due = step(work)
        if work.updates == updates:
            signal.raise_signal(signal.SIGINT)
        return due

    monkeypatch.setattr(Pretraining, "step", interrupted)


@pytest.mark.parametrize(
    "words",
    [
        ("method=mochi", "method.queue.mixing.after=0.3"),
        ("method=suncet", "optimiser.name=lars"),
        ("method=clae", "encoder=resnet18", "encoder.width=4", "encoder.blocks=[1,1]"),
    ],
    ids=lambda words: words[0],
)
def test_resume_is_exact(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Picture, "refresh", lambda *_: None)  # half of the time, and no part of the state
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, *words) == 0
    for updates in (3, 8):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, updates)
            assert run(parts, *words) == 130
    assert run(parts, *words) == 0
    assert metrics(whole) == metrics(parts)
    assert evaluations(whole) == evaluations(parts)
    assert differences(final_state(whole), final_state(parts)) == []
    assert differences(load_file(whole / "encoder.safetensors"), load_file(parts / "encoder.safetensors")) == []


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlrep.pretrain", *TINY, *WORDS, "train.updates=100000", "out=run"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while not list((tmp_path / "run").glob("checkpoints/*_step_*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped, saved in run; to go on: python -m rlrep.pretrain" in out
    assert differences(final_state(tmp_path / "run")["learner"]["updates"], 0) != []


def test_a_loss_that_diverges_stops_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "x", "method=autoencoder", "optimiser.name=sgd", "optimiser.lr=1e30") == 1
    (error,) = lines(capsys.readouterr().err)
    assert "not finite" in error and "optimiser.lr" in error


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 6)
        assert run(tmp_path / "x", *WORDS) == 130
    newest = max((tmp_path / "x" / "checkpoints").glob("*_step_*"))
    (newest / "tensors.safetensors").write_bytes(b"broken")
    assert run(tmp_path / "x", *WORDS) == 0
    out = capsys.readouterr().out
    assert "is damaged" in out and "continuing at update 4" in out


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("method=simcrl",), "did you mean simclr? valid: adversarial_autoencoder, ascl", 2),
        (("data=digit",), "did you mean digits? valid: atari_frames, cifar10", 2),
        (("encoder=resnet",), "did you mean resnet18?", 2),
        (("augment=milde",), "did you mean mild?", 2),
        (("data=folder",), "data.path has no value yet", 2),
        (("data=folder", "data.path=/nowhere"), "a folder with one subfolder of image files per class", 1),
        (("method.projector.hidden=3",), "did you mean method.projector.hidden_dim?", 2),
        (("method.objective.temprature=1",), "did you mean method.objective.temperature?", 2),
        (("train.epochs=1", "train.updates=2"), "not both (an epoch is one pass over the data)", 2),
        (("optimiser.lr=-1",), "lr must be positive", 2),
        (("optimiser.name=adam",), "valid: adamw, lars, sgd", 2),
        (("env=toy_pixels",), "unknown option env", 2),
        (("method.predictor.hidden_dim=2",), "unknown option", 2),
    ],
)
def test_a_wrong_command_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str, code: int
) -> None:
    assert main([*SMALL, f"out={tmp_path / 'x'}", *words]) == code
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and error.startswith("error: ")


def test_help_lists_methods_data_and_encoders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("simclr", "shuffled_dbn", "frames", "resnet18", "batch_size", "torchrun", "cpu"):
        assert word in shown
    assert "_pretrain" not in shown
    assert probe_main(["--help"]) == 0


def test_the_views_are_the_datas_or_the_methods_or_those_asked_for() -> None:
    def views(*words: str) -> list[str]:
        tree = compose_pretraining(words).tree
        return [
            f"{view['_target_'].rsplit('.', 1)[1]} {view.get('blur', {}).get('p')}" for view in tree["method"]["views"]
        ]

    path = "data.path=x"
    assert views("method=byol", "data=folder", path) == ["ImageView 1.0", "ImageView 0.1"]
    assert views("method=byol", "data=digits") == ["ImageView 0.0", "ImageView 0.0"]
    assert views("method=cacr", "data=folder", path, "augment=simclr") == ["ImageView 0.5"] * 5
    assert views("method=autoencoder", "data=digits") == ["NoChange None"]
    assert views("method=autoencoder", "data=digits", "augment=mild") == ["ImageView 0.0"]
    assert views("method=byol", "data=digits", "method.views=[simclr,mild]") == ["ImageView 0.5", "ImageView 0.0"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page_with_commands(method: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{method}.md").read_text()  # tests/test_readme.py composes them
    assert len(re.findall(rf"^    python -m rlrep\.\w+ .*\bmethod={method}\b", page, re.MULTILINE)) >= 1


@pytest.mark.parametrize("preset", ["paper", "cpu", "debug"])
def test_every_preset_composes_and_names_its_folder(preset: str) -> None:
    composed = compose_pretraining(["method=moco_v2", "data=digits", f"preset={preset}"])
    assert composed.config.out.startswith(f"runs/pretrain/digits/{preset}/moco_v2-")
    assert composed.tree["method"]["queue"]["size"] == (4096 if preset == "paper" else 1024)
    assert composed.config.optimiser.name == ("sgd" if preset == "paper" else "adamw")


def test_a_multirun_gives_each_run_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "--cfg", "job", "method=simclr,byol", "data=digits", "seed=range(0,2)"]) == 0
    assert len(set(capsys.readouterr().out.split())) == 4


def test_probe_alone_repeats_the_final_evaluation(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main([f"encoder={finished}", "device=cpu", *FEW]) == 0
    shown = capsys.readouterr().out
    assert "linear_10_per_class_accuracy" in shown and "linear_10_per_class_accuracy_sd" in shown
    with open(finished / "probe.csv", newline="") as file:
        alone = {(row["features"], row["probe"], row["draw"]): float(row["value"]) for row in csv.DictReader(file)}
    (finished / "probe.csv").unlink()
    rows = [row for row in evaluations(finished)]
    last = [row for row in rows if row["kind"] == "final" or row["features"] in ("random", "pixels")]
    assert alone == {(row["features"], row["probe"], row["draw"]): float(row["value"]) for row in last}
    assert {draw for _, _, draw in alone} == {"", "0", "1", "2"}


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ((), "name the encoder", 2),
        (("encoder=nowhere",), "there is no nowhere", 1),
        (("encoder={run}", "data=digits", "data.size=24"), "shape [1, 24, 24]", 1),
        (("encoder={run}", "probe.neighbors=3"), "did you mean probe.neighbours?", 2),
        (("encoder={run}", "data=digit"), "did you mean digits?", 2),
    ],
)
def test_wrong_probes_are_one_line(
    finished: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str, code: int
) -> None:
    assert probe_main([word.format(run=finished) for word in words]) == code
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_an_encoder_pretrained_on_frames_starts_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes see the simulator's state; the agent takes the encoder."""
    monkeypatch.chdir(tmp_path)
    words = ("data=toy_frames", "data.steps=200", "encoder=curl_small", "encoder.channels=4", "encoder.strides=[2,1]")
    base = [word for word in TINY if not word.startswith("data")]
    assert main([*base, "method=byol", *words, "train.updates=2", "out=pre"]) == 0
    assert list(tmp_path.glob("frames/toy_pixels-16-200-seed0.safetensors"))
    assert {(row["variable"], row["metric"]) for row in evaluations(tmp_path / "pre")} >= {("agent", "r2")}
    agent = (
        "env=toy_pixels",
        "preset=debug",
        "device=cpu",
        "logger=none",
        "video=false",
        "encoder.load=pre",
        *words[2:],
    )
    short = ("train.agent_steps=30", "train.init_steps=20", "train.eval_every=0", "train.eval_episodes=1")
    assert train_main([*agent, *short, "encoder.freeze=true", "agent.batch_size=8", "out=run"]) == 0
    found = [tensor for tensor in _tensors(final_state(tmp_path / "run")["agent"]) if tensor.shape == (4, 9, 3, 3)]
    wanted = load_file(tmp_path / "pre" / "encoder.safetensors")["body.layers.0.weight"]
    assert any(torch.equal(each, wanted) for each in found)


def _tensors(tree: object) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def test_a_learner_counts_every_image_once_per_epoch() -> None:
    from rlrep.loops.pretraining.job import build

    config = compose_pretraining([*SMALL, "method=simclr", "train.batch_size=100"]).config
    learner: Learner = build(config, torch.device("cpu"))[2]
    rows = [learner._sampler.next() for _ in range(learner.length.updates_per_epoch)]
    assert len(torch.cat(rows).unique()) == 1400 and learner.length.updates_per_epoch == 14
