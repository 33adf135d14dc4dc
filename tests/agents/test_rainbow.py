"""Rainbow: one update against a plain twin, switches, priorities, targets, resume, compilation, heads, learning."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlrep.agents.rainbow import Rainbow, RainbowConfig
from rlrep.agents.rainbow.schedules import Resets, Schedule
from rlrep.agents.rainbow.update import Due
from rlrep.config.make import load_component, make_agent, make_env
from rlrep.contract.agent import AgentSpec
from rlrep.heads import (
    Autoencoder,
    Encoded,
    Encoders,
    HeadConfig,
    InstanceContrast,
    LatentContrast,
    Pull,
    RedundancyReduction,
    ReturnContrast,
    SelfDistillation,
    SelfPrediction,
    TemporalContrast,
)
from rlrep.nn import IdentityConfig, ImpalaConfig
from rlrep.settings import UserError
from rlrep.views import CropPadCrop, NoChange, RandomShift

from .rainbow_rig import ACTIONS, PIXELS, SMALL, STATE, make_rainbow, observations, parameters

DQN = replace(SMALL, double=False, dueling=False, atoms=1, noisy=False, n_step=1, prioritised=False)
HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(view=CropPadCrop(23), embedding_dim=8, hidden_dim=8),
    "return_contrast": ReturnContrast(mode="reward_event", hidden_dim=8, embedding_dim=8),
    "temporal": TemporalContrast(offset=2, predictor_dim=8),
    "self_prediction": SelfPrediction(steps=2, transition_dim=8, hidden_dim=8, embedding_dim=6),
    "latent_contrast": LatentContrast(steps=2, transition_dim=8, mask_same_return=True, bins=3),
    "byol": SelfDistillation(view=RandomShift(23), hidden_dim=8, embedding_dim=6),
    "barlow_twins": RedundancyReduction(weight=0.01, view=RandomShift(23), hidden_dim=8, embedding_dim=6),
    "sup_con": ReturnContrast(objective="sup_con", mode="return_bin", bins=3, hidden_dim=8, embedding_dim=8),
    "autoencoder": Autoencoder(strides=(2, 1), channels=4, hidden_dim=8),
}
CHANGING = replace(
    SMALL, resets=Resets(every=2, keep_encoder=0.5), n_step_schedule=Schedule(5, 2), target_tau=0.2, weight_decay=0.1
)
BOTH = {name: HEADS[name] for name in ("curl", "return_contrast")}
OTHERS = {name: HEADS[name] for name in ("byol", "self_prediction", "latent_contrast", "sup_con")}


def plain_update(before: Rainbow, agent: Rainbow, config: RainbowConfig) -> Tensor:
    """The same update on `before`: a textbook loss row by row, and torch's Adam. Returns the losses."""
    assert agent._last is not None
    nets, (batch, noise) = before.nets, agent._last
    learned = [*nets.encoder.parameters(), *nets.head.parameters(), *before.heads.modules.parameters()]
    learned = [p for p in learned if p.requires_grad]
    optimiser = torch.optim.Adam(learned, config.lr, eps=config.adam_eps)
    z = nets.support

    def q_of(logits: Tensor) -> Tensor:
        return (logits.softmax(-1) * z).sum(-1) if len(z) > 1 else logits[..., 0]

    layers = nets.head.perturbed(noise[0])
    losses = []
    logits = nets.head(nets.encoder(batch.obs), layers)
    with torch.no_grad():
        target_head: Any = nets.target_head.module
        later = target_head(nets.target_encoder(batch.next_obs), target_head.perturbed(noise[1]))
        choice = nets.head(nets.encoder(batch.next_obs), layers) if config.double else later
    for row in range(config.batch_size):
        best = int(q_of(choice[row]).argmax())
        reward, discount, taken = batch.reward[row], batch.discount[row], logits[row, batch.action[row]]
        if len(z) == 1:
            error = taken[0] - (reward + discount * later[row, best, 0])
            losses.append(torch.where(error.abs() < 1, error.square() / 2, error.abs() - 0.5))
            continue
        p, goal, step = later[row, best].softmax(0), torch.zeros(len(z)), z[1] - z[0]
        for atom in range(len(z)):
            place = ((reward + discount * z[atom]).clamp(config.v_min, config.v_max) - config.v_min) / step
            low = min(int(place), len(z) - 2)
            goal[low] += p[atom] * (low + 1 - place)
            goal[low + 1] += p[atom] * (place - low)
        losses.append(-(goal * taken.log_softmax(0)).sum())
    weight = torch.ones(config.batch_size) if batch.weight is None else batch.weight
    loss = (weight * torch.stack(losses)).mean()
    assert nets.key_encoder is not None or not before.heads.tasks
    encoded, encoders = (
        Encoded(nets.encoder(batch.obs)),
        Encoders(nets.encoder, nets.key_encoder or nets.target_encoder),
    )
    for name, head in before.heads.tasks.items():
        loss = loss + agent.heads.weights[name] * head.loss(batch, batch.pairs[name], encoded, encoders)[0]
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learned, config.max_norm)
    optimiser.step()
    if nets.key_encoder is not None:
        for a, b in zip(nets.encoder.parameters(), nets.key_encoder.module.parameters(), strict=True):
            b.data = (1 - config.encoder_tau) * b.data + config.encoder_tau * a.data
    for head in before.heads.tasks.values():
        head.after_update()
    return torch.stack(losses).detach()


