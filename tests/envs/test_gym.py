"""gymnasium's own environments by their ids: states, numbered states, actions of any bounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrep.envs.gym import Gym
from rlrep.envs.vector import make_vector
from tests import runs


@pytest.mark.parametrize(
    "words",
    [("env.id=Pendulum-v1",), ("env.id=CartPole-v1", "agent=rainbow"), ("env.id=FrozenLake-v1", "agent=rainbow")],
    ids=["actions_from_-2_to_2", "numbered_actions", "numbered_states"],
)
def test_an_agent_trains_on_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert runs.run(tmp_path / "run", "env=gym", *words, "agent.capacity=200") == 0
    assert runs.evaluations(tmp_path / "run")[-1]["kind"] == "final"


@pytest.mark.parametrize("workers", [False, True])
def test_episodes_are_those_of_their_seeds(workers: bool) -> None:
    vector = make_vector(Gym("Pendulum-v1"), [3, 4], workers=workers)
    first, other, again = (vector.reset(seeds) for seeds in ([3, 4], [5, 6], [3, 4]))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and not vector.exact
    vector.step_async(np.array([[1.0], [-1.0]], np.float32))
    env = Gym("Pendulum-v1").make(0)
    env.reset(seed=3)
    assert np.allclose(vector.step_wait().obs[0], env.step(np.array([2.0], np.float32))[0]), "1 is all there is"
    vector.close()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Pendulm-v1", "Did you mean: `Pendulum`"),
        ("Nothing-v0", "Nothing"),
        ("antigravity:Foo-v0", "names a module to import"),
        ("Pendulum-v1 env.obs=pixels augment=none", "env.obs=pixels, but Pendulum-v1 shows Box("),
    ],
)
def test_other_ids_are_refused_in_one_line(tmp_path: Path, name: str, line: str, capsys: Any) -> None:
    assert runs.run(tmp_path / "run", "env=gym", *f"env.id={name}".split()) != 0
    errors = runs.lines(capsys.readouterr().err)
    assert len(errors) == 1 and line in errors[0]
