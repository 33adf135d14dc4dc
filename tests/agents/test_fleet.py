"""Fleets: updates of several runs as one computation are each run's own, in float64; who cannot be joined says why."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlrep.agents import OnlineAgent
from rlrep.agents.fleet import Fleet, Joint
from rlrep.agents.heads import Heads
from rlrep.agents.rainbow import RainbowConfig, resets
from rlrep.agents.rainbow.policy import Policy
from rlrep.agents.rainbow.schedules import Resets, Schedule
from rlrep.heads import (
    HeadConfig,
    InstanceContrast,
    ReturnContrast,
    SelfPrediction,
    TemporalContrast,
    TrajectoryContrast,
)
from rlrep.nn import ImpalaConfig, PixelEncoderConfig
from rlrep.nn.actions import Choosing
from rlrep.nn.graph import refilled, tensors_of
from rlrep.nn.optim import FusedAdam

from .pearl_rig import SMALL as PEARL
from .pearl_rig import make_pearl
from .rainbow_rig import SMALL as RAINBOW
from .rainbow_rig import make_rainbow, parameters
from .test_mrq import make_mrq
from .test_sac import SMALL as SAC
from .test_sac import make_agent

Agent = OnlineAgent[Any]
HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(),
    "return_contrast": ReturnContrast(threshold=2.0, hidden_dim=8, embedding_dim=8),
    "temporal": TemporalContrast(),
    "trajectory_contrast": TrajectoryContrast(window=4),
    "focal": TrajectoryContrast(window=3, objective="focal", positives="same_task", ordered=False),
    "tcl_published": TrajectoryContrast(window=3, positives="per_transition"),
    "ccm": TrajectoryContrast(window=3, similarity="bilinear", positives="same_task", ordered=False, pull="balanced"),
    "replayed": SelfPrediction(
        steps=2, hidden_dim=8, embedding_dim=8, transition_dim=8, pull="sum", as_replayed=True, tau=0.1
    ),
    "self_prediction": SelfPrediction(steps=2, hidden_dim=8, embedding_dim=8, transition_dim=8),
}


@pytest.fixture(autouse=True)
def all_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide outside of Adam's kernel, which takes no divisor in double precision, and reset to such, too."""
    step, mix = FusedAdam.step, resets.mix
    monkeypatch.setattr(resets, "mix", lambda own, new, keep: mix(own, new.double(), keep))

    def divided(adam: FusedAdam, gradients: Sequence[Tensor], *, divisor: Tensor | None = None) -> None:
        step(adam, [gradient if divisor is None else gradient / divisor for gradient in gradients])

    monkeypatch.setattr(FusedAdam, "step", divided)


def bases(seed: int) -> dict[str, RainbowConfig]:
    """What is built on Rainbow, each with its own of what may differ in a fleet."""
    spr = replace(RAINBOW, target_every=1, sigma0=0.5)
    often = Resets(every=3 + seed, keep_encoder=0.8)
    slow = replace(spr, noisy=False, shared_hidden=True, target_tau=0.1, act_by_target=True, max_norm=1e9, resets=often)
    values = replace(RAINBOW, atoms=1, dueling=False, noisy=False, prioritised=False, double=False)
    bbf = replace(slow, weight_decay=0.1 * seed, n_step_schedule=Schedule(5, 3 + seed))
    bbf = replace(bbf, discount_schedule=Schedule(0.5, 3))
    policy = replace(RAINBOW, policy=Policy(0.5, updates=4))
    return {"rainbow": RAINBOW, "rainbow with a policy": policy, "dqn": values, "spr": spr, "sr_spr": slow, "bbf": bbf}


ENCODERS = {
    "sr_spr": PixelEncoderConfig(strides=(5, 2), channels=4, kernels=(5, 2), trunk="rescaled", init="torch"),
    "bbf": ImpalaConfig(channels=(4, 4), blocks=1, trunk="rescaled"),
}


