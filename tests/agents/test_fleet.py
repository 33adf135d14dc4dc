"""Fleets: updates of several runs as one computation are each run's own, in float64; who cannot be joined says why."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlrep.agents import OnlineAgent
from rlrep.agents.fleet import Joint
from rlrep.agents.rainbow.policy import Policy
from rlrep.heads import HeadConfig, InstanceContrast, ReturnContrast, SelfPrediction, TemporalContrast
from rlrep.nn.graph import refilled, tensors_of
from rlrep.nn.optim import FusedAdam

from .rainbow_rig import SMALL as RAINBOW
from .rainbow_rig import make_rainbow, parameters
from .test_sac import SMALL as SAC
from .test_sac import make_agent

Agent = OnlineAgent[Any]
HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(),
    "return_contrast": ReturnContrast(threshold=2.0, hidden_dim=8, embedding_dim=8),
    "temporal": TemporalContrast(),
    "self_prediction": SelfPrediction(steps=2, hidden_dim=8, embedding_dim=8, transition_dim=8),
}


@pytest.fixture(autouse=True)
def divisors_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide outside of Adam's kernel, which takes no divisor in double precision."""
    step = FusedAdam.step

    def divided(adam: FusedAdam, gradients: Sequence[Tensor], *, divisor: Tensor | None = None) -> None:
        step(adam, [gradient if divisor is None else gradient / divisor for gradient in gradients])

    monkeypatch.setattr(FusedAdam, "step", divided)


def make(agent: str, pixels: bool, names: Sequence[str] = (), *, seed: int = 0, **heads: HeadConfig) -> Agent:
    """An agent of its own seed, learning rate and weight, in float64."""
    lr, weight = 1e-3 * (1 + seed), 0.5 + seed
    aux = {**{name: replace(HEADS[name], weight=weight) for name in names}, **heads}
    if agent == "sac":
        return in_double(make_agent(pixels=pixels, heads=aux, seed=seed, config=replace(SAC, lr=lr)))
    policy = Policy(0.5, updates=4) if agent == "rainbow with a policy" else Policy()
    return in_double(make_rainbow(pixels=pixels, aux=aux, seed=seed, config=replace(RAINBOW, lr=lr, policy=policy)))


def in_double(agent: Agent) -> Agent:
    """The same agent with everything in double precision that an update computes on."""
    for module in (agent.nets, agent.heads.modules, agent.heads.balance):
        module.double()
    for adam in agent.optimisers.adams.values():
        adam._first = [moment.double() for moment in adam._first]
        adam._second = [moment.double() for moment in adam._second]
    sample, draw = agent._sample, agent.step.draw

    def double(tree: Any) -> Any:
        return refilled(tree, (t.double() if t.is_floating_point() else t for t in tensors_of(tree)))

    agent._sample = lambda: double(sample())  # type: ignore[method-assign]
    agent.step.draw = lambda batch, generator: double(draw(batch, generator))  # type: ignore[method-assign]
    return agent


def last_losses(agent: Agent) -> dict[str, float]:
    return {name: value for scalars in agent.means._last for name, value in scalars.read().items()}


def assert_equal(first: Agent, second: Agent) -> None:
    assert last_losses(second) == pytest.approx(last_losses(first), abs=1e-6, rel=1e-6)
    ours: Mapping[str, Tensor] = parameters(second)
    for name, parameter in parameters(first).items():
        torch.testing.assert_close(ours[name], parameter, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("agent", "pixels", "heads", "updates"),
    [
        ("sac", False, (), 50),
        ("rainbow", False, ("curl", "return_contrast"), 50),
        ("rainbow with a policy", False, (), 9),
        ("sac", False, ("temporal", "self_prediction"), 3),
        ("sac", True, ("curl", "return_contrast"), 3),
        ("rainbow", True, ("temporal", "self_prediction"), 3),
    ],
)
def test_a_fleet_of_three_equals_the_three_alone(
    agent: str, pixels: bool, heads: tuple[str, ...], updates: int
) -> None:
    alone, fleet = ([make(agent, pixels, heads, seed=seed) for seed in range(3)] for _ in range(2))
    assert len({each.alike() for each in fleet}) == 1, "seeds, rates and weights do not set them apart"
    update = fleet[0].fleet()
    for _ in range(updates):
        for each in alone:
            each.update()
        update(fleet)
    for one, other in zip(alone, fleet, strict=True):
        assert_equal(one, other)


def test_a_fleet_of_two_goes_on_as_three_and_alone() -> None:
    """Each run's modules, moments and counts stay its own, whoever makes its updates."""
    alone, runs = ([make("sac", False, ("curl",), seed=seed) for seed in range(3)] for _ in range(2))
    update = Joint().update
    for number in range(20):
        if number < 5:
            update(runs[:2])
        elif number < 11:
            update(runs)  # the third is five updates behind: its actor is due when those of the others are not
        else:
            for each in runs:
                each.update()
    for each, made in zip(alone, (20, 20, 15), strict=True):
        for _ in range(made):
            each.update()
    for one, other in zip(alone, runs, strict=True):
        assert_equal(one, other)


def test_what_is_not_finite_in_one_run_stays_there() -> None:
    broken, sound, alone = (make("rainbow", False, ("curl",), seed=seed) for seed in (0, 1, 1))
    with torch.no_grad():
        next(broken.nets.head.parameters()).fill_(torch.nan)
    for _ in range(5):
        alone.update()
        broken.fleet()([broken, sound])
    assert broken.nonfinite() and not sound.nonfinite()
    assert_equal(alone, sound)


def test_a_checkpoint_of_a_fleets_run_is_one_of_the_run_alone() -> None:
    fleet, alone = (
        [make("sac", False, ("curl",), seed=seed) for seed in range(2)],
        make("sac", False, ("curl",), seed=1),
    )
    update = fleet[0].fleet()
    for _ in range(3):
        update(fleet)
    alone.load_state(fleet[1].state())
    for _ in range(3):
        update(fleet)
        alone.update()
    assert_equal(alone, fleet[1])


def test_who_cannot_be_stacked_says_why() -> None:
    queue = InstanceContrast(objective="info_nce", negatives="queue", queue_size=16)
    with pytest.raises(ValueError, match="aux=curl keeps statistics or memory of its own"):
        make("sac", False, curl=queue).alike()


def test_runs_of_other_settings_or_shapes_are_not_alike() -> None:
    kinds = [
        make("sac", False),
        make("sac", True),
        make("sac", False, ("curl",)),
        make("sac", False, curl=InstanceContrast(temperature=0.5)),
        make("rainbow", False),
        make_agent(pixels=False, heads={}, config=replace(SAC, critic_tau=0.5)),
    ]
    assert len({agent.alike() for agent in kinds}) == len(kinds)
