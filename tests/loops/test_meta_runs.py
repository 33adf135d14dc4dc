"""PEARL from the command line: what its run folder holds, and the one line for what does not fit."""

import json
from pathlib import Path

import pytest

from rlrep.record.logs import META_COLUMNS
from tests.runs import evaluations, lines, metrics, run

POINT = (
    "env=point_robot",
    "env.horizon=10",
    "env.train_tasks=3",
    "train.agent_steps=60",
    "train.init_steps=10",
    "train.updates_per_step=0.1",
    "train.eval_every=0",
    "agent.capacity=200",
    "agent.context_size=5",
    "agent.prior_steps=10",
    "agent.extra_steps=10",
)


def test_a_run_folder_of_a_family(tmp_path: Path) -> None:
    out = tmp_path / "x"
    adapt = ("train.adaptation_episodes=3", "train.exploration_episodes=2", "train.test_episodes=2", "video=true")
    assert run(out, *POINT, *adapt) == 0
    tasks = json.loads((out / "tasks.json").read_text())
    assert [len(tasks[part]) for part in ("train", "test")] == [3, 2]
    assert all(len(task["goal"]) == 2 for part in tasks.values() for task in part.values())
    rows = evaluations(out)
    assert set(rows[0]) == set(META_COLUMNS) - {"wall_seconds"}
    assert [row["adaptation"] for row in rows] == ["0", "1", "2", "3", "3"] * 2
    assert {row["task"] for row in rows} == set(tasks["test"])
    health = metrics(out)[-1]
    assert 0 <= health["context/task_accuracy"] <= 1 and health["context/task_chance"] == 0.5
    for name in ("adaptation.png", "latents.png", "learning_curve.png", "videos/final.mp4"):
        assert (out / name).stat().st_size > 1000


@pytest.mark.parametrize("agent", ["pearl_oracle", "pearl_no_context"])
def test_arms_that_infer_nothing(agent: str, tmp_path: Path) -> None:
    out = tmp_path / "x"
    assert run(out, *POINT, f"agent={agent}", "train.agent_steps=90") == 0
    assert not (out / "latents.png").exists() and (out / "adaptation.png").exists()
    assert len(evaluations(out)) == 2 * 3 and any("loss/critic" in row for row in metrics(out))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("env=point_robot", "agent=sac"), "env=point_robot is a family of tasks, agent=sac learns a single one"),
        (("env=toy_state", "agent=pearl"), "agent=pearl learns families of tasks, env=toy_state is a single one"),
        (("env=point_robt",), "did you mean point_robot?"),
        (("env=cheetah_vell",), "did you mean cheetah_vel?"),
        (
            (*POINT, "train.agent_steps=30"),
            "train.agent_steps=30 may end before learning begins: the first episodes of 3 tasks take up to 30 agent",
        ),
        ((*POINT, "train.init_steps=11"), "train.agent_steps=60 may end before learning begins"),
        (
            (*POINT, "train.eval_epsilon=0.1"),
            "train.eval_epsilon is for single tasks: families have train.eval_policy=stochastic",
        ),
        (
            (*POINT, "aux=trajectory_contrast", "aux.trajectory_contrast.window=6"),
            "two disjoint windows of 6 transitions are longer than the episodes (10 steps)",
        ),
        ((*POINT, "aux=curl"), "aux=curl is for observations; this agent takes heads on contexts"),
        ((*POINT, "agent=pearl_oracle", "aux=trajectory_contrast"), "has no context encoder to train"),
        ((*POINT, "encoder=mlp"), "choose encoder=identity"),
        ((*POINT, "train.overlap=true"), "collecting and learning take turns"),
        ((*POINT, "train.exploration_episodes=3"), "from 1 to adaptation_episodes=2, not 3"),
        ((*POINT, "env.train_tasks=0"), "env.train_tasks must be 1 to 100,000, got 0"),
        (("env=toy_state", "train.eval_policy=stochastic"), "train.eval_policy is for families of tasks"),
        (("env=toy_state", "train.adaptation_episodes=5"), "train.adaptation_episodes is for families of tasks"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "x", *words) not in (0, 143)
    found = capsys.readouterr()
    (line,) = lines(found.out + found.err)
    assert message in line
