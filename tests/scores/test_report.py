"""`python -m rlrep.report`: its files, its one line, its errors, and the page in a browser without a screen."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import pytest

from benchmarks.synthetic_runs import Shape, write_run
from rlrep.commands.report import main
from rlrep.scores.analysis import Draws
from rlrep.scores.charts import to_json
from rlrep.scores.figures import draw
from rlrep.scores.films import newest
from rlrep.scores.results import arm_names, compute
from rlrep.scores.tables import harmless, latex

from .report_page import chromium, count, drawn, opened
from .report_runs import BASE, CURL, SMALL, atari, compared, copy_run, edit, family, grid

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "</script><img src=x onerror=alert(1)>$_{\\input{x}}'\""
MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(1000)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a report on single tasks, a family, an unknown game and damaged runs."""
    root = tmp_path_factory.mktemp("report")
    grid(root / "runs", seeds=5)
    for seed in range(2):
        for arm in (BASE, ("none", "trajectory_contrast")):
            family(root / "runs" / "family" / arm[1] / str(seed), arm, seed)
    atari(root / "runs" / "made_up", "made_up")
    folder = root / "runs" / "dmc_cheetah_run" / "paper" / "sac-none-none" / "seed0"
    (folder / "videos").mkdir()
    (folder / "videos" / "final.mp4").write_bytes(MP4)
    copy_run(folder, root / "runs" / "again")
    (root / "runs" / "broken").mkdir()
    (root / "runs" / "broken" / "eval.csv").write_text("x")
    assert main([str(root / "runs"), f"out={root / 'out'}", "resamples=50", "title='Some runs'"]) == 0
    return root / "out"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_written(reported: Path) -> None:
    assert (reported / "report.html").stat().st_size < 600_000
    kinds = {path.name.partition("-")[2] for path in (reported / "figures").iterdir()}
    named = ("curves", "tasks", "aggregates", "profiles", "improvement", "adaptation")
    assert kinds == {f"{name}.{kind}" for name in named for kind in ("png", "pdf")}
    assert (reported / "figures" / "01-curves.png").read_bytes().startswith(b"\x89PNG")
    assert (reported / "figures" / "01-curves.pdf").read_bytes().startswith(b"%PDF")


def test_tables_hold_what_the_runs_say(reported: Path) -> None:
    runs = rows(reported / "tables" / "runs.csv")
    assert len(runs) == 40 + 4 + 1
    assert {row["finished"] for row in runs} == {"True"}
    family_rows = [row for row in runs if row["task"] == "cheetah_vel" and row["seed"] == "1"]
    assert [row["final"] for row in family_rows] == ["21", "21"]
    evaluations = rows(reported / "tables" / "evaluations.csv")
    assert len(evaluations) == 40 * 5 + 4 * 2 + 4
    statistics = {row["statistic"] for row in rows(reported / "tables" / "aggregates.csv")}
    assert statistics == {"IQM", "mean", "median", "optimality gap"}
    assert {row["score"] for row in rows(reported / "tables" / "tasks.csv")} == {"final", "best"}
    assert "\\toprule" in (reported / "tables" / "aggregates-1.tex").read_text()


def test_the_last_line_says_where_the_report_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid(tmp_path / "runs", seeds=1)
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "figures=false", "resamples=20"]) == 0
    assert capsys.readouterr().out == f"8 runs: {tmp_path / 'out' / 'report.html'}\n"
    assert not (tmp_path / "out" / "figures").exists()


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ([], "name a folder with runs in it", 2),
        (["nowhere"], "nowhere is no folder", 2),
        (["."], "no run to report in .", 1),
        ([".", "metrik=return"], "unknown option metrik: did you mean metric?", 2),
        ([".", "metric=best"], "metric=best is not a choice", 2),
        ([".", "resamples=1"], "resamples must be from 10 to 100000, not 1", 2),
        ([".", "resamples=1000000000"], "resamples must be from 10 to 100000, not 1000000000", 2),
        ([".", "seed=-1"], "seed cannot be negative, as -1 is", 2),
        ([".", "video_megabytes=inf"], "video_megabytes must be from 0 to 1000, not inf", 2),
        ([".", "video_megabytes=nan"], "video_megabytes=nan: expected a number", 2),
        (["--html"], "unknown flag --html", 2),
    ],
)
def test_errors_are_one_line(
    words: list[str],
    said: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_double_runs_are_named_and_the_rest_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(tmp_path / "runs", seeds=1)
    (tmp_path / "runs" / "dmc_cheetah_run" / "paper" / "sac-none-none" / "seed0" / "eval.csv").write_text("")
    (tmp_path / "runs" / "empty").mkdir()
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "figures=false", "resamples=20"]) == 0
    warning, last = capsys.readouterr().out.splitlines()
    assert warning.startswith("warning: ") and "left out: its eval.csv has no column" in warning
    assert last.startswith("7 runs: ")


