"""The point robots: distances, the sparse reward, where goals and first positions are, what a picture shows."""

import math

import numpy as np
import pytest

from rlrep.envs.families.point_robot import PointRobot, SparsePointRobot
from rlrep.envs.vector import make_vector


@pytest.mark.parametrize("family", [PointRobot(), SparsePointRobot()])
def test_it_moves_by_a_tenth_and_is_paid_minus_the_distance(family: PointRobot | SparsePointRobot) -> None:
    env, task = family.make(0), family.tasks().test[0]
    env.set_task(task)
    x, y = env.reset(seed=2)[0].astype(float)
    for step in range(1, 21):
        action = np.array([math.sin(step), 3.0], np.float32)
        obs, reward, terminated, truncated, info = env.step(action)
        x, y = x + 0.1 * math.sin(step), y + 0.1  # actions are clipped
        distance = math.dist((x, y), task.vector)
        assert obs == pytest.approx([x, y], abs=1e-6) and reward == pytest.approx(-distance, abs=1e-6)
        assert not terminated and truncated == (step == 20)
        if isinstance(family, SparsePointRobot):
            assert info["context_reward"] == pytest.approx(1 - distance if distance <= 0.2 else 0.0, abs=1e-6)
        else:
            assert info == {}


def test_first_positions() -> None:
    dense, sparse = PointRobot().make(0), SparsePointRobot().make(0)
    starts = np.stack([dense.reset()[0] for _ in range(300)])
    assert np.abs(starts).max() <= 1 and (starts.min(0) < -0.9).all() and (starts.max(0) > 0.9).all()
    assert not sparse.reset()[0].any() and not sparse.reset(seed=5)[0].any()
    assert np.array_equal(dense.reset(seed=5)[0], PointRobot().make(5).reset(seed=5)[0])


def test_goals() -> None:
    dense, sparse = PointRobot().tasks(), SparsePointRobot().tasks()
    goals = np.array([task.parameters["goal"] for task in dense.train + dense.test])
    assert goals.shape == (100, 2) and np.abs(goals).max() <= 1 and (goals.std(0) > 0.4).all()
    angles = sorted(math.atan2(y, x) for x, y in (task.vector for task in sparse.train + sparse.test))
    assert angles == pytest.approx(np.linspace(0, math.pi, 100)), "evenly spaced"
    test = [math.atan2(task.vector[1], task.vector[0]) for task in sparse.test]
    assert min(test) < 0.7 and max(test) > 2.4, "all around"


def test_the_sparse_reward_reaches_the_step() -> None:
    vector = make_vector(SparsePointRobot(goal_radius=0.5), [0, 1], workers=False)
    task = SparsePointRobot().tasks().train[3]
    vector.set_task(0, task)
    vector.reset()
    found = []
    for _ in range(12):
        vector.step_async(np.array([task.vector, (0, 0)], np.float32))
        step = vector.step_wait()
        found.append(step.context_reward[0])
        assert step.context_reward[1] == 0 and step.reward[0] < 0
    assert found[:4] == [0] * 4 and found[9] == pytest.approx(1.0, abs=1e-5) and 0.5 <= found[5] < found[7] < 1


def test_a_picture_shows_robot_and_goal() -> None:
    env = SparsePointRobot().make(0)
    goal = env._task.vector
    frame = env.render()
    assert frame.shape == (128, 128, 3) and frame.dtype == np.uint8

    def shown(place: tuple[float, ...]) -> list[int]:
        column, row = ((1.5 + place[0]) / 3 * 127, (1.5 - place[1]) / 3 * 127)
        return list(frame[round(row), round(column)])

    assert shown((0.0, 0.0)) == [40, 90, 200] and shown(goal) == [210, 50, 40] and shown((1.2, -1.2)) == [255] * 3


def test_a_radius_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match=r"env\.goal_radius must be above 0, got 0"):
        SparsePointRobot(goal_radius=0)
