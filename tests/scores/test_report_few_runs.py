"""Below five runs a report shows points: no interval, no ±, no pair of arms in any of its forms."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pytest

from benchmarks.synthetic_runs import Shape, write_run
from rlrep.commands.report import main
from rlrep.scores.analysis import Draws, endings
from rlrep.scores.comparison import raw
from rlrep.scores.figures import draw
from rlrep.scores.results import Results, arm_names, compute
from rlrep.scores.statistics import Band

from .report_page import chromium, count, drawn, opened
from .report_runs import BASE, CURL, SMALL, compared, edit, family, grid

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BOUNDED = re.compile(r"\[-?[\d.,]+, -?[\d.,]+\]")


@pytest.fixture(scope="module", params=[3, 5])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Return how many seeds there are, and the folder with `runs` and their report."""
    root = tmp_path_factory.mktemp(f"of{request.param}")
    grid(root / "runs", seeds=request.param)
    for seed in range(request.param):
        for arm in (BASE, ("none", "trajectory_contrast")):
            family(root / "runs" / "family" / arm[1] / str(seed), arm, seed)
    assert main([str(root / "runs"), f"out={root}", "resamples=50", "figures=false"]) == 0
    return request.param, root


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as started:
        yield started


def data_of(root: Path) -> Any:
    page = (root / "report.html").read_text()
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def curves_of(root: Path) -> list[Any]:
    lines = [chart for chart in data_of(root)["charts"] if chart["type"] == "lines"]
    return [line for chart in lines for series in chart["series"] for line in series["stats"].values()]


def dots_of(root: Path) -> list[Any]:
    found = [chart for chart in data_of(root)["charts"] if chart["type"] == "rows"]
    return [row for chart in found for rows in chart["rows"].values() for row in rows]


def test_charts_have_intervals_or_single_runs(written: tuple[int, Path]) -> None:
    seeds, root = written
    curves, dots = curves_of(root), dots_of(root)
    assert len(curves) > 20 and len(dots) > 20
    if seeds < 5:
        assert not [one for one in (*curves, *dots) if "lo" in one or "hi" in one]
        assert {len(curve["runs"]) for curve in curves if "runs" in curve} == {3}
        assert {len(row["runs"]) for row in dots} == {3, 6}, "of one task, and of two"
    else:
        assert all("lo" in one and "hi" in one and "runs" not in one for one in (*curves, *dots))


def test_every_run_is_a_point(written: tuple[int, Path]) -> None:
    seeds, root = written
    made = max(compared(root / "runs"), key=lambda one: len(one.runs))
    lines = [set(run) for curve in curves_of(root) for run in curve.get("runs", [])]
    for task in made.tasks:
        for run in (run for arm in made.arms for run in made.cell(task, arm)):
            values = {float(f"{value:.4g}") for value in raw(task, run)}
            assert any(values <= line for line in lines) is (seeds < 5)


def test_page_and_latex_print_intervals_from_five_runs_on(written: tuple[int, Path]) -> None:
    seeds, root = written
    page = re.sub(r"<script.*?</script>", "", (root / "report.html").read_text(), flags=re.DOTALL)
    if seeds < 5:  # published scores of five runs and more keep theirs
        ours = "".join(re.findall(r'<tr class="ours".*?</tr>', page))
        assert "Too few seeds for intervals or a ranking" in page and "P(X &gt; Y) leaves out" in page
        assert ours and "±" not in ours and not BOUNDED.search(page) and "[95" not in page
    else:
        assert BOUNDED.search(page) and "[95 % interval]" in page and "Too few seeds" not in page
        assert re.search(r'class="ours".*±', page)
    for path in (root / "tables").glob("*.tex"):
        assert bool(BOUNDED.search(path.read_text())) is (seeds >= 5), path.name


def test_spreadsheets_have_bounds_from_five_runs_on(written: tuple[int, Path]) -> None:
    seeds, root = written
    for name in ("aggregates", "tasks", "improvement"):
        with open(root / "tables" / f"{name}.csv", newline="") as file:
            found = csv.DictReader(file)
            assert {"low", "high"} <= set(found.fieldnames or ()) if seeds >= 5 else "low" not in str(found.fieldnames)
    assert bool((root / "tables" / "improvement.csv").read_text()) is (seeds >= 5)


