"""Trajectory contrast inside SAC and (prioritised) Rainbow."""

from typing import Any

import pytest
import torch

from rlrep.agents.rainbow import Rainbow
from rlrep.agents.sac import SAC
from rlrep.heads import TrajectoryContrast
from tests.agents import rainbow_rig, test_sac
from tests.agents.rainbow_rig import parameters

AUX = {
    "whole": TrajectoryContrast(window=2, hidden_dim=8, embedding_dim=4),
    "single": TrajectoryContrast(
        window=2, hidden_dim=8, embedding_dim=4, positives="per_transition", similarity="cosine"
    ),
}


def make_sac(monkeypatch: pytest.MonkeyPatch, **options: Any) -> SAC:
    for name, head in AUX.items():
        monkeypatch.setitem(test_sac.HEADS, name, head)
    return test_sac.make_agent(aux=tuple(AUX), **options)


def make_rainbow(**options: Any) -> Rainbow:
    assert rainbow_rig.SMALL.prioritised
    return rainbow_rig.make_rainbow(aux=dict(AUX), **options)


def assert_trains(agent: SAC | Rainbow) -> None:
    before = parameters(agent)
    for _ in range(3):
        agent.update()
    assert agent.nonfinite() == []
    after = parameters(agent)
    heads = [name for name in before if name.startswith("heads.")]
    assert len(heads) > 20 and [name for name in heads if torch.equal(before[name], after[name])] == []
    values = agent.metrics()
    for name in AUX:
        assert values[f"aux/{name}/valid"] == 1 and values[f"aux/{name}/negatives"] > 1
        assert 0 <= values[f"aux/{name}/accuracy"] <= 1 and values[f"aux/{name}/embedding_std"] > 0
    assert torch.equal(parameters(agent)[heads[0]], after[heads[0]])  # metrics leave no trace


@pytest.mark.parametrize("pixels", [True, False])
def test_it_trains_inside_sac(pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_trains(make_sac(monkeypatch, pixels=pixels))


@pytest.mark.parametrize("pixels", [True, False])
def test_it_trains_inside_rainbow(pixels: bool) -> None:
    assert_trains(make_rainbow(pixels=pixels))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sac", "rainbow"])
def test_compiled_update_equals_eager(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()

    def run(compile: str) -> dict[str, float]:
        make = (
            (lambda: make_sac(monkeypatch, pixels=False, compile=compile))
            if kind == "sac"
            else (lambda: make_rainbow(pixels=False, compile=compile))
        )
        agent = make()
        for _ in range(3):
            agent.update()
        return {name: value for name, value in agent.metrics().items() if not name.startswith("perf/")}

    assert run("default") == pytest.approx(run("off"), rel=1e-2, abs=1e-3)
