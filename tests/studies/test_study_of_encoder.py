"""`encoder=RUN`: the meters of a study on what a trained agent sees, and who has nothing to ask about."""

from pathlib import Path

import pytest
import torch

from rlrep.commands.pretrain import main as pretrain
from rlrep.commands.study import main
from rlrep.nn import Encoder, PixelEncoderConfig
from rlrep.settings import ConfigError
from rlrep.studies import memorised_images
from rlrep.studies.memorised_images import MemorisationOfEncoder
from rlrep.studies.outcome import read
from rlrep.studies.simplex import SimplexOfEncoder
from rlrep.studies.study import Subject
from tests.runs import run
from tests.ssl.ssl_rig import FEW


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run on pixels."""
    out = tmp_path_factory.mktemp("runs") / "pixels"
    assert run(out, "env=toy_pixels", "aux=sup_con_return", "logger=default") == 0
    return out


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished pretraining run on labelled images."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert pretrain(["method=simclr", "data=digits", "preset=debug", "device=cpu", *FEW, f"out={out}"]) == 0
    return out


@pytest.mark.parametrize("name", ["simplex", "collapse", "memorisation"])
def test_a_pretraining_run_is_asked_about_images_that_it_held_out(
    name: str, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memorised_images, "MOST", 3)
    assert main([name, f"encoder={pretrained}", f"out={tmp_path}", "frames=120"]) == 0
    data = read(tmp_path / f"{name}_of_encoder.json")
    assert data["settings"] == {"encoder": str(pretrained), "observations": 120}
    if name == "simplex":
        assert len(data["curves"][0]["cosines of bins' means"]["encoder"][0]) == 45  # ten classes
    if name == "collapse":
        assert len(data["curves"][0]["effective rank"]["run"][0]) > 1


@pytest.mark.parametrize("name", ["simplex", "collapse", "memorisation"])
def test_a_trained_encoder_is_asked(name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorised_images, "MOST", 3)
    assert main([name, f"encoder={trained}", f"out={tmp_path}", "frames=200"]) == 0
    data = read(tmp_path / f"{name}_of_encoder.json")
    assert data["settings"] == {"encoder": str(trained), "observations": 200} and len(data["seeds"]) == 1
    assert data["command"] == f"python -m rlrep.study {name} encoder={trained} frames=200"
    assert f"[{name}_of_encoder]" in (tmp_path / "README.md").read_text()
    if name == "collapse":
        steps, ranks = data["curves"][0]["effective rank"]["run"]
        assert len(steps) == len(ranks) > 3 and min(ranks) >= 1.0
    if name == "simplex":
        assert data["numbers"]["encoder/deviation"] != data["numbers"]["random weights/deviation"]


def subject(bins: int, *, images: int = 60, classes: bool = True, encoder: Encoder | None = None) -> Subject:
    """Return latents at the corners of a simplex, of random images."""
    torch.manual_seed(0)
    labels, small = torch.arange(images) % bins, PixelEncoderConfig((2, 2), (8, 8), latent_dim=16)
    shown = torch.randint(0, 256, (images, 1, 16, 16), dtype=torch.uint8)
    made = encoder or small.make((1, 16, 16))
    of = "the return that follows" if classes else "the time in the episode"
    points, untrained = torch.eye(bins)[labels] + 0.2, torch.randn(images, 4)
    return Subject("x", made, lambda: small.make((1, 16, 16)), shown, points, untrained, labels, of, {}, classes)


def test_bins_on_a_simplex_are_seen_wherever_it_stands() -> None:
    found = SimplexOfEncoder(subject(4)).measure().numbers
    assert found["encoder/deviation"] == pytest.approx(0.0, abs=1e-5) and found["encoder/within"] == pytest.approx(1.0)
    assert found["rise of the deviation"] < -0.1


def test_too_few_bins_are_named() -> None:
    with pytest.raises(ConfigError, match="2 bins of the return that follows, a simplex needs three"):
        SimplexOfEncoder(subject(2))
    with pytest.raises(ConfigError, match="5 bins of the time in the episode, a simplex needs three classes"):
        SimplexOfEncoder(subject(5, classes=False))
    with pytest.raises(ConfigError, match="x gives 60 images, memorisation needs 100"):
        MemorisationOfEncoder(subject(3))


def test_images_that_are_the_same_are_learned_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorised_images, "MOST", 12)
    monkeypatch.setattr(memorised_images, "TRAININGS", 2)
    asked = subject(2, images=100)
    asked.images[asked.bins == 1] = asked.images[1].clone()
    torch.manual_seed(1)
    numbers = MemorisationOfEncoder(asked).measure().numbers
    assert numbers["bin 0"] > 2 * numbers["bin 1"]


def test_an_encoder_that_has_learned_the_images_finds_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorised_images, "MOST", 3)
    monkeypatch.setattr(memorised_images, "TRAININGS", 2)
    torch.manual_seed(1)
    flat = PixelEncoderConfig((2, 2), (8, 8), latent_dim=16).make((1, 16, 16))
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()
    assert MemorisationOfEncoder(subject(2, images=100, encoder=flat)).measure().numbers["found before training"] < 0


def test_who_has_nothing_to_ask_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    assert run(state, "env=toy_state") == 0
    for words, message in (
        (["simplex", f"encoder={state}"], "sees no frames, but states"),
        (["hltm", f"encoder={state}"], "hltm takes no encoder: collapse, memorisation and simplex do"),
        (["simplex", f"encoder={state}", "data.path=x"], "data.path=x is for runs of rlrep.pretrain"),
        (["all", f"encoder={state}"], "encoder= is for one study"),
        (["simplex", f"encoder={tmp_path}/none"], "none"),
        (["simplex", "frames=1"], "frames must be from 10"),
    ):
        capsys.readouterr()
        assert main(["preset=debug", *words, f"out={tmp_path}"]) in (1, 2)
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error
