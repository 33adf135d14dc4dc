"""Adaptation in evaluation: what the belief knows when, rows and summaries, health, pictures, independence of width."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrep.config.config import TrainConfig
from rlrep.config.simulators import build_envs
from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import VectorEnv
from rlrep.envs.families.point_robot import PointRobot
from rlrep.loops.evaluation import FINAL
from rlrep.loops.meta.evaluation import MetaEvaluator
from rlrep.loops.meta.health import cut, measure
from rlrep.loops.meta.picture import Pictures, by_adaptation
from rlrep.nn import IdentityConfig
from rlrep.process.seeds import Seeds
from rlrep.settings import UserError
from rlrep.views import NoChange
from tests.agents.pearl_rig import SMALL, random_episode

from .meta_fakes import TASKS, MetaFake, TaskEnvs, length_of

TRAIN = TrainConfig(agent_steps=1, adaptation_episodes=2, test_episodes=1)
Rows = list[dict[str, float | str | None]]


def evaluator(
    envs: VectorEnv, agent: Any = None, train: TrainConfig = TRAIN, *, tasks: Sequence[Any] = TASKS, **more: Any
) -> MetaEvaluator:
    rest: dict[str, Any] = {"pictures": None, "say": pytest.fail} | more
    return MetaEvaluator(lambda: envs, agent or MetaFake(), tasks, train, Seeds(3), **rest)


def rows_of(width: int, train: TrainConfig = TRAIN, *, number: int = 1, repeats: int = 1, **more: Any) -> Rows:
    attempts = evaluator(TaskEnvs(width, **more), None, train).run(number, repeats)
    return [row for attempt in attempts for row in attempt.rows]


def test_every_task_is_adapted_to_from_the_prior_by_its_own_episodes() -> None:
    agent = MetaFake()
    evaluator(TaskEnvs(2), agent, replace(TRAIN, adaptation_episodes=3, test_episodes=2)).run(1, 1)
    for task in TASKS:
        known = [seen for name, seen in agent.known if name == task.name]
        number = int(task.vector[0])
        assert known == [[number] * k for k in (0, 1, 2, 3, 3)], "tests add nothing to the belief"


def test_exploration_goes_by_the_prior() -> None:
    agent = MetaFake()
    evaluator(TaskEnvs(1), agent, replace(TRAIN, adaptation_episodes=4, exploration_episodes=3)).run(1, 1)
    assert [len(seen) for name, seen in agent.known if name == "task 0"] == [0, 0, 0, 3, 4]
    with pytest.raises(ValueError, match="from 1 to adaptation_episodes=2, not 3: the belief would never count"):
        replace(TRAIN, exploration_episodes=3)


@pytest.mark.parametrize("policy", ["deterministic", "stochastic"])
def test_results_depend_neither_on_the_number_of_simulators_nor_on_what_came_before(policy: Any) -> None:
    train = replace(TRAIN, eval_policy=policy, adaptation_episodes=3)
    expected = rows_of(1, train, repeats=2)
    assert all(rows_of(width, train, repeats=2) == expected for width in (2, 3, 5, 20))
    played = evaluator(TaskEnvs(3), None, train)
    played.run(4, 3)
    again = played.run(1, 2)
    assert [row for attempt in again for row in attempt.rows] == expected
    assert rows_of(1, train, number=2, repeats=2) != expected
    assert len({row["return"] for row in expected}) == len(expected), "every episode has a seed of its own"


def test_drawn_actions_differ_from_the_means() -> None:
    mean, drawn = (
        [row["return"] for row in rows_of(2, replace(TRAIN, eval_policy=policy))]
        for policy in ("deterministic", "stochastic")
    )
    assert all(abs(float(str(a)) - float(str(b))) > 0.01 for a, b in zip(mean, drawn, strict=True))


def test_ten_episodes_of_adaptation_and_three_of_the_test() -> None:
    train = replace(TRAIN, adaptation_episodes=10, test_episodes=3)
    found = evaluator(TaskEnvs(3), None, train).evaluate(1, 1, references={}, video=None)
    assert len(found.rows) == 4 * 13 and found.episodes == 4 * 3
    for task, part in zip(TASKS, np.array(found.rows).reshape(4, 13), strict=True):
        assert {row["task"] for row in part} == {task.name}
        assert [row["adaptation"] for row in part] == [*range(10), 10, 10, 10]
        assert {row["length"] for row in part} == {length_of(task.vector[0])}
        assert {row["success"] for row in part} == {1.0 if task.name == "task 2" else 0.0}
    assert [row["episode"] for row in found.rows] == list(range(52))
    last = [float(str(row["return"])) for row in found.rows if row["adaptation"] == 10]
    summary = found.summary
    assert summary["eval/return_mean"] == summary["eval/return_after_10"] == pytest.approx(np.mean(last))
    assert summary["eval/return_std"] == pytest.approx(np.std(last)) and summary["eval/success"] == 0.25
    third = [float(str(row["return"])) for row in found.rows if row["adaptation"] == 3]
    assert summary["eval/return_after_3"] == pytest.approx(np.mean(third))
    assert third == pytest.approx([3 * 3, 3 * 4, 3 * 5, 3 * 6 / 2], abs=0.1)


def test_an_episode_counts_by_the_reward_of_the_test() -> None:
    last = [row for row in rows_of(2) if row["adaptation"] == 2]
    assert [float(str(row["return"])) for row in last] == pytest.approx([6, 8, 10, 12 / 2], abs=0.1)


def test_the_episode_of_a_lost_simulator_is_played_again() -> None:
    expected, found = rows_of(2), rows_of(2, deaths=(2, 5, 9))
    assert [{**row, "return": 0} for row in found] == [{**row, "return": 0} for row in expected]
    assert [row["return"] for row in found] == pytest.approx([row["return"] for row in expected], abs=1e-4)
    with pytest.raises(UserError, match="keep dying"):
        rows_of(1, deaths=tuple(range(5000)))


def test_pearl_on_a_point_robot_is_evaluated_alike_by_any_number_of_simulators() -> None:
    family = PointRobot(train_tasks=2, test_tasks=3, horizon=6)
    tasks = family.tasks()
    results = []
    for policy in ("deterministic", "stochastic"):
        for width in (1, 2, 4):
            envs = build_envs(family, [0] * width)
            agent = SMALL.make_meta(
                AgentSpec(
                    envs.single_observation_space,
                    envs.single_action_space,
                    IdentityConfig(),
                    NoChange(),
                    tasks=tasks.train,
                    horizon=6,
                )
            )
            train = replace(TRAIN, eval_policy=policy)
            attempts = evaluator(envs, agent, train, tasks=tasks.test).run(1, 1)
            results.append([row for attempt in attempts for row in attempt.rows])
            envs.close()
    assert results[0] == results[1] == results[2] and results[3] == results[4] == results[5]
    assert results[0] != results[3] and len(results[0]) == 9 and results[0][0]["success"] is None


def test_the_last_episode_of_the_first_attempt_is_filmed(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "final.gif"
    evaluator(TaskEnvs(2), say=pytest.fail).run(FINAL, 1, video=path)
    assert path.stat().st_size > 200


def test_the_probe_names_every_task_from_beliefs_that_tell_them_apart_and_guesses_from_noise() -> None:
    episodes = [[replace(random_episode(k, 20), obs=np.full((21, 2), k, np.float32)) for k in range(4)] for _ in "ab"]
    found = measure(MetaFake(), *episodes, size=8, seed=0)
    assert found is not None and found.metrics["context/task_accuracy"] == 1.0
    assert found.metrics["context/task_chance"] == 0.25 and found.means.shape == (64, 2)
    assert found.variance == {count: pytest.approx(1 / count) for count in (1, 2, 4, 8)}
    blind = measure(MetaFake(noise=1.0), *episodes, size=8, seed=0)
    assert blind is not None and 0.05 < blind.metrics["context/task_accuracy"] < 0.5
    assert measure(MetaFake(), *(each[:1] for each in episodes), size=8, seed=0) is None

    class Blank(MetaFake):
        def beliefs(self, contexts: Any) -> None:
            return None

    assert measure(Blank(), *episodes, size=8, seed=0) is None


def test_the_probe_is_scored_on_the_episodes_that_it_was_not_fitted_on() -> None:
    first = [replace(random_episode(k, 20), obs=np.full((21, 2), k, np.float32)) for k in range(4)]
    found = measure(MetaFake(), first, list(reversed(first)), size=8, seed=0)
    assert found is not None and found.metrics["context/task_accuracy"] == 0.0


def test_a_part_of_an_episode() -> None:
    whole = random_episode(1, 10)
    part = cut(whole, 4, 3)
    assert np.array_equal(part.obs, whole.obs[4:8]) and np.array_equal(part.reward, whole.reward[4:7])
    assert len(part) == 3 and not part.terminated and cut(whole, 7, 3).terminated


def test_adaptation_is_averaged_over_tasks() -> None:
    values = {("a", 0): [1.0, 3.0], ("b", 0): [4.0], ("a", 1): [5.0, 5.0], ("b", 1): [5.0]}
    rows: Rows = [
        {"task": task, "adaptation": known, "return": value} for (task, known), each in values.items() for value in each
    ]
    known, mean, each = by_adaptation(rows, "return")
    assert known.tolist() == [0, 1] and mean.tolist() == [3.0, 5.0]
    assert each.tolist() == [[2.0, 4.0], [5.0, 5.0]]


@pytest.mark.parametrize("vector", [(0.5,), (0.5, 1.0)])
def test_pictures_are_drawn_and_a_failure_costs_nothing_else(
    tmp_path: Path, vector: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tasks = [replace(task, vector=vector) for task in TASKS]
    pictures = Pictures(tmp_path, "title", said.append)
    played = evaluator(TaskEnvs(2), pictures=pictures, tasks=tasks, say=said.append)
    found = played.evaluate(1, 1, references={}, video=None)
    assert {path.name for path in tmp_path.iterdir()} == {"adaptation.png", "latents.png"} and said == []
    assert found.health["context/task_accuracy"] == 1.0

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("rlrep.loops.meta.picture.draw_adaptation", fail)
    for _ in range(2):
        assert len(played.evaluate(1, 1, references={}, video=None).rows) == 12
    assert len(said) == 1 and "adaptation.png" in said[0]
