"""Rainbow's functions: projection, double Q, losses, dueling, noise, n-step targets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrep.agents.rainbow.networks import Networks, QHead
from rlrep.agents.rainbow.update import expected, of_action, project, rl_losses, target
from rlrep.nn import Encoder, NoisyLinear
from rlrep.nn.actions import Choosing
from rlrep.nn.optim import FusedAdam, norm_excess
from rlrep.replay import Batch

from .rainbow_rig import SMALL, make_rainbow

SUPPORT = torch.linspace(-10, 10, 51)


def plain_projection(probability: list[float], position: list[float], support: list[float]) -> list[float]:
    """Bellemare et al. 2017, algorithm 1, atom by atom."""
    found = [0.0] * len(support)
    step = (support[-1] - support[0]) / (len(support) - 1)
    for mass, place in zip(probability, position, strict=True):
        b = (min(max(place, support[0]), support[-1]) - support[0]) / step
        low, high = math.floor(b + 1e-9), math.ceil(b - 1e-9)
        if low == high:
            found[low] += mass
        else:
            found[low] += mass * (high - b)
            found[high] += mass * (b - low)
    return found


def test_projection_equals_the_algorithm_atom_by_atom() -> None:
    rng = np.random.default_rng(0)
    probability = torch.tensor(rng.dirichlet(np.ones(51), 16), dtype=torch.float32)
    reward, discount = rng.uniform(-12, 12, 16), rng.choice([0.0, 0.8, 1.0], 16)
    position = torch.tensor(reward[:, None] + discount[:, None] * SUPPORT.numpy(), dtype=torch.float32)
    for row, (p, z) in enumerate(zip(probability, position, strict=True)):
        slow = plain_projection(p.tolist(), z.tolist(), SUPPORT.tolist())
        torch.testing.assert_close(project(p[None], z[None], SUPPORT)[0], torch.tensor(slow), atol=2e-5, rtol=0)
        assert project(probability, position, SUPPORT)[row].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("place", "where"),
    [
        (-10.0, {0: 1.0}),  # on an atom: all of it stays there
        (-9.2, {2: 1.0}),
        (10.0, {50: 1.0}),
        (-9.9, {0: 0.75, 1: 0.25}),  # a quarter of the way to the next atom
        (-13.0, {0: 1.0}),  # beyond an end: that end
        (47.0, {50: 1.0}),
    ],
)
def test_a_terminal_reward_lands_on_its_neighbours(place: float, where: dict[int, float]) -> None:
    anything = torch.rand(1, 51).softmax(1)
    found = project(anything, torch.full((1, 51), place), SUPPORT)[0]
    expected_mass = torch.zeros(51)
    for atom, mass in where.items():
        expected_mass[atom] = mass
    torch.testing.assert_close(found, expected_mass, atol=1e-5, rtol=0)


def test_projection_keeps_the_mean_within_the_support() -> None:
    probability, position = torch.rand(8, 51).softmax(1), torch.rand(8, 51) * 18 - 9
    found = project(probability, position, SUPPORT)
    torch.testing.assert_close((found * SUPPORT).sum(1), (probability * position).sum(1), atol=1e-4, rtol=0)


class Table(Choosing):
    """A head whose logits are its weight, whatever the latent and the noise."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape[-2])
        self.logits, self.policy = nn.Parameter(logits), None

    def perturbed(self, noise: Tensor | None) -> None:
        return None

    def forward(self, latent: Tensor, layers: None) -> Tensor:
        return self.logits.expand(len(latent), -1, -1)


def tables(online: Tensor, later: Tensor, support: Tensor) -> Networks:
    nets = Networks(Encoder(nn.Identity(), nn.Identity(), 1, 1), Table(later), support, target_tau=1.0, key_tau=None)  # type: ignore[arg-type]
    nets.head.logits.data = online
    return nets


def batch(rows: int, reward: float = 0.5, discount: float = 0.9) -> Batch:
    obs, fill = torch.zeros(rows, 1), torch.full
    return Batch(obs, torch.zeros(rows, dtype=torch.int64), fill((rows,), reward), fill((rows,), discount), obs)