def bands_of(found: Results) -> list[Band]:
    lines = [found.curves, *found.task_curves.values()]
    curves = [line.band for arms in lines for named in arms.values() for line in named.values()]
    health = [band for keys in found.health.values() for arms in keys.values() for _, band in arms.values()]
    return [*curves, *health, *(band for arms in found.adaptation.values() for band in arms.values())]


def test_figures_are_given_and_draw_no_band_of_few_runs(written: tuple[int, Path]) -> None:
    seeds, root = written
    for made in compared(root / "runs"):
        found = compute(made, Draws(resamples=20))
        for band in bands_of(found):
            assert np.isnan(band.low).all() == (seeds < 5)
            assert (band.runs is not None and band.runs.shape[1] == 3) is (seeds < 5)
        assert bool(found.pairs) is (seeds >= 5)
        with matplotlib.rc_context():
            for name, figure in draw(found, arm_names([found])):
                areas = [area for panel in figure.axes for area in panel.collections]
                assert bool(areas) is (seeds >= 5 and name not in ("aggregates", "improvement")), name


def test_a_step_that_few_runs_have_reached_has_no_band(tmp_path: Path) -> None:
    for seed in range(6):
        half = Shape(50_000, 5, 2, 5, finished=False)
        write_run(tmp_path / str(seed), "cheetah-run", BASE, seed, half if seed < 2 else SMALL)
        edit(tmp_path / str(seed), lambda tree: tree["train"].update(env_steps=100_000, agent_steps=25_000))
    (made,) = compared(tmp_path)
    (lines,) = compute(made, Draws(resamples=20)).task_curves[made.tasks[0]].values()
    line = lines["IQM"]
    reached = np.array([sum(run.evaluations.env_steps[-1] >= step for run in made.runs) for step in line.steps])
    assert line.band.runs is not None and {4, 6} <= set(reached.tolist())
    known = ~np.isnan(line.band.low)
    assert not known[reached < 5].any() and known.any()
    assert np.isnan(line.band.runs[known]).all() and not np.isnan(line.band.runs[reached == 4]).all()


def test_an_arm_of_few_runs_has_points_beside_one_of_many(tmp_path: Path) -> None:
    for arm, seeds in ((BASE, 5), (CURL, 4)):
        for seed in range(seeds):
            write_run(tmp_path / arm[1] / str(seed), "cheetah-run", arm, seed, SMALL)
    (made,) = compared(tmp_path)
    found = compute(made, Draws(resamples=20))
    many, few = (found.aggregates["final"]["IQM"][arm] for arm in made.arms)
    assert many.low is not None and many.runs == () and few.low is None
    assert few.runs == pytest.approx([value / 1000 for value in endings_of(made.tasks[0], made.counted, made.arms[1])])
    assert found.spread.startswith("[95 % interval] or (single runs") and not found.pairs


def endings_of(task: Any, counted: Any, arm: Any) -> Sequence[float]:
    return endings(task, counted(task, arm), "final", raw)


def test_the_page_draws_what_it_has(written: tuple[int, Path], browser: "Browser") -> None:
    seeds, root = written
    with opened(browser, root) as page:
        for details in page.locator("section details").all():
            details.locator("summary").click()
        page.wait_for_timeout(100)
        shown, marked = drawn(page)
        assert shown == marked
        bounds, single = (count(page, f"figure svg {kind}") for kind in (".band, figure svg .bar", ".run"))
        assert (bounds > 0, single > 0) == (seeds >= 5, seeds < 5)
        page.locator("figure[data-chart='0'] svg").hover(position={"x": 300, "y": 100})
        text = page.locator("figure[data-chart='0'] .read").inner_text()
        assert bool(BOUNDED.search(text)) is (seeds >= 5) and bool(re.search(r"\([\d., ]+\)", text)) is (seeds < 5)
        number = page.locator("button.key", has_text="curl").get_attribute("data-legend")
        page.locator(f"button[data-legend='{number}']").click()
        assert count(page, f"figure svg [data-arm='{number}']") == 0
        page.locator("button[data-kind='best']").click()
        assert (count(page, "figure svg .run") > 0) is (seeds < 5)
