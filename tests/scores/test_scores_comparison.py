"""Which runs are compared with which, under what names, and what is said of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_runs import Shape, write_run
from rlrep.agents.sb3 import OwnExtractor, SB3SACConfig
from rlrep.contract.agent import AgentConfig
from rlrep.contract.env import EnvConfig, Scoring
from rlrep.envs.atari.games import SCORES
from rlrep.nn import MLPEncoderConfig
from rlrep.scores import analysis
from rlrep.scores.analysis import Draws, endings, per_task
from rlrep.scores.arms import Arm, label
from rlrep.scores.caveats import across, find_caveats
from rlrep.scores.comparison import Comparison, compare, score
from rlrep.scores.html import render
from rlrep.scores.published import at_steps, published
from rlrep.scores.results import compute, find_published
from rlrep.scores.runs import find_folders, read_runs
from rlrep.scores.tables import aggregate_rows
from rlrep.settings import completed

from .report_runs import BASE, CURL, RETURN, SHIFT, SMALL, atari, compared, copy_run, edit, family, grid, says


@dataclass(frozen=True)
class Chase:
    """The config of somebody's own environment."""

    random_return: float = 100.0
    human_return: float = 500.0


def only(root: Path) -> Comparison:
    (made,) = compared(root)
    return made


def names(made: Comparison) -> list[str]:
    return list(made.names.values())


def doubts(root: Path) -> str:
    return "\n".join(find_caveats(only(root)))


def test_arms_are_named_by_what_they_are(tmp_path: Path) -> None:
    made = only(grid(tmp_path))
    assert names(made) == ["base", "random_shift only", "curl", "return_contrast"]
    assert [task.name for task in made.common] == ["cartpole-swingup", "cheetah-run"]
    assert len(made.aggregated) == 4


def test_an_option_that_differs_makes_arms_and_names_them(tmp_path: Path) -> None:
    grid(tmp_path, seeds=1)
    for task in ("cartpole-swingup", "cheetah-run"):
        heavier = Shape(5, 5, 2, 10, more={"aux": {"curl": {"weight": 2.0}}})
        write_run(tmp_path / task / "heavy", task, CURL, 0, Shape(**{**vars(SMALL), "more": heavier.more}))
    assert names(only(tmp_path)) == [
        "base",
        "random_shift only",
        "curl (weight=1.0)",
        "curl (weight=2.0)",
        "return_contrast",
    ]


def test_options_of_a_task_make_no_arms(tmp_path: Path) -> None:
    """A learning rate that one environment has and another not is no arm of its own."""
    root = grid(tmp_path, seeds=1)
    for folder in (root / "dmc_cheetah_run").rglob("seed0"):
        edit(folder, lambda tree: tree["agent"].update(lr=2e-4))
    assert len(names(only(root))) == 4


def test_names_are_never_the_same() -> None:
    arms = [
        Arm("sac", "none", "none"),
        Arm("sac", "none_state", "none"),
        Arm("sac", "a", "curl"),
        Arm("sac", "b", "curl"),
    ]
    found = label(arms)
    assert len(set(found.values())) == 4
    assert found[arms[2]] == "curl + a"
    assert label([Arm("sac", "a", "curl"), Arm("pearl", "a", "curl")])[Arm("pearl", "a", "curl")] == "pearl: curl"
    others = label([Arm("sac", "a", "curl"), Arm("sac", "none", "curl"), Arm("pearl", "none", "curl")])
    assert list(others.values()) == ["sac: curl", "sac: curl, not augmented", "pearl: curl"]


def test_an_arm_has_one_name_in_all_comparisons(tmp_path: Path) -> None:
    write_run(tmp_path / "one", "cheetah-run", BASE, 0, SMALL)
    write_run(tmp_path / "other", "cheetah-run", BASE, 0, SMALL)
    edit(tmp_path / "other", lambda tree: tree["choices"].update(agent="other"))
    write_run(tmp_path / "small", "cheetah-run", BASE, 0, SMALL)
    edit(tmp_path / "small", lambda tree: tree["choices"].update(preset="cpu"))
    assert [names(made) for made in compared(tmp_path)] == [["other: base", "sac: base"], ["sac: base"]]


def test_lengths_are_compared_apart(tmp_path: Path) -> None:
    grid(tmp_path, seeds=1)
    for arm in (BASE, CURL):
        write_run(tmp_path / "long" / arm[1], "cheetah-run", arm, 0, Shape(500_000, 5, 2, 10))
    made = compared(tmp_path)
    assert [one.title.rpartition(", ")[2] for one in made] == ["100000 env steps", "500000 env steps"]
    assert "2 kinds are compared apart" in across(made)[0]


