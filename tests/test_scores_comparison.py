"""Which runs are compared with which, under what names, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_runs import Shape, write_run
from rlrep.scores import analysis
from rlrep.scores.analysis import Draws, endings, per_task
from rlrep.scores.arms import Arm, label
from rlrep.scores.caveats import across, find_caveats
from rlrep.scores.comparison import Comparison, compare, score
from rlrep.scores.normalise import human_normalised
from rlrep.scores.published import at_steps, atari100k, dmc
from rlrep.scores.results import compute, find_published
from rlrep.scores.runs import find_folders, read_runs

from .report_runs import BASE, CURL, RETURN, SHIFT, SMALL, atari, compared, copy_run, edit, family, grid


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


def test_networks_that_heads_of_stable_baselines3_alone_have_are_said(tmp_path: Path) -> None:
    for arm in (BASE, CURL):
        write_run(tmp_path / arm[1], "cheetah-run", arm, 0, SMALL)
        edit(tmp_path / arm[1], lambda tree: tree["choices"].update(agent="sb3_sac", encoder="sb3"))
    assert "encoder=sb3" not in doubts(tmp_path), "on frames all have SB3's CNN"
    for arm in (BASE, CURL):
        edit(tmp_path / arm[1], lambda tree: tree["env"].update(obs="state"))
    assert "curl: on states encoder=sb3 puts two layers in front for heads, which base do without" in doubts(tmp_path)
    for arm in (BASE, CURL):
        edit(tmp_path / arm[1], lambda tree: tree["choices"].update(encoder="mlp"))
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
    assert made.scale == "human"
    assert [task.scale for task in made.tasks] == ["human", "unknown", "human"]
    assert [task.name for task in made.common] == ["krull", "pong"]
    pong = made.tasks[2]
    run = made.cell(pong, made.arms[0])[0]
    np.testing.assert_allclose(score(pong, run), (run.evaluations.returns + 20.7) / 35.3)
    assert "made_up: no random and human score is known" in doubts(tmp_path)
    compute(made, Draws(resamples=20))
    with pytest.raises(ValueError, match="made_up has no random and human score"):
        human_normalised("made_up", np.zeros(1))


def test_metric_return_is_not_normalised(tmp_path: Path) -> None:
    atari(tmp_path / "run", "pong")
    (made,) = compared(tmp_path, "return")
    assert made.scale == "return"


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
    assert (made.scale, made.tasks[0].unit) == ("success", "success rate")
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
    assert all(entry.obs == "pixels" for entry in found)
    atari(tmp_path / "pong", "pong")
    atari(tmp_path / "sticky", "pong", protocol="machado")
    for one in compared(tmp_path / "pong") + compared(tmp_path / "sticky"):
        assert bool(find_published(one, one.tasks[0])) is ("atari100k" in one.title)


def test_published_data_is_whole() -> None:
    assert len({entry.task for entry in atari100k()}) == 26
    assert all(entry.source and entry.reported and entry.method for entry in (*atari100k(), *dmc()))
    assert {entry.env_steps for entry in dmc()} == {100_000, 500_000, 1_000_000}
    assert all("curl issue 15" in entry.source for entry in dmc() if entry.method == "PixelSAC")
    assert at_steps(dmc(), "cheetah-run", "pixels", 99_000)
    assert not at_steps(dmc(), "cheetah-run", "pixels", 80_000)


def test_published_aggregates_are_those_of_the_papers() -> None:
    """Mean and median human-normalised scores as CURL's, SPR's and A-LIX's papers print them."""
    printed = {"CURL (paper)": (0.381, 0.175), "SPR (paper)": (0.703, 0.415), "A-LIX": (0.753, 0.411)}
    for method, (mean, median) in printed.items():
        scores = [float(human_normalised(e.task, np.array(e.mean))) for e in atari100k() if e.method == method]
        assert np.mean(scores) == pytest.approx(mean, abs=0.001)
        assert np.median(scores) == pytest.approx(median, abs=0.001)
