"""Prioritised sampling against a slow twin: who may be drawn, how likely, with what weight; ends of strata, resume."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlrep.replay import LaterSteps, Needs, Priority, Replay, ReplaySpec, ReturnLabels, SameReturn, SecondView
from rlrep.replay.weights import WeightTree

from .replay_twin import CPU, Script, Twin, copy_replay, make_script, make_spec

Key = tuple[int, int]
PARTNERS = SameReturn(ReturnLabels("reward_event"))
EXACT = Priority(alpha=1.0, eps=2.0**-20)
"""With priorities that are multiples of 1/16, every weight and every sum is exact."""
ENDS = (0.0, 2.0**-53, 0.5, 1.0 - 2.0**-40)
ALL_ENDS = (*ENDS, 1.0 - 2.0**-53)


@dataclass
class PriorityTwin:
    """Weights by transition in a dict, over a twin that never forgets; draws by a loop."""

    twin: Twin
    config: Priority
    weights: dict[Key, float] = field(default_factory=dict)
    largest: float = 1.0

    def follow(self) -> None:
        """To be called after every step."""
        drawable = self.twin.samplable()
        self.weights = {key: self.weights.get(key, self.largest) for key in drawable}

    def update(self, keys: Sequence[Key], priorities: Sequence[float]) -> None:
        changed: dict[Key, float] = {}
        for key, priority in zip(keys, priorities, strict=True):
            weight = (priority + self.config.eps) ** self.config.alpha
            if key in self.weights and math.isfinite(weight):
                changed[key] = max(weight, changed.get(key, 0.0))
        self.weights.update(changed)
        self.largest = max([self.largest, *changed.values()])

    def row(self, key: Key) -> int:
        spec = self.twin.spec
        return key[0] % spec.steps * spec.num_envs + key[1]

    def draw(self, uniform: Sequence[float]) -> list[Key]:
        ordered = sorted(self.weights, key=self.row)
        total = math.fsum(self.weights.values())
        found = []
        for stratum, u in enumerate(uniform):
            target = (stratum + u) * (total / len(uniform))
            passed = 0.0
            for key in ordered:
                passed += self.weights[key]
                if passed > target:
                    break
            found.append(key)
        return found


def tree_of(replay: Replay) -> WeightTree:
    assert replay._priorities is not None
    return replay._priorities._tree


def numbers(batch_rows: Tensor | None) -> Tensor:
    assert batch_rows is not None
    return batch_rows


def stored_weights(script: Script) -> dict[Key, float]:
    """All positive weights, by the transition that now lies in their row."""
    script.replay.state()  # what has become drawable enters
    spec, head = script.replay.spec, script.twin.head
    weights = tree_of(script.replay).of(torch.arange(spec.steps * spec.num_envs)).tolist()
    found = {}
    for row, weight in enumerate(weights):
        slot, env = divmod(row, spec.num_envs)
        if weight > 0:
            found[head - 1 - (head - 1 - slot) % spec.steps, env] = weight
    return found


def check(script: Script, slow: PriorityTwin, rng: np.random.Generator, *, exact: bool = True) -> None:
    """The same weights, sums, draws for the same numbers, and every field of the batch that the twin expects."""
    tree, weights = tree_of(script.replay), stored_weights(script)
    tolerance = 0.0 if exact else 1e-6
    assert weights == pytest.approx(slow.weights, rel=tolerance, abs=0)
    assert tree._levels[-1].sum().item() == pytest.approx(math.fsum(slow.weights.values()), rel=tolerance, abs=0)
    assert script.replay.can_sample() == bool(slow.weights)
    if not slow.weights:
        return
    uniform = rng.choice(ENDS, 24) if exact else rng.random(24)
    rows = tree.draw(torch.from_numpy(uniform), slow.row(min(slow.weights))).tolist()
    assert rows == [slow.row(key) for key in slow.draw(uniform.tolist())]
    batch = script.replay.sample(16)
    keys = script.keys(batch.action)
    assert numbers(batch.rows).tolist() == [step * script.replay.spec.num_envs + env for step, env in keys]
    for index, key in enumerate(keys):
        want = script.twin.expected(*key)
        np.testing.assert_array_equal(batch.obs[index].numpy(), want.obs)
        np.testing.assert_array_equal(batch.next_obs[index].numpy(), want.next_obs)
        assert batch.reward[index].item() == pytest.approx(want.reward, abs=1e-5)
        assert batch.discount[index].item() == pytest.approx(want.discount, abs=1e-6)
    total = math.fsum(slow.weights.values())
    chances = [len(slow.weights) * slow.weights[key] / total for key in keys]
    importance = [chance**-slow.config.beta for chance in chances]
    want_weight = [weight / max(importance) for weight in importance]
    assert batch.weight is not None and batch.weight.tolist() == pytest.approx(want_weight, rel=1e-5)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    num_envs=st.integers(1, 4),
    n_step=st.integers(1, 20),
    steps=st.integers(20, 40),
    discrete=st.booleans(),
    pixels=st.booleans(),
    end=st.sampled_from([0.0, 0.1, 0.6]),
    death=st.sampled_from([0.0, 0.05]),
    exact=st.booleans(),
    script_of=st.lists(st.sampled_from(["step", "step", "update", "late", "many", "begin", "check"]), max_size=30),
)
def test_weights_and_draws_equal_the_twins(
    seed: int,
    num_envs: int,
    n_step: int,
    steps: int,
    discrete: bool,
    pixels: bool,
    end: float,
    death: float,
    exact: bool,
    script_of: list[str],
) -> None:
    """`late` writes back to a batch drawn earlier, some of it evicted, dropped or drawn twice by now."""
    config = EXACT if exact else Priority(alpha=0.5)
    spec = make_spec(
        num_envs=num_envs,
        steps=steps,
        n_step=n_step,
        frame_stack=2,
        discrete=discrete,
        pixels=pixels,
        priority=config,
    )
    script, rng = make_script(spec, seed=seed, end=end, death=death), np.random.default_rng(seed)
    slow = PriorityTwin(script.twin, config)
    drawn = torch.zeros(1, dtype=torch.int64)
    for word in ["many", *script_of, "check", "many", "late", "check"]:
        if word == "begin":
            script.begin()
        for _ in range({"step": 1, "many": int(rng.integers(2 * steps))}.get(word, 0)):
            script.step()
            slow.follow()  # the real one may fall behind, and then has to catch up
        slow.follow()
        if word == "update" and script.replay.can_sample():
            drawn = numbers(script.replay.sample(12).rows)
        if word in ("update", "late"):
            values = rng.integers(0, 64, len(drawn)) / 16
            values[rng.random(len(drawn)) < 0.05] = rng.choice([np.nan, np.inf])
            script.replay.update_priorities(drawn, torch.from_numpy(values))
            slow.update([divmod(number, num_envs) for number in drawn.tolist()], values.tolist())
        if word == "check":
            check(script, slow, rng, exact=exact)


def filled(priority: Priority, *, num_envs: int = 2, steps: int = 30, run: int = 40) -> tuple[Script, dict[Key, float]]:
    """A replay whose transitions have had random priorities, and their weights."""
    script = make_script(make_spec(num_envs=num_envs, steps=steps, n_step=3, priority=priority), end=0.1, steps=run)
    keys = sorted(script.twin.samplable())
    rows = torch.tensor([step * num_envs + env for step, env in keys])
    generator = torch.Generator().manual_seed(1)
    script.replay.update_priorities(rows, 0.1 + 4 * torch.rand(len(rows), generator=generator) ** 2)
    return script, stored_weights(script)


def test_draws_have_the_chances_of_the_paper() -> None:
    """Over independent batches by chi-square; within one, strata leave each count at most 2 from its expectation."""
    script, weights = filled(Priority(alpha=0.6))
    total = sum(weights.values())
    keys = [key for _ in range(2000) for key in script.keys(script.replay.sample(8).action)]
    expected = {key: len(keys) * weight / total for key, weight in weights.items()}
    statistic = sum((keys.count(key) - want) ** 2 / want for key, want in expected.items())
    assert statistic < len(weights) + 4 * math.sqrt(2 * len(weights))
    one = script.keys(script.replay.sample(4096).action)
    assert set(one) <= set(weights)
    assert max(abs(one.count(key) - 4096 * weight / total) for key, weight in weights.items()) <= 2


def test_alpha_zero_is_uniform() -> None:
    script, weights = filled(Priority(alpha=0.0))
    assert set(weights.values()) == {1.0}
    batch = script.replay.sample(100 * len(weights))
    keys = script.keys(batch.action)
    assert all(abs(keys.count(key) - 100) <= 2 for key in weights)
    assert batch.weight is not None and bool((batch.weight == 1).all())


def test_full_importance_weights_remove_the_bias() -> None:
    """With beta 1 the weighted mean of the rewards is the uniform one; with beta 0 it is not."""
    means = []
    for beta in (0.0, 1.0):
        script, weights = filled(Priority(alpha=1.0, beta=beta))
        value = {key: weight + math.sin(key[0]) for key, weight in weights.items()}
        uniform = sum(value.values()) / len(value)
        batch = script.replay.sample(100_000)
        assert batch.weight is not None
        values = torch.tensor([value[key] for key in script.keys(batch.action)])
        means.append(((values * batch.weight).sum() / batch.weight.sum()).item())
    assert means[1] == pytest.approx(uniform, rel=0.01)
    assert abs(means[0] - uniform) > 0.2 * abs(uniform)


def test_beta_rises_with_what_was_stored() -> None:
    """Linear over `beta_steps` transitions of all environments, those that have left the ring too; resume keeps it."""
    assert [Priority(beta_steps=100).beta_after(count) for count in (0, 50, 100, 200)] == pytest.approx(
        [0.4, 0.7, 1.0, 1.0]
    )
    assert Priority().beta_after(10**9) == 0.4
    script, _ = filled(Priority(beta=0.0, beta_steps=160), num_envs=2, run=40)
    for replay in (script.replay, copy_replay(script.replay)):
        batch = replay.sample(64)
        assert batch.weight is not None and batch.rows is not None and replay._priorities is not None
        weight = replay._priorities._tree.of(batch.rows % (replay.spec.steps * replay.spec.num_envs))
        torch.testing.assert_close(batch.weight, (weight.min() / weight) ** 0.5)


def test_a_stale_write_does_not_reach_the_transition_that_took_the_row() -> None:
    script = make_script(make_spec(num_envs=1, steps=10, n_step=2, priority=EXACT), end=0.0, steps=11)
    rows = numbers(script.replay.sample(32).rows)
    script.run(12)
    script.replay.update_priorities(rows, torch.full((32,), 100.0))
    assert set(stored_weights(script).values()) == {1.0}
    script.run(3)
    assert set(stored_weights(script).values()) == {1.0}, "the largest priority is that of a stored transition"


def test_of_two_priorities_of_one_transition_the_larger_stays() -> None:
    script = make_script(make_spec(num_envs=1, steps=10, priority=EXACT), end=0.0, steps=5)
    rows = torch.tensor([2, 3, 2, 3, 2])
    script.replay.update_priorities(rows, torch.tensor([1.0, 9.0, 4.0, 8.0, 2.0]))
    weights = stored_weights(script)
    assert (weights[2, 0], weights[3, 0]) == (4 + EXACT.eps, 9 + EXACT.eps)


@settings(max_examples=60)
@given(
    size=st.integers(1, 300),
    seed=st.integers(0, 2**16),
    zeros=st.sampled_from([0.0, 0.5, 0.95]),
    scale=st.sampled_from([0.0, 1.0, 8.0]),
)
def test_a_row_of_weight_zero_is_never_drawn(size: int, seed: int, zeros: float, scale: float) -> None:
    """Even by numbers at the ends of the strata, with sums that round."""
    rng = np.random.default_rng(seed)
    weights = np.exp(scale * rng.standard_normal(size)).astype(np.float32) * (rng.random(size) >= zeros)
    weights[rng.integers(size)] = 1.0
    tree, rows = WeightTree(size, CPU), torch.arange(size)
    tree.write(rows, torch.from_numpy(weights), torch.ones(size, dtype=torch.bool))
    edges = [level.view(-1).cumsum(0, dtype=torch.float64) for level in tree._levels]
    near = torch.cat([level / level[-1] for level in edges]).numpy()
    ends = [np.clip(np.nextafter(near, toward), 0.0, ALL_ENDS[-1]) for toward in (0.0, near, 1.0)]
    fallback = int(weights.argmax())
    for uniform in [*rng.choice(np.concatenate(ends), (30, 1)), *(rng.choice(ALL_ENDS, count) for count in (1, 7, 32))]:
        drawn = tree.draw(torch.from_numpy(uniform), fallback)
        assert bool((tree.of(drawn) > 0).all())


def test_a_draw_that_leads_to_no_row_with_weight_falls_back() -> None:
    """A sum over rows without weight stands for what rounding may do."""
    tree = WeightTree(1000, CPU)
    tree.write(torch.tensor([3, 4]), torch.tensor([1.0, 9.0]), torch.tensor([True, False]))
    assert [tree.draw(torch.tensor([u], dtype=torch.float64), 999).item() for u in ENDS] == [3] * 4
    tree._levels[1].view(-1)[1] += 1.0
    tree._levels[2].view(-1)[0] += 1.0
    assert tree.draw(torch.tensor([0.0, 0.0], dtype=torch.float64), 999).tolist() == [3, 999]


def test_a_million_weights_are_summed_exactly() -> None:
    """Weights over seven orders of magnitude, as multiples of 2**-10; then many changes: no drift."""
    size, rng = 1_000_000, np.random.default_rng(0)
    units = np.exp(rng.uniform(0, 16, size)).astype(np.int64)
    tree = WeightTree(size, CPU)
    tree._weights[:size] = torch.from_numpy(units / 1024)
    tree._renew(torch.arange(len(tree._levels[0])))
    for _ in range(200):
        rows = torch.from_numpy(rng.choice(size, 32, replace=False))
        changed = rng.integers(1, 2**23, 32)
        units[rows.numpy()] = changed
        tree.write(rows, torch.from_numpy(changed / 1024).float(), torch.ones(32, dtype=torch.bool))
    prefix = np.cumsum(units)
    assert tree._levels[-1].sum().item() * 1024 == prefix[-1]
    uniform = rng.random(4096)
    drawn = tree.draw(torch.from_numpy(uniform), 0).numpy()
    target = (np.arange(4096) + uniform) * (prefix[-1] / 1024 / 4096)
    assert (drawn == np.searchsorted(prefix / 1024, target, side="right")).all()


@pytest.mark.parametrize("steps", [0, 3, 25, 130])
def test_resumes_bit_for_bit(steps: int) -> None:
    """Also between a draw and its write-back, and with steps that no draw has seen."""
    spec = make_spec(num_envs=3, steps=30, frame_stack=2, n_step=2, priority=Priority())
    needs = {"head": Needs((SecondView(), PARTNERS, LaterSteps((1, 2))))}
    script = make_script(spec, needs, end=0.2, death=0.02, steps=steps)
    rows = numbers(script.replay.sample(16).rows) if script.replay.can_sample() else torch.zeros(1, dtype=torch.int64)
    script.replay.update_priorities(rows, torch.full((len(rows),), 5.0))
    script.step()
    other = copy_replay(script.replay)
    script.followers.append(other)
    for round_ in range(40):
        priorities = torch.rand(len(rows), generator=torch.Generator().manual_seed(round_)) * 3
        script.replay.update_priorities(rows, priorities)
        other.update_priorities(rows, priorities)
        script.step()
        if script.replay.can_sample():
            mine, theirs = script.replay.sample(16), other.sample(16)
            rows = numbers(mine.rows)
            assert torch.equal(rows, numbers(theirs.rows)) and torch.equal(mine.obs, theirs.obs)
            assert mine.weight is not None and theirs.weight is not None and torch.equal(mine.weight, theirs.weight)
            assert torch.equal(mine.pairs["head"][PARTNERS].obs, theirs.pairs["head"][PARTNERS].obs)


def test_saving_changes_nothing() -> None:
    spec = make_spec(num_envs=2, steps=12, n_step=2, priority=Priority())
    scripts = [make_script(spec, end=0.1, death=0.05) for _ in range(2)]
    for _ in range(60):
        for script in scripts:
            script.step()
        scripts[0].replay.state()
        if scripts[0].replay.can_sample():
            rows = [numbers(script.replay.sample(4).rows) for script in scripts]
            assert torch.equal(*rows)
            for script in scripts:
                script.replay.update_priorities(rows[0], rows[0] % 5)


def test_a_million_atari_frames_fit_into_the_memory_that_is_promised() -> None:
    atari = ReplaySpec((1, 84, 84), torch.uint8, 4, (), torch.int64, 1, 1_000_000, 20, priority=Priority())
    needs = {"head": Needs((PARTNERS,))}
    assert Replay(atari, device=CPU, seed=0, needs=needs).nbytes <= 7.2e9


def test_bad_input_is_named() -> None:
    wrong: Any = ({"alpha": -0.1}, {"beta": 1.5}, {"beta_final": math.nan}, {"eps": 0.0})
    for settings_ in wrong:
        with pytest.raises(ValueError, match=next(iter(settings_))):
            Priority(**settings_)
    script = make_script(make_spec(), steps=5)
    with pytest.raises(RuntimeError, match="uniformly"):
        script.replay.update_priorities(torch.zeros(1, dtype=torch.int64), torch.ones(1))
    batch = script.replay.sample(2)
    assert batch.weight is None and batch.rows is None
