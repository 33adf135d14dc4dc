"""LAP and faded replay: SAC's Huber loss and priorities against plain ones, draws against a slow twin."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from rlrep.agents.sac.update import td_target
from rlrep.agents.sampling import FADE, LEAST_FADE, priority
from rlrep.replay import Priority
from rlrep.replay.priorities import Fading

from .test_sac import SMALL, make_agent


@pytest.mark.parametrize("replay", ["lap", "faded"])
def test_sac_learns_by_huber_and_gives_back_the_larger_error(replay: Any) -> None:
    agent = make_agent(pixels=False, aux=(), config=replace(SMALL, replay=replay, actor_every=1))
    tree = agent.replay._priorities._tree  # type: ignore[union-attr]
    nets = agent.nets
    weights = {name: tensor.clone() for name, tensor in nets.state_dict().items()}
    agent.update()
    assert agent._last is not None
    batch, noise = agent._last
    logged = agent.metrics()["loss/critic"]
    nets.load_state_dict(weights)
    with torch.no_grad():
        error = nets.q(nets.encoder(batch.obs), batch.action) - td_target(nets, batch, noise[0])
    huber = torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5)
    assert logged == pytest.approx(huber.mean(1).sum().item(), rel=1e-4)
    largest = error.abs().amax(0).clamp(min=1) ** 0.4
    assert batch.rows is not None and batch.weight is not None and batch.weight.tolist() == [1.0] * len(batch.rows)
    for number in set(batch.rows.tolist()):
        kept = tree.of(torch.tensor([number % tree.size])).item()
        assert kept == pytest.approx(largest[batch.rows == number].max().item(), rel=1e-4)


@pytest.mark.parametrize("stored", [5, 7, 9, 30])
def test_a_draw_fades_with_what_was_stored_since(stored: int) -> None:
    """A ring of 7 rows that has taken so many transitions, against a loop over them, at the middle of every stratum."""
    size, fade, least = 7, 0.6, 0.2
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0, 1.0, 4.0])
    weights[stored:] = 0.0
    chance = [0.0] * size
    for number in range(max(0, stored - size), stored):
        chance[number % size] = float(weights[number % size]) * max(fade ** (stored - 1 - number), least)
    fading = Fading(Priority(0.4, 0.0, 0.0, fade=fade, least_fade=least), size, torch.device("cpu"))
    count = 20_000
    rows = fading.draw(torch.full((count,), 0.5, dtype=torch.float64), weights, stored, 0)
    found = Counter(rows.tolist())
    assert [found[row] / count for row in range(size)] == pytest.approx([c / sum(chance) for c in chance], abs=1e-4)


def test_faded_is_lap_with_the_published_numbers() -> None:
    assert priority("uniform", 0.0) is None
    lap, faded = priority("lap", 0.4), priority("faded", 0.4)
    assert lap is not None and faded is not None and replace(lap, fade=FADE) == faded
    assert (faded.fade, faded.least_fade, faded.alpha) == (0.9999, LEAST_FADE, 0.4)
    with pytest.raises(ValueError, match="no importance weights"):
        Priority(0.4, fade=0.9)
