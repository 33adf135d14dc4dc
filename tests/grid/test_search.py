"""`python -m rlrep.bench search=`: spaces, trials on paper, cutting off, taking up again, a real one."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic_runs import ARMS, write_run
from rlrep.commands import bench, report
from rlrep.grid import search as module
from rlrep.grid.plan import Run
from rlrep.grid.search import Asked, Search, make_asked, open_study, summary
from rlrep.grid.space import Range, take_search
from rlrep.grid.suite import read_request
from rlrep.launch.base import RUNNING, Job, Status
from rlrep.launch.scheduler import Entry, Scheduler
from rlrep.process.signals import StopRequest
from rlrep.scores.searches import find_searches, is_trial, view
from tests.launch.test_scheduler import Script

WORDS = ("suite=toy", "tasks=toy_state", "aux=curl", "seeds=1", "out=grid")
FOUND = {
    "suite": "toy",
    "task": "chase",
    "seed": 1000,
    "space": {
        "agent.lr": {"low": 1e-4, "high": 1e-3, "log": True, "choices": []},
        "kind": {"low": 0, "high": 0, "log": False, "choices": ["a", "b"]},
    },
    "trials": [
        {"number": n, "state": "complete", "value": n, "params": {"agent.lr": 2e-4 + n * 1e-4, "kind": "ab"[n % 2]}}
        for n in range(6)
    ],
    "importance": {"agent.lr": 0.75, "kind": 0.25},
    "fresh": {"best": [1, 2, 3, 4, 5], "default": [1, 2]},
}
SPACE = "search={agent.lr: [1e-4, 1e-3, log], aux.curl.weight: [.05, 2, log]}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked() -> Asked:
    space, trials, rest = take_search([*WORDS, SPACE, "trials=8"])
    assert space is not None
    return make_asked(read_request(rest, ()), space, trials, ())


class Paper:
    """Runs on paper: each scores what its options say, at once. started: how often each was."""

    def __init__(self, asked: Asked, curve: Callable[[Mapping[str, Any]], list[float]]) -> None:
        self.asked, self.curve, self.done, self.started = asked, curve, set[str](), list[str]()
        self.params: dict[str, Mapping[str, Any]] = {}
        self.lines: list[str] = []

    def entry(self, run: Run) -> Entry:
        self.started.append(run.out)
        self.params[run.out] = {"agent.lr": run.tree["agent"]["lr"], "weight": run.tree["aux"]["curl"]["weight"]}
        return Entry(Job(run.out, ("train",), None), "done" if run.out in self.done else "waiting")

    def read(self, folder: Path) -> list[tuple[int, float, bool]]:
        scores = self.curve(self.params[str(folder)])
        return [(100 * k, score, k == len(scores)) for k, score in enumerate(scores, 1)]

    def search(self, *, cuts: bool = True) -> Search:
        study, say = open_study(self.asked), self.lines.append
        return Search(self.asked, study, self.entry, lambda run: ("waiting", ""), self.read, say, cuts=cuts)

    def run(self, search: Search, width: int = 2) -> int:
        return Scheduler(Script(width), StopRequest(), search).run([], search.more)


def states(search: Search) -> list[str]:
    return [trial.state.name for trial in search.study.get_trials()]


def test_the_best_of_all_trials_is_found_within_bounds(asked: Asked) -> None:
    paper = Paper(asked, lambda params: [0.0, params["weight"]])
    search = paper.search()
    assert paper.run(search) == 0 and states(search) == ["COMPLETE"] * 8
    tried = [trial.params for trial in search.study.get_trials()]
    assert all(1e-4 <= each["agent.lr"] <= 1e-3 and 0.05 <= each["aux.curl.weight"] <= 2 for each in tried)
    assert bench.best_of(search.study) == max(tried, key=lambda each: each["aux.curl.weight"])
    assert len(set(paper.started)) == 8 and all(is_trial(Path(out)) for out in paper.started)
    assert all(trial.intermediate_values.keys() == {100, 200} for trial in search.study.get_trials())


def test_what_was_left_under_way_is_taken_up_and_nothing_done_twice(asked: Asked) -> None:
    paper = Paper(asked, lambda params: [params["weight"]])
    first = paper.search()
    left = [first.more(2), first.more(1)]  # as of a process that was killed thereafter
    assert [len(each) for each in left] == [2, 1] and states(first) == ["RUNNING"] * 3
    paper.done.add(left[0][0].job.name)
    second = paper.search()
    assert paper.run(second, width=3) == 0 and states(second) == ["COMPLETE"] * 8
    assert len(set(paper.started)) == 8 and len(paper.started) == 11
    assert paper.search().more(5) == []


def test_two_that_share_a_search_ask_for_no_more_than_there_are(asked: Asked) -> None:
    paper = Paper(asked, lambda params: [params["weight"]])
    first, second = paper.search(), paper.search()
    others = [*first.more(4), *second.more(0)]
    assert len(others) == 8  # the second finds four of the first's under way
    assert len(second.more(9)) == 4 and second.more(9) == [] and len(first.study.get_trials()) == 8
    assert len(first.more(1)) == 4, "in the end each waits for what the other has under way"


class Task:
    """A process on paper that is asked to stop."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def status(self) -> Status:
        return RUNNING

    def stop(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None: ...


@pytest.mark.parametrize("cuts", [True, False])
def test_a_trial_below_the_median_at_equal_steps_is_cut_off(
    cuts: bool, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    paper = Paper(asked, lambda params: [1.0, 1.0, 1.0])
    search = paper.search(cuts=cuts)
    *done, good, bad = search.more(module.STARTUP_TRIALS + 2)
    for entry in done:
        entry.state = "done"
        search.changed(entry)
    tasks = [Task(), Task()]
    for entry, task in zip((good, bad), tasks, strict=True):
        entry.state, entry.task = "running", task
    worst = paper.params[bad.job.name]
    paper.curve = lambda params: [0.5, 0.5] if params == worst else [1.0, 1.0]
    search.refresh()
    search.refresh()
    assert [task.signals for task in tasks] == [[], [signal.SIGTERM] * cuts]
    assert states(search)[-2:] == ["RUNNING", "PRUNED" if cuts else "RUNNING"]
    assert search.study.get_trials()[-2].intermediate_values == {100: 1}
    assert search.standing(good.job)[0] == "waiting" and (search.standing(bad.job)[0] == "done") == cuts


def test_a_failed_trial_is_no_end(asked: Asked) -> None:
    paper = Paper(asked, lambda params: [params["weight"]])
    search = paper.search()
    (entry,) = search.more(1)
    entry.state, entry.note = "failed", "out of memory"
    search.changed(entry)
    assert states(search) == ["FAIL"] and "out of memory" in paper.lines[-1]
    assert paper.run(search) == 0 and states(search)[1:] == ["COMPLETE"] * 7


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trials=3"], "trials of what?"),
        (["search={agent.lr: [1e-4, 1e-3]}"], "needs a number of trials"),
        (["search={}", "trials=3"], "names no options"),
        (["search=3", "trials=3"], "names no options"),
        ([SPACE, "trials=0"], "trials=0 must be"),
        ([SPACE, "trials=1.5"], "trials=1.5 must be"),
        (["search={agent.lr: 3}", "trials=3"], "is no range"),
        (["search={agent.lr: [1e-4]}", "trials=3"], "is no range"),
        (["search={agent.lr: [1, 2, 3]}", "trials=3"], "is no range"),
        (["search={agent.lr: [true, 3]}", "trials=3"], "is no range"),
        (["search={agent.lr: [1e-3, 1e-4]}", "trials=3"], "from a lower to a higher"),
        (["search={agent.lr: [0, nan]}", "trials=3"], "from a lower to a higher"),
        (["search={agent.lr: [0, 1, log]}", "trials=3"], "begins above 0"),
        (["search={agent.temperature_loss: [alpha, alpha]}", "trials=3"], "twice"),
        (["search={agent.lrr: [1e-4, 1e-3]}", "trials=3"], "did you mean agent.lr"),
        (["search={aux.byol.weight: [1, 2]}", "trials=3"], "that head is not active"),
        (["search={agent.batch_size: [0, 64]}", "trials=3"], "batch_size"),
        (["search={agent.temperature_loss: [alpha, none]}", "trials=3"], "temperature_loss"),
        ([SPACE, "trials=3", "aux=curl,byol"], "a search is of one arm"),
        ([SPACE, "trials=3", "agent.hidden_dim=8,16"], "a search is of one arm"),
        ([SPACE, "trials=3", "tasks=toy_state,toy_pixels"], "a search is of one task"),
        ([SPACE, "trials=3", "agents=sac,rainbow"], "a search is of one agent"),
        ([SPACE, "trials=3", "agent.lr=1e-3"], "both searched and set"),
        ([SPACE, "trials=3", "seeds=[1000]"], "is the seed of the trials"),
    ],
)
def test_errors_are_one_line(words: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {word.partition("=")[0] for word in words}
    assert bench.main([*(word for word in WORDS if word.partition("=")[0] not in given), *words]) > 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and expected in line and list(here.iterdir()) == []


def test_without_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert bench.main([*WORDS, SPACE, "trials=2"]) == 1
    assert "pip install 'rlrep[search]'" in capsys.readouterr().err


def test_whole_numbers_and_choices(asked: Asked) -> None:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    assert Range(1, 9).distribution() == IntDistribution(1, 9)
    assert Range(choices=("a", "b")).distribution() == CategoricalDistribution(("a", "b"))


def left(found: Any, place: Path) -> None:
    (place / "grid" / "search-x").mkdir(parents=True)
    (place / "grid" / "search-x" / "search.json").write_text(json.dumps(found))


def test_a_summary_is_of_every_trial(asked: Asked) -> None:
    paper = Paper(asked, lambda params: [params["weight"]])
    search = paper.search()
    paper.run(search)
    (asked.folder / "search.json").write_text(json.dumps(summary(asked, search.study, {})))
    (read,), faults = find_searches([Path("grid")])
    assert faults == [] and len(view(read)["lines"]) == asked.trials and len(view(read)["axes"]) == 3
    assert sum(read.importance.values()) == pytest.approx(1) and "not finished yet" in view(read)["bias"]


def test_the_report_shows_a_search(here: Path) -> None:
    left(FOUND, here)
    (read,), _ = find_searches([Path("grid")])
    shown = view(read)
    best, default = shown["fresh"]
    assert "95 % interval" in best["text"] and "too few runs" in default["text"] and "biased upwards" in shown["bias"]
    assert shown["lines"][-1]["best"] and shown["rows"][0]["number"] == 5
    assert report.main(["grid", "out=page", "figures=false"]) == 0
    page = Path("page/report.html").read_text()
    assert page.count("<polyline") == 6 and "agent.lr" in page and "biased upwards" in page and "0 runs" in page


def test_trials_are_no_arms_of_the_report(here: Path) -> None:
    left(FOUND, here)
    write_run(here / "grid" / "search-x" / "trials" / "seed1000", "cheetah-run", ARMS[0], 0)
    write_run(here / "grid" / "seed0", "cheetah-run", ARMS[0], 0)
    assert report.main(["grid", "out=page", "figures=false"]) == 0
    assert "1 run, 1 arm" in Path("page/report.html").read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("space"),
        lambda found: found.update(seed="<b>"),
        lambda found: found["space"].update(x={"low": 1, "high": 0, "log": False, "choices": []}),
        lambda found: found["fresh"].update(best=[float("nan")]),
        lambda found: found.update(trials=3),
    ],
)
def test_a_damaged_summary_is_one_line(change: Callable[[Any], Any], here: Path) -> None:
    found = json.loads(json.dumps(FOUND))
    change(found)
    left(found, here)
    searches, ((_, line),) = find_searches([Path("grid")])
    assert searches == [] and line.startswith("its search.json says something else") and line.isprintable()


@pytest.mark.slow
def test_a_real_search_from_end_to_end(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "preset=debug", "video=false", "launcher.jobs=2", SPACE]
    assert bench.main([*words, "trials=3"]) == 0
    assert bench.main([*words, "trials=4"]) == 0
    assert capsys.readouterr().out.count("now on fresh seeds") == 2
    (search,), _ = find_searches([here / "grid"])
    assert [trial.state for trial in search.trials].count("complete") >= 3 and len(search.trials) == 4
    assert len(search.fresh["best"]) == len(search.fresh["default"]) == 1
    assert report.main(["grid", "out=page"]) == 0
    assert "Trials in parallel coordinates" in Path("page/report.html").read_text()
