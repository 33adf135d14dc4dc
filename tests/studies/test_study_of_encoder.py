"""`encoder=RUN`: the meters of a study on what a trained agent sees, and who has nothing to ask about."""

from pathlib import Path

import pytest
import torch

from rlrep.commands.study import main
from rlrep.settings import ConfigError
from rlrep.studies.outcome import read
from rlrep.studies.simplex import SimplexOfEncoder
from rlrep.studies.study import Subject
from tests.runs import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run on pixels."""
    out = tmp_path_factory.mktemp("runs") / "pixels"
    assert run(out, "env=toy_pixels", "aux=sup_con_return", "logger=default") == 0
    return out


@pytest.mark.parametrize("name", ["simplex", "collapse"])
def test_a_trained_encoder_is_asked(name: str, trained: Path, tmp_path: Path) -> None:
    assert main([name, f"encoder={trained}", f"out={tmp_path}", "frames=200"]) == 0
    data = read(tmp_path / f"{name}_of_encoder.json")
    assert data["settings"] == {"encoder": str(trained), "observations": 200} and len(data["seeds"]) == 1
    assert data["command"] == f"python -m rlrep.study {name} encoder={trained} frames=200"
    assert f"[{name}_of_encoder]" in (tmp_path / "README.md").read_text()
    if name == "collapse":
        steps, ranks = data["curves"][0]["effective rank"]["run"]
        assert len(steps) == len(ranks) > 3 and min(ranks) >= 1.0
    else:
        assert data["numbers"]["encoder/deviation"] != data["numbers"]["random weights/deviation"]


def subject(bins: int) -> Subject:
    labels = torch.arange(60) % bins
    points = torch.eye(bins)[labels] + 0.2
    return Subject("x", points, torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), labels, {})


def test_bins_on_a_simplex_are_seen_wherever_it_stands() -> None:
    found = SimplexOfEncoder(subject(4)).measure().numbers
    assert found["encoder/deviation"] == pytest.approx(0.0, abs=1e-5) and found["encoder/within"] == pytest.approx(1.0)
    assert found["rise of the deviation"] < -0.1


def test_too_few_bins_are_named() -> None:
    with pytest.raises(ConfigError, match="2 return bins, a simplex needs three"):
        SimplexOfEncoder(subject(2))


def test_who_has_nothing_to_ask_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    assert run(state, "env=toy_state") == 0
    for words, message in (
        (["simplex", f"encoder={state}"], "sees no frames, but states"),
        (["hltm", f"encoder={state}"], "hltm takes no encoder: collapse and simplex do"),
        (["all", f"encoder={state}"], "encoder= is for one study"),
        (["simplex", f"encoder={tmp_path}/none"], "none"),
        (["simplex", "frames=1"], "frames must be from 10"),
    ):
        capsys.readouterr()
        assert main(["preset=debug", *words, f"out={tmp_path}"]) in (1, 2)
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error