def test_a_folder_whose_name_is_no_text_is_reported(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "cheetah-run", BASE, 0, SMALL)
    odd = os.fsencode(tmp_path / "runs") + b"/\xff\xfe"
    os.mkdir(odd)
    (Path(os.fsdecode(odd)) / "eval.csv").write_text("")
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "figures=false", "resamples=20"]) == 0


def test_names_from_files_cannot_reach_the_page_unescaped(tmp_path: Path) -> None:
    for number, arm in enumerate((BASE, CURL)):
        folder = tmp_path / "runs" / f"{number}"
        write_run(folder, "cheetah-run", arm, 0, SMALL)
        edit(folder, lambda tree: tree["choices"].update(augment=HOSTILE, preset=HOSTILE, agent=HOSTILE))
        edit(folder, lambda tree: tree["env"].update(task=HOSTILE))
        edit(folder, lambda tree: tree.update({HOSTILE: HOSTILE}))
        (folder / "versions.json").write_text(json.dumps({"simulators": {HOSTILE: HOSTILE}, "python": HOSTILE}))
        row = json.dumps({"env_steps": 1, "rep/" + HOSTILE: 1.0, "aux/a/" + HOSTILE: 1.0})
        (folder / "metrics.jsonl").write_text(row + "\n")
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "resamples=20"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    assert "\\input" not in (tmp_path / "out" / "tables" / "tasks-1.tex").read_text()


def test_json_cannot_end_its_script() -> None:
    text = to_json(["</script>&\u2028"], [])
    assert not {"<", ">", "&", "\u2028"} & set(text)
    assert json.loads(text)["arms"] == ["</script>&\u2028"]


def test_latex_prints_names_as_they_are() -> None:
    assert latex("a_b & 50 % \\x{}") == r"a\_b \& 50 \% \textbackslash{}x\{\}"
    assert latex("[2cm] *") == "{[}2cm] {*}"


def test_tasks_of_different_lengths_are_told_apart(tmp_path: Path) -> None:
    for task, steps in (("cartpole-swingup", 100_000), ("cheetah-run", 500_000)):
        for arm in (BASE, CURL):
            write_run(tmp_path / "runs" / task / arm[1], task, arm, 0, Shape(steps, 5, 2, 5))
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "resamples=20", "figures=false"]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "up to 100,000 env steps, where the shortest task ends" in text
    assert "Mean returns at the env steps of each column" in text
    assert "<th>cartpole-swingup, 100,000 env steps</th>" in text and "<th>cheetah-run, 500,000 env steps</th>" in text


def test_legends_stay_inside_their_figures(tmp_path: Path) -> None:
    for task in ("cartpole-swingup", "cheetah-run"):
        for arm in (
            BASE,
            CURL,
            ("none", "a_head_of_a_name_that_is_rather_long"),
            ("random_shift", "one_more_such_head"),
        ):
            write_run(tmp_path / task / "".join(arm), task, arm, 0, SMALL)
    (made,) = compared(tmp_path)
    found, seen = compute(made, Draws(resamples=10)), set()
    with matplotlib.rc_context({"figure.constrained_layout.use": True}):
        for name, figure in draw(found, arm_names([found])):
            figure.draw_without_rendering()
            for legend in figure.legends:
                box = legend.get_window_extent()
                assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0, name
                seen.add(name)
    assert seen == {"curves", "tasks", "profiles"}


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    assert [harmless(cell) for cell in ("-1.5", "+2", "-inf", 3, "curl")] == ["-1.5", "+2", "-inf", 3, "curl"]
    write_run(tmp_path / "runs", "cheetah-run", BASE, 0, SMALL)
    edit(tmp_path / "runs", lambda tree: tree["choices"].update(aux="=cmd|' /C calc'!A1", agent="@SUM(1)"))
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "figures=false", "resamples=20"]) == 0
    for table in (tmp_path / "out" / "tables").glob("*.csv"):
        cells = {cell for row in rows(table) for cell in row.values()}
        assert not [cell for cell in cells if cell.startswith(("=", "@"))]