@pytest.mark.parametrize(("double", "value"), [(True, 2.0), (False, 3.0)])
def test_the_online_network_chooses_and_the_target_evaluates(double: bool, value: float) -> None:
    online, later = torch.tensor([[[1.0], [5.0], [4.0]]])[0], torch.tensor([[[3.0], [2.0], [1.0]]])[0]
    nets = tables(online, later, torch.ones(1))
    found = target(nets, None, batch(2), torch.zeros(0), double=double)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.full((2, 1), 0.5 + 0.9 * value))


def test_a_distributional_target_is_the_projected_distribution_of_the_chosen_action() -> None:
    support = torch.linspace(-1, 1, 5)
    later = torch.randn(3, 5)
    online = torch.zeros(3, 5)
    online[1, 4] = 9.0  # action 1 promises the most
    found = target(tables(online, later, support), None, batch(1), torch.zeros(0), double=True)  # type: ignore[arg-type]
    p = later[1].softmax(0)
    slow = plain_projection(p.tolist(), (0.5 + 0.9 * support).tolist(), support.tolist())
    torch.testing.assert_close(found[0], torch.tensor(slow), atol=1e-6, rtol=0)
    ended = target(tables(online, later, support), None, batch(1, discount=0.0), torch.zeros(0), double=True)  # type: ignore[arg-type]
    torch.testing.assert_close(ended[0], torch.tensor([0.0, 0, 0, 1, 0]))


def test_losses_and_priorities() -> None:
    logits, goal = torch.randn(6, 7, requires_grad=True), torch.rand(6, 7).softmax(1)
    loss, priority = rl_losses(logits, goal)
    divergence = nn.functional.kl_div(logits.log_softmax(1), goal, reduction="none").sum(1)
    torch.testing.assert_close(loss, divergence - (goal * goal.log()).sum(1))
    assert torch.equal(priority, loss) and not priority.requires_grad
    q, value = torch.tensor([[0.0], [0.0], [0.0]]), torch.tensor([[0.5], [-3.0], [1.0]])
    loss, priority = rl_losses(q, value)
    torch.testing.assert_close(loss, torch.tensor([0.125, 2.5, 0.5]))
    assert priority.tolist() == [0.5, 3.0, 1.0]


def test_expected_value_and_choice_of_logits() -> None:
    logits = torch.randn(4, 3, 5)
    support = torch.linspace(-1, 1, 5)
    slow = torch.stack([torch.stack([(row.softmax(0) * support).sum() for row in one]) for one in logits])
    torch.testing.assert_close(expected(logits, support), slow)
    assert torch.equal(expected(logits[..., :1], torch.ones(1)), logits[..., 0])
    action = torch.tensor([2, 0, 1, 1])
    assert torch.equal(of_action(logits, action), logits[torch.arange(4), action])


@pytest.mark.parametrize("sigma0", [None, 0.5])
def test_dueling_adds_value_and_centred_advantage(sigma0: float | None) -> None:
    head = QHead(6, 8, 3, 5, dueling=True, sigma0=sigma0)
    latent, layers = torch.randn(4, 6), head.perturbed(torch.randn(head.noise_dim))
    logits = head(latent, layers)
    hidden = (latent @ layers.hidden[0].T + layers.hidden[1]).relu()
    assert layers.value is not None
    value = hidden[:, :8] @ layers.value[0].T + layers.value[1]
    advantage = (hidden[:, 8:] @ layers.advantage[0].T + layers.advantage[1]).view(4, 3, 5)
    torch.testing.assert_close(logits, value[:, None] + advantage - advantage.mean(1, keepdim=True))
    torch.testing.assert_close(logits.mean(1), value)
    plain = QHead(6, 8, 3, 5, dueling=False, sigma0=sigma0)
    assert plain.value is None and plain(latent, plain.perturbed(None)).shape == (4, 3, 5)