VARIANTS = {
    "rainbow": SMALL,
    "clipped": replace(SMALL, max_norm=0.01),
    "no_double": replace(SMALL, double=False),
    "no_dueling": replace(SMALL, dueling=False),
    "values": replace(SMALL, atoms=1),
    "no_noise": replace(SMALL, noisy=False),
    "one_step": replace(SMALL, n_step=1),
    "uniform": replace(SMALL, prioritised=False),
    "dqn": DQN,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_an_update_equals_the_plain_one(name: str) -> None:
    """With every part on, and with each of them off."""
    aux = BOTH if name in ("rainbow", "dqn") else {}
    config = replace(VARIANTS[name], pull="sum")
    agent, before = (make_rainbow(config=config, aux=aux) for _ in range(2))
    agent.update()
    losses = plain_update(before, agent, config)
    assert agent.metrics()["loss/rl"] == pytest.approx(float(losses.mean()), rel=1e-4)
    for done, plain in ((agent.nets, before.nets), (agent.heads.modules, before.heads.modules)):
        ours, theirs = done.state_dict(), plain.state_dict()
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], atol=2e-5, rtol=1e-4, msg=key)


def test_every_parameter_has_one_owner_and_targets_none() -> None:
    agent = make_rainbow(aux=BOTH)
    (optimiser,) = agent.optimisers.adams.values()
    owned = {id(p) for p in optimiser.parameters}
    targets = [agent.nets.target_encoder, agent.nets.target_head, agent.nets.key_encoder]
    tracked = {id(p) for module in targets if module is not None for p in module.parameters()}
    assert len(owned) == len(optimiser.parameters) and not owned & tracked
    trainable = {id(p) for module in (agent.nets, agent.heads.modules) for p in module.parameters() if p.requires_grad}
    assert owned == trainable


def test_rl_loss_and_heads_both_train_the_encoder() -> None:
    def moved(weight: float, lr: float = 1e-3) -> Tensor:
        agent = make_rainbow(aux={"curl": replace(HEADS["curl"], weight=weight)}, config=replace(SMALL, lr=lr))
        before = parameters(agent)["encoder.body.layers.0.weight"]
        agent.update()
        return parameters(agent)["encoder.body.layers.0.weight"] - before

    silent, loud = moved(0.0), moved(5.0)
    assert silent.abs().max() > 0 and not torch.allclose(silent, loud)