def test_duplicate_seeds_count_once(tmp_path: Path) -> None:
    root = grid(tmp_path / "runs", seeds=1)
    source = root / "dmc_cheetah_run" / "paper" / "sac-none-none" / "seed0"
    copy_run(source, tmp_path / "runs" / "again")
    runs, _ = read_runs(find_folders([tmp_path / "runs"]))
    (made,), faults = compare(runs)
    assert len(made.runs) == 8
    ((_, line),) = faults
    assert "same arm, task and seed 0" in line


def test_finished_one_of_two_duplicates_is_kept(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cheetah-run", BASE, 0, Shape(evaluations=5, episodes=1, finished=False))
    write_run(tmp_path / "b", "cheetah-run", BASE, 0, Shape(evaluations=5, episodes=1))
    assert only(tmp_path).runs[0].folder.name == "b"


def test_unfinished_runs_have_no_score(tmp_path: Path) -> None:
    root = grid(tmp_path, tasks=("cheetah-run",))
    write_run(tmp_path / "more", "cheetah-run", BASE, 7, Shape(evaluations=3, episodes=1, finished=False))
    made = only(root)
    (task,), base = made.tasks, made.arms[0]
    assert len(made.cell(task, base)) == 3
    assert len(made.counted(task, base)) == 2
    assert "1 run of 9 not finished: in curves, but in no score." in find_caveats(made)


def test_while_nothing_is_finished_the_last_evaluations_count(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cheetah-run", BASE, 0, Shape(evaluations=3, episodes=1, finished=False))
    made = only(tmp_path)
    assert len(made.counted(made.tasks[0], made.arms[0])) == 1
    assert "No run is finished" in doubts(tmp_path)


def test_final_and_best_are_kept_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cheetah-run", BASE, 0, SMALL)
    table = (tmp_path / "a" / "eval.csv").read_text().splitlines()
    rows = ["1,4,0,1,0,900,5,,periodic", "2,8,0,1,0,300,5,,final"]
    (tmp_path / "a" / "eval.csv").write_text("\n".join([table[0], *rows]) + "\n")
    made = only(tmp_path)
    task, arm = made.tasks[0], made.arms[0]
    assert endings(task, made.cell(task, arm), "final") == [0.3]
    assert endings(task, made.cell(task, arm), "best") == [0.9]
    found = per_task(made, Draws(resamples=20))[task][arm]
    assert (found["final"].value, found["best"].value) == (300.0, 900.0)


def test_aggregates_are_over_tasks_that_all_arms_have(tmp_path: Path) -> None:
    grid(tmp_path, seeds=1)
    for task in ("finger-spin", "walker-walk"):
        for arm in (BASE, SHIFT, CURL):
            write_run(tmp_path / task / "-".join(arm), task, arm, 0, SMALL)
    made = only(tmp_path)
    assert [task.name for task in made.common] == ["cartpole-swingup", "cheetah-run"]
    assert len(made.aggregated) == 4
    assert "Aggregates are over 2 of 4 tasks" in doubts(tmp_path)


def test_an_arm_with_few_tasks_does_not_decide_for_all(tmp_path: Path) -> None:
    grid(tmp_path, tasks=("cartpole-swingup", "cheetah-run", "finger-spin"), seeds=1)
    write_run(tmp_path / "late", "cheetah-run", ("random_crop", "none"), 0, SMALL)
    made = only(tmp_path)
    assert len(made.common) == 3
    assert len(made.aggregated) == 4
    assert "random_crop only: too few of the tasks" in doubts(tmp_path)


def test_missing_controls_are_said(tmp_path: Path) -> None:
    for arm in (CURL, RETURN):
        write_run(tmp_path / arm[1], "cheetah-run", arm, 0, SMALL)
    text = doubts(tmp_path)
    assert "The base arm is missing (agent=sac augment=none aux=none)" in text
    assert (
        "The augmentation-only arm is missing (agent=sac augment=random_shift aux=none): what curl, return_contrast"
        in text
    )
    write_run(tmp_path / "shift", "cheetah-run", SHIFT, 0, SMALL)
    assert "augmentation-only arm is missing" not in doubts(tmp_path)


def test_a_head_with_a_view_of_its_own_needs_the_augmentation_only_arm(tmp_path: Path) -> None:
    for arm in (BASE, ("none", "curl")):
        write_run(tmp_path / arm[1], "cheetah-run", arm, 0, SMALL)
    assert "augmentation-only" not in doubts(tmp_path)
    edit(tmp_path / "curl", lambda tree: tree["aux"]["curl"].update(view={"_target_": "a.Shift", "pad": 4}))
    assert "augmentation-only arm is missing (agent=sac augment=A" in doubts(tmp_path)


def test_what_else_sets_heads_apart_is_said_as_the_agent_says_it(tmp_path: Path) -> None:
    remark, agent = SB3SACConfig().remark(OwnExtractor(), (5,)), SB3SACConfig()
    assert remark and agent.remark(OwnExtractor(), (9, 84, 84)) is None, "on frames all have SB3's CNN"
    assert agent.remark(MLPEncoderConfig(), (5,)) is None and AgentConfig().remark(OwnExtractor(), (5,)) is None
    for arm in (BASE, CURL):
        write_run(tmp_path / arm[1], "cheetah-run", arm, 0, SMALL)
        says(tmp_path / arm[1], Scoring(remark=remark))
    said = "curl beside base: on states encoder=sb3 puts two layers in front for heads alone; encoder=mlp gives all"
    assert said in doubts(tmp_path)
    says(tmp_path / BASE[1], Scoring())
    assert "encoder=mlp" not in doubts(tmp_path)


def test_protocols_and_simulators_that_differ_are_said(tmp_path: Path) -> None:
    root = grid(tmp_path, seeds=1)
    folder = root / "dmc_cheetah_run" / "paper" / "sac-random_shift-curl" / "seed0"
    edit(folder, lambda tree: tree["env"].update(action_repeat=2))
    edit(folder, lambda tree: tree["train"].update(eval_episodes=50))
    (folder / "versions.json").write_text('{"simulators": {"mujoco": "3.4.0"}, "git": "1-dirty"}')
    text = doubts(root)
    assert "Protocols differ on cheetah-run: env.action_repeat is 2 in curl; 4 in base, random_shift only" in text
    assert "train.eval_episodes is 2 in base" in text
    assert "Simulator versions differ: mujoco is 3.3.0 in base" in text
    assert "2 commits" in text
    assert "1 run came from a checkout with changes" in text


def test_few_and_unlike_seeds_are_said(tmp_path: Path) -> None:
    root = grid(tmp_path, tasks=("cheetah-run",), seeds=5)
    assert find_caveats(only(root)) == []
    write_run(tmp_path / "more", "cheetah-run", BASE, 9, SMALL)
    assert "do not have the same seeds" in doubts(root)
    assert "Too few seeds" not in doubts(root)
    assert "Too few seeds" in doubts(grid(tmp_path / "other", tasks=("finger-spin",), seeds=2))


def test_games_are_normalised_and_unknown_ones_shown_raw(tmp_path: Path) -> None:
    for game in ("pong", "krull", "made_up"):
        atari(tmp_path / game, game)
    made = only(tmp_path)
    assert made.scale == "human-normalised score"
    assert [task.scored for task in made.tasks] == [True, False, True]
    assert [task.name for task in made.common] == ["krull", "pong"]
    pong = made.tasks[2]
    run = made.cell(pong, made.arms[0])[0]
    np.testing.assert_allclose(score(pong, run), (run.evaluations.returns + 20.7) / 35.3)
    assert "made_up: no reference returns are known" in doubts(tmp_path)
    compute(made, Draws(resamples=20))


def test_metric_return_is_not_normalised(tmp_path: Path) -> None:
    atari(tmp_path / "run", "pong")
    (made,) = compared(tmp_path, "return")
    assert made.scale == "return"


def test_an_environment_of_ones_own_is_scored_as_it_says(tmp_path: Path) -> None:
    """A plain dataclass with two reference returns: its runs are normalised in the report, as ours are."""
    scoring = completed(Chase(), EnvConfig).scoring()
    for seed in range(2):
        write_run(tmp_path / str(seed), "my-chase", BASE, seed, SMALL)
        edit(tmp_path / str(seed), lambda tree: tree["choices"].update(env="chase"))
        says(tmp_path / str(seed), scoring)
    made = only(tmp_path)
    (task,) = made.common
    assert (made.title, task.name, made.scale) == ("chase, preset paper", "chase", "human-normalised score")
    run = made.cell(task, made.arms[0])[0]
    np.testing.assert_allclose(score(task, run), (run.evaluations.returns - 100) / 400)
    found = compute(made, Draws(resamples=20))
    page = render("mine", [found], {}, remarks=(), faults=(), footer=())
    assert "human-normalised score" in page and find_published(made, task) == []
    assert next(aggregate_rows(found))["unit"] == "human-normalised score"


def test_a_suite_and_a_scale_of_ones_own(tmp_path: Path) -> None:
    for name, best in (("up", 1000.0), ("down", 500.0)):
        write_run(tmp_path / name, f"my-{name}", BASE, 0, SMALL)
        says(tmp_path / name, Scoring("mine", name, "share of the best", 0.0, best))
    made = only(tmp_path)
    assert (made.title, made.scale) == ("mine, preset paper", "share of the best")
    assert [task.name for task in made.common] == ["down", "up"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "its scoring.json is missing"),
        ("[", "its scoring.json is not JSON"),
        ('{"zero": "low"}', "its scoring.json says something else (scoring.zero=low: expected a number)"),
        ('{"shape": 1}', "its scoring.json says something else (unknown option scoring.shape"),
        ('{"one": 1e999}', "its scoring.json holds numbers that are none"),
    ],
)
def test_returns_without_a_scale_are_shown_as_they_are_and_that_is_said(
    tmp_path: Path, text: str | None, line: str
) -> None:
    write_run(tmp_path / "a", "cheetah-run", BASE, 0, SMALL)
    (tmp_path / "a" / "scoring.json").unlink()
    if text is not None:
        (tmp_path / "a" / "scoring.json").write_text(text)
    runs, faults = read_runs(find_folders([tmp_path]))
    (made,), _ = compare(runs)
    assert made.scale == "return" and made.title == "dmc, preset paper"
    ((_, said),) = faults
    assert said.startswith(line) and said.endswith("its returns are shown as they are")


