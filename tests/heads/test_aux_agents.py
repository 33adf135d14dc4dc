"""Every head inside SAC: exact resume, metrics without a trace, one graph, gradient only where it belongs."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rlrep.heads import (
    Autoencoder,
    FrameDropContrast,
    HeadConfig,
    InstanceContrast,
    LatentContrast,
    RedundancyReduction,
    ReturnContrast,
    SelfDistillation,
    SelfPrediction,
    TemporalContrast,
    TrajectoryContrast,
)
from tests.agents.rainbow_rig import parameters
from tests.agents.test_sac import SMALL, learned_metrics, make_agent

HEADS: dict[str, HeadConfig] = {
    "masked": InstanceContrast(mask_same_return=True, mask_within=3, bins=3),
    "mochi": InstanceContrast(
        objective="mochi", queue_size=20, hardest=6, mixed=4, query_mixed=2, mask_same_return=True, bins=3
    ),
    "cacr": InstanceContrast(objective="cacr", views=3, target="online"),
    "temporal": TemporalContrast(offset=2, predictor_dim=8, mask_within=2),
    "sup_con": ReturnContrast(objective="sup_con", mode="return_bin", bins=3, mask_within=1, temperature=0.1),
    "pairs": ReturnContrast(objective="pair_regression", mask_within=4, hidden_dim=8, embedding_dim=8),
    "byol": SelfDistillation(hidden_dim=8, embedding_dim=6),
    "directpred": SelfDistillation(predictor="direct", hidden_dim=8, embedding_dim=6),
    "barlow_twins": RedundancyReduction(weight=0.01, hidden_dim=8, embedding_dim=6),
    "vicreg": RedundancyReduction(weight=0.04, objective="vicreg", hidden_dim=8, embedding_dim=6, target="ema"),
    "autoencoder": Autoencoder(strides=(2, 1), channels=4, hidden_dim=8),
    "self_prediction": SelfPrediction(steps=3, transition_dim=8, hidden_dim=8, embedding_dim=6),
    "latent_contrast": LatentContrast(steps=2, transition_dim=8, mask_within=1),
    "trajectory": TrajectoryContrast(window=3, hidden_dim=8, embedding_dim=6, negatives=3),
    "video": FrameDropContrast(queue_size=20, hidden_dim=8, embedding_dim=6),
}


@pytest.fixture(autouse=True)
def heads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, head in HEADS.items():
        monkeypatch.setitem(make_agent.__globals__["HEADS"], name, head)


@pytest.mark.parametrize("pixels", [True, False])
def test_resume_is_bit_exact(pixels: bool) -> None:
    names = ("video", *tuple(HEADS)[::2]) if pixels else tuple(HEADS)[1:-1:2]  # "video" is the last, and reads frames
    agent = make_agent(pixels=pixels, aux=names)
    for _ in range(3):
        agent.update()
    other = make_agent(pixels=pixels, aux=names, seed=9)
    for key, ring in agent.rings.items():
        other.rings[key].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(deepcopy(agent.state()))
    for _ in range(2):
        agent.update()
        other.update()
        other.metrics()  # reading metrics leaves no trace
    ours, theirs = parameters(agent), parameters(other)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    values = learned_metrics(agent)
    assert all(np.isfinite(value) for value in values.values())
    for name in names:  # loss, ratio and health of its own
        assert sum(key.startswith(f"aux/{name}/") for key in values) >= 4


def test_resumed_statistics_continue() -> None:
    agent = make_agent(aux=("mochi", "directpred"))
    for _ in range(3):
        agent.update()
    state = parameters(agent)
    assert state["heads.mochi.contrast.queue.memory.pushes"].tolist() == [24, 3]
    assert state["heads.directpred.predictor.observed"] == 3 and state["heads.directpred.predictor.refreshed"] == 3
    agent.metrics()
    assert parameters(agent)["heads.directpred.predictor.observed"] == 3


def test_all_heads_train_together_on_one_encoding() -> None:
    agent = make_agent(aux=tuple(HEADS))
    before = parameters(agent)
    for _ in range(2):
        agent.update()
    assert agent.nonfinite() == []
    trained = {name for name, p in agent.heads.modules.named_parameters() if p.requires_grad}
    after = parameters(agent)
    still = {name for name in trained if torch.equal(before[f"heads.{name}"], after[f"heads.{name}"])}
    assert still == set()


def test_traced_update_equals_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses, queues and statistics included, trace into one graph without host synchronisation."""
    names = ("mochi", "sup_con", "directpred", "autoencoder", "self_prediction", "latent_contrast", "trajectory")
    compile = partial(torch.compile, backend="eager")
    eager = make_agent(pixels=False, aux=names)
    monkeypatch.setattr(torch, "compile", compile)
    traced = make_agent(pixels=False, aux=names, compile="default")
    for _ in range(3):
        eager.update()
        traced.update()
        traced.metrics()
    ours, theirs = parameters(eager), parameters(traced)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_compiled_update_equals_eager(name: str) -> None:
    """By what is logged: Adam blows up the rounding of a gradient that is zero, as of a bias before batch norm."""
    torch._dynamo.reset()
    eager, compiled = (make_agent(pixels=name == "video", aux=(name,), compile=mode) for mode in ("off", "default"))
    for _ in range(3):
        eager.update()
        compiled.update()
    assert learned_metrics(compiled) == pytest.approx(learned_metrics(eager), rel=1e-2, abs=1e-3)


def test_small_precision_runs_every_head() -> None:
    agent = make_agent(aux=tuple(HEADS), config=replace(SMALL, precision="bf16"))
    agent.update()
    assert agent.nonfinite() == []
