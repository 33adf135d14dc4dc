"""Agents under attack: what their policy says of its own change, and the table of returns by the adversary's reach."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import cross_entropy

from rlrep.agents.rainbow.update import expected
from rlrep.commands.evaluate import AttackConfig, main
from rlrep.loops.attack import Disturbed
from rlrep.settings import UserError
from tests.agents.rainbow_rig import make_rainbow
from tests.agents.test_sac import make_agent
from tests.fakes import FakeAgent
from tests.runs import lines, run


def test_sacs_divergence_is_that_of_its_gaussians() -> None:
    agent = make_agent(pixels=False, aux=())
    here, there = torch.randn(5, 5), torch.randn(5, 5)
    (mean, log_std), (other, other_log_std) = (agent.nets.actor(agent.nets.encoder.body(x)) for x in (here, there))
    gap = kl_divergence(Normal(mean, log_std.exp()), Normal(other, other_log_std.exp())).sum(1)
    assert agent.divergence is not None
    torch.testing.assert_close(agent.divergence(here)(there), gap)
    torch.testing.assert_close(agent.divergence(here)(here), torch.zeros(5), atol=1e-5, rtol=0)


def test_rainbows_divergence_is_the_greedy_actions_cross_entropy() -> None:
    agent = make_rainbow(pixels=False)
    here, there = torch.randn(6, 5), torch.randn(6, 5)
    actions = torch.as_tensor(agent.act(here.numpy(), explore=False))
    head = agent.nets.head
    values = expected(head(agent.nets.encoder(there), head.perturbed(None)), agent.nets.support)
    assert agent.divergence is not None
    torch.testing.assert_close(agent.divergence(here)(there), cross_entropy(values, actions, reduction="none"))


class Watched(FakeAgent):
    """Diverges by the sum of its observation, and records what it acts on."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__([])
        self.seen: list[Tensor] = []

    def act(self, obs: Any, *, explore: bool) -> Any:
        self.seen.append(torch.as_tensor(obs).clone())
        return super().act(obs, explore=explore)

    def divergence(self, obs: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda other: other.flatten(1).sum(1)


def test_a_states_numbers_move_by_their_deviations_and_pixels_by_gray_levels() -> None:
    agent = Watched()
    actor = Disturbed(agent, steps=8, seed=0)
    actor.begin(0.0)
    obs = np.array([[0.0, 10.0], [2.0, 10.0], [4.0, 40.0]], np.float32)
    actor.act(obs, explore=False)
    assert torch.equal(agent.seen[0], torch.as_tensor(obs))
    actor.begin(0.5)
    actor.act(obs, explore=False)
    torch.testing.assert_close(agent.seen[1], torch.as_tensor(obs + 0.5 * obs.std(0)))
    frames = np.array([[[[0, 100, 255]]]], np.uint8)
    actor.begin(2 / 255)
    actor.act(frames, explore=False)
    assert agent.seen[2].flatten().tolist() == [2.0, 102.0, 255.0]


@pytest.mark.parametrize("env", ["toy_pixels", "toy_state"])
def test_evaluate_tells_the_return_by_the_adversarys_reach(
    env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "x", f"env={env}", "train.eval_every=0") == 0
    capsys.readouterr()
    words = [f"out={tmp_path / 'x'}", "episodes=2", "device=cpu", "attack=pgd", "attack.epsilon=[1/255,0.5]"]
    assert main([*words, *(["env.flicker=0.5"] if env == "toy_pixels" else [])]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "attack.epsilon" in line]
    assert [line.rsplit(" ", 1)[1] for line in told] == ["0", "0.003922", "0.5"]
    with open(tmp_path / "x" / "evaluate.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epsilon"], row["episode"]) for row in rows[::2]] == [("0.0", "0"), (str(1 / 255), "0"), ("0.5", "0")]
    first = (tmp_path / "x" / "evaluate.csv").read_text()
    assert main([*words, *(["env.flicker=0.5"] if env == "toy_pixels" else [])]) == 0
    assert (tmp_path / "x" / "evaluate.csv").read_text() == first  # the adversary draws by the seed
    if env == "toy_state":
        capsys.readouterr()
        assert main([*words, "env.flicker=0.5"]) == 1
        assert ["env.flicker" in line for line in lines(capsys.readouterr().err)] == [True]


@pytest.mark.parametrize("epsilon", ["a/b", "0", "1/0", ("0.1", "-1")])
def test_reaches_that_are_none_are_refused(epsilon: Any) -> None:
    with pytest.raises(ValueError, match="epsilon="):
        AttackConfig(epsilon=epsilon)


def test_an_agent_without_a_policy_to_move_is_refused() -> None:
    with pytest.raises(UserError, match="not this one"):
        Disturbed(FakeAgent([]), steps=1, seed=0)
