"""The eager peer that PEARL's speed is measured against computes the same update."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import pearl_speed
from benchmarks.pearl_eager import EagerPEARL, Noise, Rows
from benchmarks.timing import share
from rlrep.agents.pearl import PEARL
from rlrep.heads import TrajectoryContrast
from rlrep.replay import Batch, Transitions


def small(case: pearl_speed.Case) -> pearl_speed.Case:
    config = replace(
        case.config,
        hidden_dim=16,
        hidden_layers=2,
        context_hidden_dim=12,
        context_layers=2,
        context_size=9,
        meta_batch=3,
        batch_size=8,
        capacity=4000,
    )
    return replace(case, config=config, tasks=4)


CASES = {name: small(case) for name, case in pearl_speed.CASES.items()}


def rows(part: Transitions) -> Rows:
    return Rows(part.obs, part.action, part.reward, torch.zeros_like(part.reward), part.next_obs)


def rl_rows(batch: Batch, scale: float) -> Rows:
    """Task by task, the reward unscaled, which the peer scales itself."""
    parts = batch.obs, batch.action, batch.reward / scale, batch.discount, batch.next_obs
    return Rows(*(part.unflatten(0, (3, -1)) for part in parts))


def members(q: nn.Module) -> list[list[Tensor]]:
    """Weights and biases of both Q functions, laid out as nn.Linear's."""
    layers = [(layer.weight, layer.bias) for layer in q.layers]  # type: ignore[union-attr]
    return [[part for weight, bias in layers for part in (weight[k].T, bias[k, 0])] for k in (0, 1)]


def pairs(agent: PEARL, peer: EagerPEARL) -> list[tuple[Tensor, Tensor]]:
    """Every parameter of the peer, and ours that stands for it."""
    nets = agent.nets
    assert nets.context is not None and nets.target_context is not None
    theirs = [peer.policy, peer.encoder, peer.target_encoder, peer.q1, peer.q2, peer.target_q1, peer.target_q2]
    same: list[list[Tensor]] = [list(module.parameters()) for module in (nets.actor, nets.context, nets.target_context)]
    ours: list[list[Tensor]] = [*same, *members(nets.q), *members(nets.target_q.module)]
    found: list[tuple[Tensor, Tensor]] = [(peer.log_alpha, nets.log_alpha)]
    for module, parts in zip(theirs, ours, strict=True):
        found += zip(module.parameters(), parts, strict=True)
    return found + [(peer.bilinear, parameter) for parameter in agent.heads.modules.parameters()]


@pytest.mark.parametrize("name", CASES)
def test_both_arms_make_the_same_update(name: str) -> None:
    case = CASES[name]
    agent, peer = pearl_speed.make_agent(case, "cpu", "off"), pearl_speed.make_eager(case, "cpu")
    pearl_speed.fill(agent, case, episodes=2)
    with torch.no_grad():
        for theirs, ours in pairs(agent, peer):
            theirs.copy_(ours)
    before = [theirs.clone() for theirs, _ in pairs(agent, peer)]
    agent.update()
    assert agent._last is not None
    batch, flat = agent._last
    drawn = agent.step.named(batch, flat)
    windows = [
        part for pairs in batch.pairs.values() for w in pairs.found.values() for part in (rows(w.first), rows(w.second))
    ]
    assert batch.context is not None
    noise = Noise(drawn.latent, drawn.next_action, drawn.action)
    losses = peer.learn(rl_rows(batch, case.config.reward_scale), rows(batch.context), windows, noise)
    metrics = agent.metrics()
    named = {"critic": "loss/critic", "actor": "loss/actor", "alpha": "loss/alpha"}
    if case.aux:
        named["head"] = f"aux/{case.aux[0]}/loss"
    assert losses == pytest.approx({key: metrics[value] for key, value in named.items()}, rel=1e-4, abs=1e-5)
    for (theirs, ours), old in zip(pairs(agent, peer), before, strict=True):
        assert not torch.equal(theirs, old)
        torch.testing.assert_close(theirs.detach(), ours.detach(), rtol=1e-3, atol=2e-5)


def test_the_peer_samples_what_it_says() -> None:
    case = CASES["tcl"]
    peer = pearl_speed.make_eager(case, "cpu")
    pearl_speed.fill(peer, case, episodes=3)
    assert isinstance(peer.head, TrajectoryContrast)
    numbers = np.arange(3 * pearl_speed.HORIZON)
    for task in range(case.tasks):
        peer.buffers[task][2] = numbers.astype(np.float32)
        for _ in range(20):
            first, second = (part[2].astype(int) for part in peer._windows(task))
            assert len({*first, *second}) == 128 and len({*(first // 200), *(second // 200)}) == 1
            assert (np.diff(first) == 1).all() and (np.diff(second) == 1).all()
    peer.update()


def test_operations_are_counted() -> None:
    """Q functions and actor: 16 passes through a network's products per row (a forward pass is 1, its gradients 2)."""
    case = CASES["pearl"]
    wide = replace(case, config=replace(case.config, hidden_dim=64, batch_size=64, context_size=1))
    rows_, products = 3 * 64, 64 * 64
    least = 2 * rows_ * products * (1 + 2 + 6 + 3 + 4)
    assert least < 1e9 * pearl_speed.count(wide) < 2.2 * least


def test_table_row() -> None:
    ours = {"updates_per_second": 2.0, "gflop_per_update": 50.0, "square_gflops": 160.0, "layer_gflops": 125.0}
    result = {"ours": ours | {"start_seconds": 9.0}, "eager": {"updates_per_second": 1.0}, "ratio": 2.0}
    result |= {"gflops_reached": 100.0, "share_of_best": share(ours)}
    row = pearl_speed.table_row("tcl", result)
    assert row[1:] == ["2.00", "1.00", "2.00", "50.0", "100", "62 %", "9"]
