"""Which similarities of trajectory contrast can tell the tasks of a family with one parameter apart."""

from typing import Any

import pytest
import torch
from torch import Generator

from rlrep.agents.pearl.networks import ContextEncoder
from rlrep.contrast import MomentumTarget
from rlrep.heads import Encoders, TrajectoryContrast
from rlrep.replay import Transitions, Windows

from .test_aux import given

TASKS, LENGTH, LATENT, UPDATES = 16, 16, 5, 300


def windows(generator: Generator) -> Windows:
    """Wanted speeds from 0 to 3: what a transition earns is minus its distance from the task's."""
    wanted = torch.linspace(0.0, 3.0, TASKS)[:, None]

    def draw() -> Transitions:
        obs = torch.randn((TASKS, LENGTH, 3), generator=generator)
        action = torch.randn((TASKS, LENGTH, 1), generator=generator)
        return Transitions(obs, action, -(obs[..., 0].abs() - wanted).abs(), obs[..., :0])

    return Windows(draw(), draw(), torch.ones(TASKS, dtype=torch.bool), torch.arange(TASKS))


def accuracy(similarity: Any) -> float:
    """Return how often a window finds its task's other one among all, over the last updates of a short training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ContextEncoder(3, 1, LATENT, 64, 3, next_obs=False)
        head = TrajectoryContrast(similarity=similarity).make_context("head", LATENT, 64)
    target = MomentumTarget(encoder, 0.02)
    trained = [*encoder.parameters(), *(p for p in head.parameters() if p.requires_grad)]
    optimiser, generator, found = torch.optim.Adam(trained, 3e-3), torch.Generator().manual_seed(0), []
    nothing: Any = None
    for _ in range(UPDATES):
        encoders = Encoders(nothing, nothing, encoder, target)
        loss, health = head.loss(nothing, given(windows=windows(generator)), nothing, encoders)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        target.update()
        found.append(float(health["accuracy"]))
    return sum(found[-50:]) / 50


@pytest.mark.parametrize("similarity", ["mahalanobis", "wasserstein", "cosine"])
def test_distances_and_angles_tell_many_tasks_apart(similarity: str) -> None:
    assert accuracy(similarity) > 5 / TASKS


def test_a_dot_product_tells_no_more_than_the_two_extreme_tasks() -> None:
    """Along one parameter the longest embedding wins every dot product of its sign; the YAML says so too."""
    assert accuracy("bilinear") < 3 / TASKS