def make(agent: str, pixels: bool, names: Sequence[str] = (), *, seed: int = 0, **heads: HeadConfig) -> Agent:
    """An agent of its own seed, learning rate and weight (and `in games`: number of actions), in float64."""
    lr, weight = 1e-3 * (1 + seed), 0.5 + seed
    aux = {**{name: replace(HEADS[name], weight=weight) for name in names}, **heads}
    if agent == "sac":
        return in_double(make_agent(pixels=pixels, heads=aux, seed=seed, config=replace(SAC, lr=lr)))
    if agent in ("pearl", "pearl_v"):
        config = replace(PEARL, lr=lr, value="v" if agent == "pearl_v" else "q")
        pearl: Any = make_pearl(config, aux=aux, seed=seed)
        return in_double(pearl)
    kind, _, games = agent.partition(" in ")
    actions = spaces.Discrete(3 + 2 * seed % 3 if games else 3)
    base, encoder = replace(bases(seed)[kind], lr=lr), ENCODERS.get(kind) if pixels else None
    return in_double(make_rainbow(pixels=pixels, aux=aux, seed=seed, config=base, encoder=encoder, actions=actions))


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
        ("rainbow in games", False, ("return_contrast", "self_prediction"), 50),
        ("dqn in games", True, ("return_contrast",), 10),
        ("spr", True, ("replayed",), 4),
        ("sr_spr in games", True, ("replayed",), 8),
        ("bbf in games", True, ("replayed",), 8),
        ("pearl", False, (), 50),
        ("pearl", False, ("trajectory_contrast",), 50),
        ("pearl_v", False, ("ccm", "focal", "tcl_published"), 3),
        ("sac", False, ("temporal", "self_prediction", "trajectory_contrast"), 3),
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


@pytest.mark.parametrize(("agent", "head"), [("sac", "curl"), ("rainbow in games", "return_contrast")])
def test_a_fleet_of_two_goes_on_as_three_and_alone(agent: str, head: str) -> None:
    """Each run's modules, moments and counts stay its own, whoever makes its updates."""
    alone, runs = ([make(agent, False, (head,), seed=seed) for seed in range(3)] for _ in range(2))
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


def test_what_pads_a_run_of_fewer_actions_is_never_chosen_and_never_learns() -> None:
    runs = [make("rainbow in games", False, ("return_contrast",), seed=seed) for seed in range(3)]
    with torch.no_grad():
        for run in runs:
            run.nets.head.advantage.bias -= 5.0  # so that an advantage of zero would be the best
    fleet, seen = Fleet([run for run in runs]), list[Tensor]()
    best = Choosing.best

    def watching(head: Choosing, values: Tensor) -> Tensor:
        seen.append(torch._C._functorch.get_unwrapped(best(head, values)))
        return best(head, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Choosing, "best", watching)
        for _ in range(5):
            fleet.update()
    chosen = torch.stack(seen)
    assert chosen.shape == (5, 3, 8) and (chosen.amax((0, 2)) < torch.tensor([3, 5, 4])).all()
    for parameter, axis in ((fleet.step.nets.head.advantage.weight, 0), (first_layer(fleet.step.heads), 1)):
        for run, actions in zip(parameter.detach(), (3, 5, 4), strict=True):
            end = run.shape[axis] - (5 - actions) * (7 if axis == 0 else 1)
            assert not run.narrow(axis, end, run.shape[axis] - end).any() and run.narrow(axis, end - 1, 1).all()


def first_layer(heads: Heads) -> Tensor:
    head: Any = heads.modules["return_contrast"]
    return head.projector[0].weight  # type: ignore[no-any-return]


@pytest.mark.parametrize("agent", ["sac", "rainbow in games"])
def test_a_checkpoint_of_a_fleets_run_is_one_of_the_run_alone(agent: str) -> None:
    alone, *fleet = (make(agent, False, ("return_contrast",), seed=seed) for seed in (0, 0, 1))
    update = fleet[0].fleet()
    for _ in range(3):
        update(fleet)
    alone.load_state(fleet[0].state())
    for _ in range(3):
        update(fleet)
        alone.update()
    assert_equal(alone, fleet[0])


QUEUE = InstanceContrast(objective="info_nce", negatives="queue", queue_size=16)


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        (lambda: make("sac", False, curl=QUEUE), "aux=curl keeps statistics or memory of its own"),
        (make_mrq, r"the updates of MR\.Q are of more than one kind"),
        (
            lambda: make_pearl(replace(PEARL, context="recurrent")),
            "a recurrent encoder of contexts is computed by itself",
        ),
    ],
    ids=["queue", "mrq", "recurrent"],
)
def test_who_cannot_be_stacked_says_why(agent: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        agent().alike()


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
