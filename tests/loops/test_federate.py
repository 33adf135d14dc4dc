"""`rlrep.federate` as a user types it: folder, exact resume, lost parties, errors."""

from pathlib import Path
from statistics import fmean

import pytest
import torch

from rlrep.commands.federate import main
from rlrep.federated import party
from rlrep.loops.federation.work import Rounds
from rlrep.loops.pretraining.picture import Picture
from rlrep.nn import read_encoder
from tests.federated.federated_rig import PARTIES
from tests.runs import differences, evaluations, final_state, lines, metrics

WORDS = (*PARTIES, "rounds=3", "train.evaluations=1")


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Picture, "refresh", lambda *_: None)


def run(out: Path, *words: str) -> int:
    state = torch.get_rng_state()
    try:
        return main([*WORDS, f"out={out}", *words])
    finally:
        torch.set_rng_state(state)


def test_a_run_is_a_run_and_a_stop_within_a_round_is_gone_on_from_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "whole", "method=moon") == 0
    rows = metrics(tmp_path / "whole")
    assert [(row["rounds"], row["epoch"]) for row in rows] == [(0, 0), (1, 1), (2, 2), (3, 3), (3, 3)]
    assert {"train/loss", "train/cosine_global", "train/cosine_previous", "federated/lost"} <= rows[2].keys()
    assert {row["kind"] for row in evaluations(tmp_path / "whole")} == {"initial", "final"}
    between = Rounds._between

    def interrupted(work: Rounds, done: int) -> None:
        between(work, done)
        if (work.server.rounds, done) == (1, 2):
            raise SystemExit(9)  # as dead as by a signal that cannot be caught

    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "_between", interrupted)
        with pytest.raises(SystemExit):
            run(tmp_path / "parts", "method=moon")
    assert run(tmp_path / "parts", "method=moon") == 0
    assert "continuing at round 1" in capsys.readouterr().out
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    assert evaluations(tmp_path / "whole") == evaluations(tmp_path / "parts")
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "parts")) == []


def test_parties_alone_are_probed_each_and_a_lost_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = party.train_party

    def dying(*given: object) -> object:
        if given[2:4] == (2, 1):
            raise OSError("a wire was cut")
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(party, "train_party", dying)
    assert run(tmp_path, "method=simclr", "average=false") == 0
    said = capsys.readouterr().out
    assert "warning: round 2: party 2 was lost, its round does not count (OSError: a wire was cut)" in said
    final = [row for row in evaluations(tmp_path) if (row["kind"], row["probe"]) == ("final", "knn")]
    assert [row["party"] for row in final] == ["0", "1", "2"] and "mean of 3 parties" in said
    last = metrics(tmp_path)[-1]
    assert last["probe/encoder/knn_accuracy"] == pytest.approx(fmean(float(row["value"]) for row in final))
    encoder = {f"online.encoder.{name}": value for name, value in read_encoder(tmp_path).tensors.items()}
    first = final_state(tmp_path)["server"]["models"][0]
    assert all(torch.equal(value, first[name]) for name, value in encoder.items())


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("train.updates=3",), "train.updates has no place here: rounds= and local_epochs= say how long", 2),
        (("partition=dirichle",), "did you mean dirichlet? valid: by_env, by_episode, by_label, dirichlet, iid", 2),
        (("engine=rocket",), "valid: ", 2),
        (("method.base=simcrl",), "method.base=simcrl is not known: did you mean simclr?", 2),
        (("method.base.temperature=1",), "unknown option method.base.temperature: did you mean", 2),
        (("partition.gamma=1",), "unknown option partition.gamma", 2),
        (("parties=0",), "parties must be at least 1", 2),
        (("parties=200",), "fewer than 2000, partition.least=10 for each party: give fewer parties=", 1),
        (("partition=by_env",), "needs the label env", 1),
    ],
)
def test_a_wrong_command_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str, code: int
) -> None:
    assert run(tmp_path / "x", *words) == code
    (error,) = lines(capsys.readouterr().err)
    assert message in error, error


def test_help_lists_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("by_episode", "fedprox", "local_epochs: 10", "average: true"))