def test_noise_is_factorised_with_the_papers_scale() -> None:
    layer = NoisyLinear(4, 3, sigma0=0.5, streams=2)
    assert torch.equal(layer.weight_sigma, torch.full((6, 4), 0.25)) and torch.equal(
        layer.bias_sigma, torch.full((6,), 0.25)
    )
    assert layer.weight.abs().max() <= 0.5 and layer.noise_dim == 2 * (3 + 4)
    noise = torch.randn(layer.noise_dim)
    weight, bias = layer.perturbed(noise)
    epsilon = (weight - layer.weight) / layer.weight_sigma
    f = noise.sign() * noise.abs().sqrt()
    for stream in range(2):
        rows, columns = f[3 * stream : 3 * stream + 3], f[6 + 4 * stream : 10 + 4 * stream]
        torch.testing.assert_close(epsilon[3 * stream : 3 * stream + 3], rows[:, None] * columns[None, :])
    torch.testing.assert_close((bias - layer.bias) / layer.bias_sigma, f[:6])
    with torch.no_grad():
        draws = torch.stack([layer.perturbed(torch.randn(14))[0] for _ in range(4000)])
    torch.testing.assert_close(draws.mean(0), layer.weight.detach(), atol=0.02, rtol=0)
    # E[f(x)^2] = E|x| = sqrt(2 / pi), and the two factors are independent
    torch.testing.assert_close(draws.std(0), torch.full((6, 4), 0.25 * math.sqrt(2 / math.pi)), atol=0.02, rtol=0)


def test_without_noise_the_mean_acts() -> None:
    layer, plain = NoisyLinear(4, 3, sigma0=0.5), NoisyLinear(4, 3, sigma0=None)
    assert layer.perturbed(None) == (layer.weight, layer.bias)
    assert plain.noise_dim == 0 and plain.perturbed(torch.zeros(0)) == (plain.weight, plain.bias)
    assert [name for name, _ in plain.named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(scale: float) -> None:
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((5, 3), (7,))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    adam, plain = FusedAdam(ours, 1e-2, eps=1e-3), torch.optim.Adam(theirs, 1e-2, eps=1e-3)
    for _ in range(3):
        gradients = [scale * torch.randn_like(p) for p in ours]
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient.clone()
        norm = nn.utils.clip_grad_norm_(theirs, 1.0)
        plain.step()
        found, divisor = norm_excess(gradients, 1.0)
        torch.testing.assert_close(found, norm)
        adam.step(gradients, divisor=divisor)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_n_step_targets_of_a_hand_made_episode() -> None:
    """Rewards 1, 2, 3, 4 with three steps: the third ends the episode, by termination or by the time limit."""
    for terminated in (True, False):
        agent = make_rainbow(pixels=False, config=replace(SMALL, discount=0.5, prioritised=False))
        agent.replay.begin(np.zeros((2, 5), np.float32))
        no = np.zeros(2, bool)
        for step in range(4):
            end = np.full(2, step == 2)
            frames = np.full((2, 5), step + 1, np.float32)
            reset = np.full((2, 5), 10, np.float32)
            reward = np.full(2, step + 1, np.float32)
            ends = (end, no) if terminated else (no, end)
            agent.replay.add(np.zeros(2, np.int64), reward, *ends, frames, reset, no)
        found = agent.replay.sample(3000)
        newest = {
            (round(float(o[0]), 3), round(float(r), 4), round(float(d), 4), round(float(n[0]), 3))
            for o, r, d, n in zip(found.obs, found.reward, found.discount, found.next_obs, strict=True)
        }
        # From 0: 1 + 2/2 + 3/4; from 1: 2 + 3/2; from 2: 3. All see the episode's last observation, 3.
        tail = 0.0 if terminated else 1.0
        assert (0.0, 2.75, 0.125 * tail, 3.0) in newest
        assert (1.0, 3.5, 0.25 * tail, 3.0) in newest
        assert (2.0, 3.0, 0.5 * tail, 3.0) in newest
        assert not any(o == 10.0 for o, *_ in newest), "its three steps are not complete"