def test_heads_leave_priorities_alone() -> None:
    """On one batch, from the same weights: the same priorities with and without heads."""
    alone, headed = make_rainbow(), make_rainbow(aux=BOTH)
    headed.nets.load_state_dict(alone.nets.state_dict(), strict=False)
    batch = headed._view(headed._sample())
    noise = headed.step.draw(batch, headed.update_stream)
    first, second = (each.step(batch, noise, Due(target=False)) for each in (alone, headed))
    assert first.priorities is not None and second.priorities is not None
    assert torch.equal(first.priorities, second.priorities) and first.priorities.unique().numel() > 1
    pairs = zip(alone.nets.encoder.parameters(), headed.nets.encoder.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs), "the heads have pulled on the encoder"


def test_an_update_hands_its_priorities_to_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, uniform = make_rainbow(), make_rainbow(config=replace(SMALL, prioritised=False))
    given: list[tuple[Tensor, Tensor]] = []
    for each in (agent, uniform):
        monkeypatch.setattr(each.replay, "update_priorities", lambda rows, values: given.append((rows, values)))
        each.update()
    ((rows, values),) = given
    assert agent._last is not None and agent._last[0].rows is rows
    assert float(values.mean()) == pytest.approx(agent.metrics()["loss/rl"], rel=1e-5)


def test_targets_are_copied_whole_when_due_and_keys_follow_slowly() -> None:
    agent = make_rainbow(config=replace(SMALL, target_every=3, encoder_tau=0.1), aux=BOTH)
    for update in range(1, 7):
        before = parameters(agent)
        agent.update()
        after = parameters(agent)
        copied = update % 3 == 0
        for part in ("encoder", "head"):
            for name, tensor in getattr(agent.nets, part).state_dict().items():
                now, old = after[f"target_{part}.module.{name}"], before[f"target_{part}.module.{name}"]
                assert torch.equal(now, tensor if copied else old), (update, name)
        for name, tensor in agent.nets.encoder.state_dict().items():
            key = f"key_encoder.module.{name}"
            torch.testing.assert_close(after[key], before[key].lerp(tensor, 0.1))


def test_without_heads_there_is_no_key_encoder() -> None:
    assert make_rainbow().nets.key_encoder is None
    assert make_rainbow(aux={"curl": HEADS["curl"]}).nets.key_encoder is not None


def test_acting() -> None:
    agent = make_rainbow()
    for rows in (1, 5):
        obs = observations(PIXELS, np.random.default_rng(0), rows)
        action = agent.act(obs, explore=False)
        assert action.shape == (rows,) and action.dtype == np.int64
        assert np.array_equal(action, agent.act(obs, explore=False)), "evaluation acts on mean weights"
    obs = observations(PIXELS, np.random.default_rng(1), 64)
    loud = make_rainbow(config=replace(SMALL, sigma0=5.0))
    draws = [loud.act(obs, explore=True) for _ in range(4)]
    assert any(not np.array_equal(draws[0], other) for other in draws[1:]), "noise is drawn anew at every step"
    assert set(agent.random_actions(200)) == {0, 1, 2}


