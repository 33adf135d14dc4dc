"""`python -m rlrep.study`: every study at its debug size, what it leaves, its verdicts, its errors in one line."""

import json
import math
from pathlib import Path

import pytest
import torch

from rlrep.commands.study import compose, main, words_of
from rlrep.scores.statistics import FEWEST_RUNS
from rlrep.settings import groups
from rlrep.studies.outcome import measure, read, summary
from rlrep.studies.page import write_overview
from rlrep.studies.study import Claim
from rlrep.studies.verdict import judge

STUDIES = groups.names("study")
DEBUG = ("preset=debug", "seeds=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every study at its debug size."""
    out = tmp_path_factory.mktemp("studies")
    for name in STUDIES:
        assert main([name, *DEBUG, f"out={out}"]) == 0
    return out


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_leaves_numbers_figure_and_page(name: str, folder: Path) -> None:
    data, page = read(folder / f"{name}.json"), (folder / f"{name}.md").read_text()
    assert data["preset"] == "debug" and "it says nothing of the paper" in page
    assert f"python -m rlrep.study {name} preset=debug seeds=1" in page and f"]({name}.png)" in page
    assert all(f"| {row['claim']} | {row['bound']} | 1 |" in page for row in data["verdicts"])
    assert 1000 < (folder / f"{name}.png").stat().st_size < 120_000
    assert f"[{name}]({name}.md)" in (folder / "README.md").read_text()
    assert all(row["number"] in data["numbers"] for row in data["verdicts"])


@pytest.mark.parametrize("name", STUDIES)
def test_a_seed_measures_the_same_again(name: str, folder: Path) -> None:
    torch.manual_seed(7)
    (again,), _ = measure(compose(name, (), "debug"), (0,), print)
    first = {key: values[0] for key, values in read(folder / f"{name}.json")["numbers"].items()}
    assert first == pytest.approx(dict(again.numbers), rel=1e-6, abs=1e-12)


def test_one_page_shows_all(folder: Path) -> None:
    page = write_overview(folder, STUDIES).read_text()
    assert page.count("<section>") == len(STUDIES) == page.count("data:image/png;base64,")
    assert "it says nothing of the paper" in page and "https://" not in page


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([0.1, 0.3], "holds"),
        ([0.1, 0.31], "not settled"),
        ([0.4, 0.5], "fails"),
        ([math.nan], "not settled"),
        ([math.inf], "fails"),
        ([0.1, 0.2, 0.1, 0.2, 0.32], "holds"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], "not settled"),
        ([0.4, 0.4, 0.5, 0.5, 0.29], "fails"),
    ],
)
def test_a_verdict_is_of_every_seed_or_of_the_interval_of_five(values: list[float], word: str) -> None:
    verdict = judge(Claim("x", "x", high=0.3), values)
    assert verdict.word == word
    assert ("[" in verdict.figures) == (len(values) >= FEWEST_RUNS)
    assert (verdict.mean.low is None) == (len(values) < FEWEST_RUNS)


def test_the_summary_counts() -> None:
    assert summary(["holds", "fails", "holds"]) == "of 3 claims 2 hold here, 1 fail here"
    assert [Claim("", "", low=1.0).bound, Claim("", "", high=2.0).bound] == ["≥ 1", "≤ 2"]


def test_of_all_each_study_gets_its_own_options() -> None:
    words = ["preset=debug", "simplex.steps=3", "collapse.updates=2", "out=x.y"]
    assert words_of("simplex", words, STUDIES) == ["preset=debug", "simplex.steps=3", "out=x.y"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simplx"], "there is no study simplx: did you mean simplex? valid: all, collapse"),
        ([], "name one study, as in python -m rlrep.study simplex: valid: all, collapse"),
        (["simplex", "collapse"], "name one study"),
        (["simplex", "seeds=0"], "seeds: give how many, as in seeds=5"),
        (["simplex", "seeds=1000000000"], "seeds: give how many, as in seeds=5"),
        (["simplex", "seeds=[1,1]"], "seeds: give how many, as in seeds=5"),
        (["simplex", "seed=1"], "unknown option seed: did you mean seeds?"),
        (["simplex", "preset=paper"], "preset=paper is not a choice"),
        (["simplex", "simplex.stps=1"], "unknown option simplex.stps: did you mean simplex.steps?"),
        (["simplex", "collapse.updates=1"], "unknown option collapse.updates"),
        (["simplex", "simplex.per_class=500"], "per_class=500"),
        (["simplex", "simplex.steps=0"], "simplex: steps must be at least 1, not 0"),
        (["simplex", "-m"], "-m is rlrep.train's"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preset=debug", *words, f"out={tmp_path}"]) in (1, 2)
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


def test_a_file_that_is_no_outcome_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "collapse.json").write_text(json.dumps({"format": "another"}))
    assert main(["simplex", *DEBUG, f"out={tmp_path}"]) == 1
    assert "collapse.json is no outcome of a study: delete it" in capsys.readouterr().err


def test_help_and_settings_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 == main(["simplex", "-c", "simplex.steps=7"])
    said = capsys.readouterr().out
    assert all(name in said for name in STUDIES) and "steps: 7" in said


@pytest.mark.slow
def test_all_run_side_by_side(tmp_path: Path) -> None:
    assert main(["all", *DEBUG, f"out={tmp_path}"]) == 0
    assert (tmp_path / "studies.html").exists() and (tmp_path / "README.md").exists()
