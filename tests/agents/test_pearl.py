"""PEARL as an agent: its latents, what it collects, meta-batches, arms, resume, compilation, refusals."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlrep.agents.pearl import PEARL
from rlrep.contract.meta import Job, Stage, Trajectory
from rlrep.heads import InstanceContrast, TrajectoryContrast
from rlrep.nn import Gaussians, MLPEncoderConfig, product
from rlrep.replay import Transitions
from tests.runs import differences

from .pearl_rig import ACTIONS, HORIZON, SMALL, STATES, TASKS, Pull, make_pearl, random_episode
from .rainbow_rig import parameters

NOISE = np.array([0.5, -1.0], np.float32)
OBS = np.random.default_rng(0).standard_normal((4, STATES)).astype(np.float32)
LATENT = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
TASK: Any = SimpleNamespace(vector=(7.0, 8.0), name="x", parameters={})


def learned_metrics(agent: PEARL) -> dict[str, float]:
    return {name: value for name, value in agent.metrics().items() if not name.startswith("perf/")}


def contexts(agent: PEARL, episode: Trajectory) -> Transitions:
    return agent._context_of([episode])


def test_acting_by_the_mean_and_by_samples_differ() -> None:
    agent = make_pearl()
    noise = np.random.default_rng(2).standard_normal((4, ACTIONS)).astype(np.float32)
    mean = agent.act(OBS, LATENT)
    assert np.array_equal(mean, agent.act(OBS, LATENT)) and mean.shape == (4, ACTIONS)
    assert np.allclose(mean, agent.act(OBS, LATENT, np.zeros_like(noise)), atol=1e-6)
    sampled = agent.act(OBS, LATENT, noise)
    assert np.abs(sampled - mean).min() > 1e-3 and np.abs(sampled).max() < 1
    assert np.array_equal(sampled, agent.act(OBS, LATENT, noise))
    assert not np.array_equal(mean, agent.act(OBS, LATENT + 1)), "the latent counts"


def test_a_training_latent_is_the_priors_until_the_task_has_a_context() -> None:
    agent = make_pearl(filled=False)
    assert np.array_equal(agent.train_latent(1, NOISE, informed=True), NOISE)
    agent.observe(1, random_episode(0), context=True)
    agent.observe(2, random_episode(0), context=False)
    informed = agent.train_latent(1, NOISE, informed=True)
    assert not np.array_equal(informed, NOISE) and np.array_equal(agent.train_latent(1, NOISE, informed=False), NOISE)
    assert np.array_equal(agent.train_latent(2, NOISE, informed=True), NOISE)
    agent.begin(Job(1, ()))
    assert np.array_equal(agent.train_latent(1, NOISE, informed=True), NOISE)
    assert not agent.ready()


def test_a_test_latent_is_drawn_from_the_product_over_all_transitions_seen() -> None:
    agent = make_pearl()
    first, second = random_episode(5, 3), random_episode(6, 8)
    assert np.array_equal(agent.test_latent(TASK, [], NOISE), NOISE)
    assert agent.nets.context is not None
    with torch.no_grad():
        each = [agent.nets.context(contexts(agent, episode)) for episode in (first, second)]
        belief = product(Gaussians(*(torch.cat(part, 1) for part in zip(*each, strict=True))))
    expected = (belief.mean + belief.var.sqrt() * torch.from_numpy(NOISE))[0].numpy()
    for episodes in ([first, second], [second, first]):
        assert np.allclose(agent.test_latent(TASK, episodes, NOISE), expected, atol=1e-6)
    assert not np.allclose(agent.test_latent(TASK, [first], NOISE), expected, atol=1e-3)
    shown = replace(first, reward=first.reward + 1)
    assert np.array_equal(agent.test_latent(TASK, [shown], NOISE), agent.test_latent(TASK, [first], NOISE))
    assert not np.array_equal(
        agent.test_latent(TASK, [replace(first, context_reward=first.reward)], NOISE),
        agent.test_latent(TASK, [first], NOISE),
    )


def test_beliefs_about_several_contexts_are_those_about_each() -> None:
    agent = make_pearl()
    state = agent.state()
    episodes = [random_episode(k, 5) for k in range(3)]
    mean, var = agent.beliefs(episodes) or (None, None)
    assert mean is not None and var is not None and mean.shape == var.shape == (3, 2) and (var > 0).all()
    for episode, one in zip(episodes, mean, strict=True):
        latent = agent.test_latent(TASK, [episode], np.zeros(2, np.float32))
        assert np.allclose(one, latent, atol=1e-6)
    assert differences(agent.state(), state) == []


def test_a_recurrent_belief_depends_on_the_order_and_a_sets_does_not() -> None:
    for kind, matters in (("set", False), ("recurrent", True)):
        agent = make_pearl(replace(SMALL, context=kind))  # type: ignore[arg-type]
        context = contexts(agent, random_episode(3))
        fields = (context.obs, context.action, context.reward, context.next_obs)
        turned = agent.nets.posterior(Transitions(*(field.flip(1) for field in fields)))
        straight = agent.nets.posterior(context)
        assert torch.allclose(turned.mean, straight.mean, atol=1e-6) is not matters
        assert agent.nets.context is not None
        assert agent.nets.context(context).mean.shape == ((1, 1, 2) if matters else (1, 12, 2))


@pytest.mark.parametrize("kind", ["set", "recurrent"])
def test_next_observations_count_where_asked_for(kind: Any) -> None:
    for shown in (False, True):
        agent = make_pearl(replace(SMALL, context=kind, context_next_obs=shown))
        context = contexts(agent, random_episode(3))
        other = replace(context, next_obs=context.next_obs + 1)
        assert torch.equal(agent.nets.posterior(context).mean, agent.nets.posterior(other).mean) is not shown


def test_a_meta_batch_holds_different_tasks_and_at_most_as_many_as_there_are() -> None:
    agent, drawn = make_pearl(), Counter[int]()
    for _ in range(300):
        found = agent._sample().tasks
        assert found is not None and len(set(found.tolist())) == 3
        drawn.update(found.tolist())
    assert set(drawn) == set(range(TASKS)) and max(drawn.values()) - min(drawn.values()) < 60
    few = make_pearl(replace(SMALL, meta_batch=16))
    tasks = few._sample().tasks
    assert tasks is not None and sorted(tasks.tolist()) == list(range(TASKS)) and few.meta_batch == TASKS
    line = "4 training tasks, 4 in an update (agent.meta_batch=16 is more than there are), contexts of 6 transitions"
    assert line in few.describe()
    assert "4 training tasks, 3 in an update, contexts of 6 transitions" in agent.describe()
    few.update()


def test_tasks_that_have_lost_their_context_are_left_out() -> None:
    agent = make_pearl()
    agent.begin(Job(2, ()))
    assert agent.ready()
    for _ in range(30):
        found = agent._sample().tasks
        assert found is not None and sorted(found.tolist()) == [0, 1, 3]
    agent.begin(Job(0, ()))
    assert not agent.ready()


def test_what_an_iteration_collects() -> None:
    agent = make_pearl(
        replace(SMALL, tasks_per_iteration=3, prior_steps=40, posterior_steps=0, extra_steps=60), filled=False
    )
    first = Stage(30, informed=False, context=True)
    assert agent.plan(0, 30) == [Job(task, (first,)) for task in range(TASKS)]
    seen: set[tuple[int, ...]] = set()
    for iteration in range(1, 20):
        jobs = agent.plan(iteration, 30)
        chosen = tuple(job.task for job in jobs)
        assert len(set(chosen)) == 3 and jobs == agent.plan(iteration, 30)
        assert all(
            job.stages == (Stage(40, informed=False, context=True), Stage(60, informed=True, context=False))
            for job in jobs
        )
        seen.add(chosen)
    assert len(seen) > 5 and set().union(*seen) == set(range(TASKS))
    all_three = make_pearl(replace(SMALL, posterior_steps=5), filled=False).plan(1, 0)
    assert [stage.informed for stage in all_three[0].stages] == [False, True, True]
    assert [stage.context for stage in all_three[0].stages] == [True, True, False] and len(all_three) == TASKS


def test_an_oracle_is_given_the_task() -> None:
    agent = make_pearl(replace(SMALL, context="oracle", latent_dim=5))
    assert agent.latent_dim == 2 and agent.train_latent(3, NOISE, informed=False).tolist() == [3.0, -1.0]
    assert agent.test_latent(TASK, [], NOISE).tolist() == [7.0, 8.0] and agent.beliefs([random_episode(0)]) is None
    agent.update()
    assert agent._last is not None
    batch, _ = agent._last
    given = agent.step.given(batch)
    assert batch.context is None and given is not None and batch.tasks is not None
    assert given.tolist() == [[float(task), -1.0] for task in batch.tasks.tolist()]
    assert not any(name.startswith("context/") for name in agent.metrics())


def test_without_a_context_the_agent_knows_the_observation_only() -> None:
    agent = make_pearl(replace(SMALL, context="none"))
    assert agent.latent_dim == 0 and agent.beliefs([random_episode(0)]) is None
    assert agent.act(OBS, np.zeros((4, 0), np.float32)).shape == (4, ACTIONS)
    assert agent.test_latent(TASK, [random_episode(0)], np.zeros(0, np.float32)).shape == (0,)
    before = parameters(agent)
    agent.update()
    assert not any(name.startswith(("context", "target_context")) for name in before)
    assert any(not torch.equal(before[name], after) for name, after in parameters(agent).items())


VARIANTS: dict[str, tuple[Any, Any]] = {
    "set": (SMALL, {"pull": Pull()}),
    "recurrent": (replace(SMALL, context="recurrent", context_draw="window"), {}),
    "original": (replace(SMALL, value="v", alpha_lr=0.0), {}),
    "oracle": (replace(SMALL, context="oracle"), {}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_resume_is_bit_exact(name: str) -> None:
    config, aux = VARIANTS[name]
    agent = make_pearl(config, aux=aux)
    for _ in range(3):
        agent.update()
    other = make_pearl(config, aux=aux, seed=5, filled=False)
    ring = agent.rings["transitions"]
    other.rings["transitions"].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(agent.state())
    for step in range(3):
        for each in (agent, other):
            each.update()
            each.observe(step, random_episode(90 + step), context=True)
        first, second = (each.train_latent(1, NOISE, informed=True) for each in (agent, other))
        assert np.array_equal(first, second)
    assert learned_metrics(agent) == learned_metrics(other)
    assert differences(agent.state(), other.state()) == []


def test_metrics_are_means_and_reading_them_changes_nothing() -> None:
    agent, silent = (make_pearl(aux={"pull": Pull()}) for _ in range(2))
    for _ in range(3):
        agent.update()
        silent.update()
        assert agent.metrics()["aux/pull/grad_ratio_encoder"] > 0
    values = silent.metrics()
    assert {"loss/critic", "loss/actor", "context/kl", "context/std", "context/effective_rank"} <= set(values)
    assert differences(parameters(agent), parameters(silent)) == []
    assert "loss/critic" not in silent.metrics()


def test_nonfinite_terms_are_named() -> None:
    agent = make_pearl()
    agent.update()
    assert agent.nonfinite() == []
    agent.rings["transitions"].columns["reward"].fill_(torch.inf)
    agent.update()
    assert "loss/critic" in agent.nonfinite() and "context/kl" not in agent.nonfinite()
    assert agent.last_batch()["reward"].isinf().all()


@pytest.mark.parametrize("context", ["set", "recurrent"])
def test_bf16_runs_the_same_update_coarsely(context: Any) -> None:
    config = replace(SMALL, context=context)
    exact, coarse = (make_pearl(replace(config, precision=p), aux={"pull": Pull()}) for p in ("float32", "bf16"))
    exact.update()
    coarse.update()
    ours, theirs = exact.metrics(), coarse.metrics()
    assert theirs["loss/critic"] == pytest.approx(ours["loss/critic"], rel=0.05)
    assert theirs["loss/critic"] != ours["loss/critic"]
    assert theirs["context/kl"] == pytest.approx(ours["context/kl"], rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in coarse.nets.state_dict().values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_compiled_update_equals_an_eager_one(name: str) -> None:
    config, aux = VARIANTS[name]
    eager, compiled = (make_pearl(config, aux=aux, compile=mode) for mode in ("off", "default"))
    for _ in range(4):
        eager.update()
        compiled.update()
    ours, theirs = parameters(eager), parameters(compiled)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-5, rtol=1e-4)


GRU = replace(SMALL, context="recurrent", context_draw="window")
LONG = "two disjoint windows of 11 transitions are longer than the episodes (20 steps): set aux.pull.window lower"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aux": {"pull": Pull(length=11)}}, LONG),
        ({"aux": {"pull": Pull(length=21, disjoint=False)}}, "a window of 21 transitions are longer than the episodes"),
        (
            {"config": replace(SMALL, capacity=39)},
            "agent.capacity=39 does not hold an episode of 20 steps of each of the 3 tasks",
        ),
        ({"space": spaces.Discrete(3)}, "needs continuous actions in [-1, 1]"),
        ({"space": spaces.Box(-2, 2, (2,), np.float32)}, "needs continuous actions in [-1, 1]"),
        ({"encoder": MLPEncoderConfig(8, 6)}, "choose encoder=identity"),
        ({"aux": {"curl": InstanceContrast()}}, "aux=curl is for observations; this agent takes heads on contexts"),
        ({"config": replace(SMALL, context="none"), "aux": {"pull": Pull()}}, "aux=pull has no context encoder"),
        ({"config": replace(SMALL, context="oracle"), "aux": {"pull": Pull()}}, "with context=oracle"),
        ({"tasks": 1, "aux": {"pull": Pull()}}, "aux=pull tells tasks apart, and there is only one"),
        (
            {"config": GRU, "aux": {"pull": Pull(ordered=False, disjoint=False)}},
            "agent.context=recurrent reads windows in their order: set aux.pull.ordered=true",
        ),
        (
            {"config": GRU, "aux": {"tcl": TrajectoryContrast(positives="per_transition")}},
            "aux.tcl.positives=per_transition needs a Gaussian per transition: choose agent.context=set",
        ),
        ({"config": replace(SMALL, critic_to_context=False, kl_weight=0.0)}, "nothing trains the context encoder"),
    ],
)
def test_misfits_are_refused_in_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        make_pearl(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_just_fits_is_taken() -> None:
    assert HORIZON == 20
    make_pearl(aux={"pull": Pull(length=10)})
    make_pearl(aux={"pull": Pull(length=99, disjoint=False, ordered=False, positives="same_task")})
    make_pearl(replace(SMALL, context_draw="window", context_size=20))
    make_pearl(tasks=1).update()


def test_a_context_that_is_a_window_is_at_most_what_explores() -> None:
    wide = replace(SMALL, context_draw="window", context_size=41)
    assert make_pearl(replace(wide, prior_steps=21)).config.context_size == 2 * HORIZON
    assert make_pearl(replace(wide, prior_steps=41)).config.context_size == 41
    assert make_pearl(replace(SMALL, context_size=21)).config.context_size == 21