def test_family_has_an_adaptation_curve(tmp_path: Path) -> None:
    for seed in range(3):
        family(tmp_path / str(seed), BASE, seed)
    made = only(tmp_path)
    found = compute(made, Draws(resamples=50))
    (band,) = found.adaptation[made.tasks[0]].values()
    np.testing.assert_allclose(band.value, [1, 11, 21])
    assert found.aggregates["final"]["mean"][made.arms[0]].value == pytest.approx(21)


def test_success_is_the_score_where_there_is_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cheetah-run", BASE, 0, SMALL)
    text = (tmp_path / "a" / "eval.csv").read_text().replace(",250,,", ",250,1,")
    (tmp_path / "a" / "eval.csv").write_text(text)
    made = only(tmp_path)
    assert (made.scale, made.tasks[0].unit) == ("success rate", "success rate")
    assert compared(tmp_path, "return")[0].scale == "return"


def test_a_run_without_success_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cheetah-run", BASE, 0, SMALL)
    made, faults = compare(read_runs(find_folders([tmp_path]))[0], "success")
    assert made == []
    assert "no success to score" in faults[0][1]


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    made = only(grid(tmp_path, seeds=5))
    first, again, other = (analysis.aggregates(made, Draws(seed, 50)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_published_scores_are_of_the_same_protocol(tmp_path: Path) -> None:
    made = only(grid(tmp_path / "dmc"))
    found = find_published(made, made.tasks[1])
    assert {entry.env_steps for entry in found} == {100_000}
    assert next(entry.mean for entry in found if entry.method == "CURL") == 299.0
    atari(tmp_path / "pong", "pong")
    atari(tmp_path / "sticky", "pong", protocol="machado")
    for one in compared(tmp_path / "pong") + compared(tmp_path / "sticky"):
        assert bool(find_published(one, one.tasks[0])) is ("atari100k" in one.title)


def test_published_data_is_whole() -> None:
    games, pixels, states = (published(table) for table in ("atari100k", "dmc_pixels", "dmc_state"))
    assert len({entry.task for entry in games}) == 26 and {entry.env_steps for entry in games} == {400_000}
    assert all(entry.source and entry.reported and entry.method for entry in (*games, *pixels, *states))
    assert {entry.env_steps for entry in pixels} == {100_000, 500_000, 1_000_000}
    assert all("curl issue 15" in entry.source for entry in pixels if entry.method == "PixelSAC")
    assert at_steps(pixels, "cheetah-run", 99_000) and not at_steps(pixels, "cheetah-run", 80_000)
    assert (len(games), len(pixels), len(states)) == (26 * 21, 384, 239)
    assert published("atari100k_methods") == published("../x") == published("") == ()


def test_published_aggregates_are_those_of_the_papers() -> None:
    """Mean and median human-normalised scores as CURL's, SPR's, A-LIX's and BBF's papers print them."""
    printed = {
        "CURL (paper)": (0.381, 0.175),
        "SPR (paper)": (0.703, 0.415),
        "A-LIX": (0.753, 0.411),
        "BBF": (2.245, 0.917),
    }
    for method, (mean, median) in printed.items():
        found = [(entry.mean, *SCORES[entry.task]) for entry in published("atari100k") if entry.method == method]
        scores = [(mean_ - random) / (human - random) for mean_, random, human in found]
        assert np.mean(scores) == pytest.approx(mean, abs=0.003)
        assert np.median(scores) == pytest.approx(median, abs=0.001)