def test_epsilon_falls_over_the_actions_taken_and_survives_a_resume() -> None:
    config = replace(SMALL, noisy=False, epsilon_start=1.0, epsilon_final=0.1, epsilon_steps=1000)
    agent = make_rainbow(config=config)
    obs = observations(PIXELS, np.random.default_rng(0), 1).repeat(500, 0)
    greedy = agent.act(obs, explore=False)[0]  # evaluation does not count

    def kept() -> Any:
        return np.mean(agent.act(obs, explore=True) == greedy)

    assert kept() == pytest.approx(1 / 3, abs=0.1)
    assert kept() == pytest.approx(1 - 0.55 * 2 / 3, abs=0.1)
    assert agent.state()["acted"] == 1000
    assert [config.epsilon(acted) for acted in (0, 500, 1000, 5000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    other = make_rainbow(config=config)
    other.load_state(deepcopy(agent.state()))
    agent = other
    assert kept() == pytest.approx(1 - 0.1 * 2 / 3, abs=0.06)


def test_beta_rises_over_the_planned_length() -> None:
    config = SMALL.for_length(160)
    assert (config.priority_beta_steps, SMALL.depends_on_length, config.depends_on_length) == (160, True, False)
    assert not replace(SMALL, prioritised=False).depends_on_length
    priority = make_rainbow(config=config).replay.spec.priority
    assert priority is not None and (priority.beta, priority.beta_steps) == (0.4, 160)


@pytest.mark.parametrize(
    ("config", "aux", "pull"),
    [(SMALL, BOTH, "balanced"), (SMALL, OTHERS, "sum"), (DQN, {}, "own"), (DQN, BOTH, "own")],
)
def test_resume_is_bit_exact(config: RainbowConfig, aux: dict[str, HeadConfig], pull: Pull) -> None:
    agent, other = (make_rainbow(aux=aux, config=replace(config, pull=pull), seed=k) for k in (0, 9))
    for _ in range(3):
        agent.update()
    for name, ring in agent.rings.items():
        other.rings[name].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(deepcopy(agent.state()))
    obs = observations(PIXELS, np.random.default_rng(3), 6)
    for _ in range(3):
        agent.update()
        other.update()
        assert np.array_equal(agent.act(obs, explore=True), other.act(obs, explore=True))
    ours, theirs = parameters(agent), parameters(other)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    mine, yours = agent.metrics(), other.metrics()
    assert {k: v for k, v in mine.items() if k[:4] != "perf"} == {k: v for k, v in yours.items() if k[:4] != "perf"}
    assert torch.equal(agent.heads.balance.norms, other.heads.balance.norms)


def check_equal(eager: Rainbow, other: Rainbow) -> None:
    for _ in range(4):
        eager.update()
        other.update()
    ours, theirs = parameters(eager), parameters(other)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3, msg=name)


def test_traced_update_equals_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of everything trace into one graph without host synchronisation."""
    torch._dynamo.reset()
    eager = make_rainbow(aux=BOTH, config=CHANGING)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    check_equal(eager, make_rainbow(aux=BOTH, compile="default", config=CHANGING))


@pytest.mark.slow
def test_compiled_update_equals_eager() -> None:
    torch._dynamo.reset()
    check_equal(*(make_rainbow(aux=BOTH, compile=mode, config=CHANGING) for mode in ("off", "default")))


ABSORBED = {"heads.byol.branches.project.3.bias", "heads.barlow_twins.branches.project.6.bias"}
"""Biases right before a normalisation over the batch: only rounding moves them."""


@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_on_its_encoding(name: str) -> None:
    agent = make_rainbow(aux={name: HEADS[name]})
    before = parameters(agent)
    agent.update()
    assert agent.nonfinite() == []
    trained = {f"heads.{n}" for n, p in agent.heads.modules.named_parameters() if p.requires_grad}
    after = parameters(agent)
    still = {n for n in trained if torch.equal(before[n], after[n])}
    assert still <= ABSORBED
    values = agent.metrics()
    assert values[f"aux/{name}/grad_ratio_encoder"] > 0 and values["loss/gradient_norm"] > 0


def test_states_and_other_encoders_serve_it() -> None:
    for agent in (
        make_rainbow(pixels=False, aux={"curl": InstanceContrast(), "return_contrast": HEADS["return_contrast"]}),
        make_rainbow(pixels=False, encoder=IdentityConfig(), augment=NoChange()),
        make_rainbow(encoder=ImpalaConfig(channels=(4, 4), blocks=1, latent_dim=6)),
        make_rainbow(config=replace(SMALL, precision="bf16")),
    ):
        agent.update()
        assert agent.nonfinite() == []


def test_misfits_are_refused_in_words() -> None:
    spec = AgentSpec(STATE, ACTIONS, IdentityConfig(), NoChange())
    with pytest.raises(ValueError, match="agent=rainbow needs discrete actions"):
        SMALL.make(replace(spec, action_space=spaces.Box(-1, 1, (2,), np.float32)))
    with pytest.raises(ValueError, match="encoder=mlp"):
        SMALL.make(replace(spec, aux={"curl": InstanceContrast()}))
    for wrong, words in (
        ({"atoms": 0}, "atoms must be at least 1"),
        ({"v_min": 3.0, "v_max": 3.0}, "v_min must be below v_max"),
        ({"epsilon_final": 1.5}, r"epsilon_final must lie in \[0, 1\]"),
        ({"target_every": 0}, "target_every"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(SMALL, **wrong)
    env = make_env("toy_state")
    with pytest.raises(UserError, match="agent=rainbow needs discrete actions"):
        make_agent("rainbow", env)
    env.close()


def test_named_agents_are_switches_of_one() -> None:
    rainbow, dqn, drq = (load_component("agent", name) for name in ("rainbow", "dqn", "drq_eps"))
    assert rainbow == RainbowConfig(), "the dataclass's defaults are the YAML's"
    assert (dqn.double, dqn.dueling, dqn.atoms, dqn.noisy, dqn.n_step, dqn.prioritised) == (
        False,
        False,
        1,
        False,
        1,
        False,
    )
    assert (drq.double, drq.dueling, drq.atoms, drq.noisy, drq.n_step, drq.target_every) == (
        True,
        True,
        1,
        False,
        10,
        1,
    )


class Lock:
    """Four states in a row; the right one of three actions pays 1 and leads on, any other ends the episode."""

    LENGTH = 4

    def __init__(self, seed: int) -> None:
        self.keys = np.random.default_rng(seed).integers(0, 3, self.LENGTH)
        self.place = 0

    def obs(self) -> np.ndarray[Any, Any]:
        places: np.ndarray[Any, Any] = np.eye(self.LENGTH + 1, dtype=np.float32)[:, : self.LENGTH]
        return places[[self.place]]

    def step(self, action: int) -> SimpleNamespace:
        right = action == self.keys[self.place]
        self.place += 1
        ended = not right or self.place == self.LENGTH
        final = self.obs()
        if ended:
            self.place = 0
        no = np.zeros(1, bool)
        reward = np.array([float(right)], np.float32)
        return SimpleNamespace(
            obs=self.obs(), final_obs=final, reward=reward, terminated=no | ended, truncated=no, died=no
        )


@pytest.mark.parametrize("parts_off", [False, True])
def test_it_opens_a_lock_that_chance_opens_once_in_81_tries(parts_off: bool) -> None:
    config = RainbowConfig(hidden_dim=32, n_step=3, v_min=0.0, v_max=5.0, lr=3e-3, target_every=20, sigma0=0.5)
    if parts_off:
        config = replace(
            config, double=False, dueling=False, atoms=1, noisy=False, prioritised=False, epsilon_steps=300
        )
    states = spaces.Box(0, 1, (Lock.LENGTH,), np.float32)
    agent = config.make(AgentSpec(states, ACTIONS, IdentityConfig(), NoChange()))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its products are too small to share out
    lock = Lock(seed=1)
    agent.begin(obs := lock.obs())
    for step in range(500):
        action = agent.act(obs, explore=True) if step > 50 else agent.random_actions(1)
        outcome: Any = lock.step(int(action[0]))
        agent.observe(action, outcome)
        obs = outcome.obs
        if step > 50:
            agent.update()
    torch.set_num_threads(threads)
    lock.place = 0
    rewards = [float(lock.step(int(agent.act(lock.obs(), explore=False)[0])).reward[0]) for _ in range(Lock.LENGTH)]
    assert rewards == [1.0] * Lock.LENGTH