def test_tables_are_utf_8_in_every_locale(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "cheetah-läufer", BASE, 0, SMALL)
    words = [str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "figures=false", "resamples=20"]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert subprocess.run([sys.executable, "-m", "rlrep.report", *words], env=plain).returncode == 0
    assert "läufer" in (tmp_path / "out" / "tables" / "tasks-1.tex").read_text("utf-8")


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "lr=0.1", "cheetah-run", BASE, 0, SMALL)
    assert main(["lr=0.1", "out=out", "figures=false", "resamples=20"]) == 0


def test_only_real_films_are_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(MP4)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "link.mp4").symlink_to(tmp_path / "secret")
    (tmp_path / "videos" / "text.mp4").write_text("no film at all")
    (tmp_path / "videos" / "page.html").write_bytes(MP4)
    assert newest(tmp_path / "videos") is None
    (tmp_path / "videos" / "final.gif").write_bytes(b"GIF89a")
    assert newest(tmp_path / "videos") == tmp_path / "videos" / "final.gif"
    assert newest(tmp_path / "none") is None
    (tmp_path / "linked").symlink_to(tmp_path / "videos")
    assert newest(tmp_path / "linked") is None


@pytest.mark.parametrize(("megabytes", "inside"), [(8, True), (0, False)])
def test_small_films_are_inside_the_page_and_large_ones_linked(tmp_path: Path, megabytes: int, inside: bool) -> None:
    write_run(tmp_path / "runs" / "a b", "cheetah-run", BASE, 0, SMALL)
    (tmp_path / "runs" / "a b" / "videos").mkdir()
    (tmp_path / "runs" / "a b" / "videos" / "final.mp4").write_bytes(MP4)
    words = [f"out={tmp_path / 'out'}", "figures=false", "resamples=20", f"video_megabytes={megabytes}"]
    assert main([str(tmp_path / "runs"), *words]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert ("data:video/mp4;base64," in page) is inside
    assert ('src="../runs/a%20b/videos/final.mp4"' in page) is not inside


def test_nothing_of_an_earlier_report_stays(tmp_path: Path) -> None:
    for task, preset in (("cheetah-run", "a"), ("finger-spin", "b")):
        write_run(tmp_path / "runs" / preset, task, BASE, 0, SMALL)
        edit(tmp_path / "runs" / preset, lambda tree: tree["choices"].update(preset=tree["env"]["domain"]))
    words = [f"out={tmp_path / 'out'}", "resamples=20"]
    assert main([str(tmp_path / "runs"), *words]) == 0
    (tmp_path / "out" / "figures" / "02-mine.png").write_text("a user's own")
    assert (tmp_path / "out" / "figures" / "02-tasks.pdf").exists()
    assert main([str(tmp_path / "runs" / "a"), *words]) == 0
    assert [path.name for path in (tmp_path / "out").rglob("*2*")] == ["02-mine.png"]


def test_the_same_command_writes_the_same_page(tmp_path: Path) -> None:
    grid(tmp_path / "runs")
    pages = []
    for name in ("a", "b"):
        assert main([str(tmp_path / "runs"), f"out={tmp_path / name}", "figures=false", "resamples=50"]) == 0
        pages.append((tmp_path / name / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_help_is_quick_and_report_needs_no_torch() -> None:
    code = (
        "import sys; from rlrep.commands.report import main; assert main(['--help']) == 0; "
        "slow = {'torch', 'matplotlib', 'hydra', 'numpy'} & set(sys.modules); assert not slow, slow; "
        "import rlrep.scores.figures, rlrep.scores.html, rlrep.scores.tables, rlrep.scores.results; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "video_megabytes" in done.stdout


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: "Browser", reported: Path) -> Iterator["Page"]:
    with opened(browser, reported) as shown:
        yield shown


def test_every_chart_draws(page: "Page") -> None:
    shown, marked = drawn(page)
    assert shown == marked >= 15


def test_a_click_on_the_legend_hides_an_arm_everywhere(page: "Page") -> None:
    number = page.locator("button.key", has_text="curl").get_attribute("data-legend")
    shown = f"figure svg [data-arm='{number}']"
    table = page.locator(f"tr[data-arm='{number}']")
    before = count(page, shown)
    others = count(page, "figure svg .line")
    page.locator("summary", has_text="published methods").first.click()
    assert before > 5 and table.filter(visible=True).count() >= 2, "aggregates, and beside the published scores"
    page.locator(f"button[data-legend='{number}']").click()
    assert count(page, shown) == 0
    assert 0 < count(page, "figure svg .line") < others
    assert table.filter(visible=True).count() == 0
    assert page.locator(f"button[data-legend='{number}']").get_attribute("aria-pressed") == "false"
    page.locator(f"button[data-legend='{number}']").click()
    assert count(page, shown) == before and table.filter(visible=True).count() >= 2


def test_statistic_axis_and_kind_of_score_change_what_is_drawn(page: "Page") -> None:
    line = "figure[data-chart='0'] svg .line"
    first = page.locator(line).first.get_attribute("d")
    page.locator("button[data-stat='mean']").click()
    assert page.locator(line).first.get_attribute("d") != first
    page.locator("button[data-axis='agent']").click()
    drawn_text = page.locator("figure[data-chart='0'] svg").text_content() or ""
    assert "agent steps" in drawn_text and "mean of the return / 1000" in drawn_text
    assert page.locator("td .final").first.is_visible()
    page.locator("button[data-kind='best']").click()
    assert not page.locator("td .final").first.is_visible() and page.locator("td .best").first.is_visible()


def test_pointing_at_a_curve_reads_it(page: "Page") -> None:
    page.locator("figure[data-chart='0'] svg").hover(position={"x": 300, "y": 100})
    text = page.locator("figure[data-chart='0'] .read").inner_text()
    assert "env steps" in text and "curl" in text and "[" in text


def test_a_drag_zooms_and_a_double_click_shows_all_again(page: "Page") -> None:
    svg = page.locator("figure[data-chart='0'] svg")
    before = svg.locator(".tick").all_text_contents()
    box = svg.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.up()
    zoomed = svg.locator(".tick").all_text_contents()
    assert zoomed != before and drawn(page)[0] == drawn(page)[1]
    page.mouse.dblclick(box["x"] + 250, box["y"] + 100)
    assert svg.locator(".tick").all_text_contents() == before


def test_a_curve_can_be_enlarged(page: "Page") -> None:
    figure = page.locator("section").first.locator("figure", has=page.locator("button.grow")).last
    small = figure.bounding_box()
    figure.locator("button.grow").click()
    large = figure.bounding_box()
    assert small is not None and large is not None
    assert large["width"] > 2 * small["width"] and large["height"] > small["height"]


def test_another_task_shows_its_health(page: "Page") -> None:
    panels = page.locator("section").first.locator(".panel")
    assert [panels.nth(k).is_visible() for k in range(2)] == [True, False]
    page.locator("section").first.locator("select").select_option("1")
    assert [panels.nth(k).is_visible() for k in range(2)] == [False, True]
    shown, marked = drawn(page)
    assert shown == marked


def test_folded_charts_draw_when_opened(page: "Page") -> None:
    for details in page.locator("section details").all():
        details.locator("summary").click()
    page.wait_for_timeout(100)
    shown, marked = drawn(page)
    assert shown == marked


@pytest.mark.parametrize("width", [390, 800, 1600])
def test_page_never_scrolls_sideways(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_pairs_are_named_whole_on_a_phone(page: "Page") -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    chart = page.locator("figure", has_text="Probability of improvement").first
    assert chart.locator("svg .name", has_text="> random_shift only").count() > 0
    assert not [text for text in chart.locator("svg .name").all_text_contents() if "…" in text]


def test_hostile_names_do_nothing_in_a_browser(browser: "Browser", tmp_path: Path) -> None:
    for number, arm in enumerate((BASE, CURL)):
        folder = tmp_path / "runs" / str(number)
        write_run(folder, "cheetah-run", arm, 0, SMALL)
        edit(folder, lambda tree: tree["choices"].update(agent=HOSTILE, preset=HOSTILE))
        edit(folder, lambda tree: tree["env"].update(task=HOSTILE))
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "figures=false", "resamples=20"]) == 0
    shown, said = browser.new_page(), list[str]()
    shown.on("dialog", lambda dialog: said.append(dialog.message))
    shown.on("console", lambda message: said.append(message.text))
    shown.goto((tmp_path / "out" / "report.html").as_uri())
    assert count(shown, "img") == 0
    assert HOSTILE in shown.locator("h2").inner_text()
    assert drawn(shown)[0] == drawn(shown)[1]
    shown.close()
    assert said == []
