"""Runs in lockstep: equal to runs alone, resumed either way, and none of them ends another."""

import io
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
import torch

from rlrep.agents.fleet import Joint
from rlrep.config.compose import compose_run
from rlrep.envs.vector import pool
from rlrep.loops import fleet
from rlrep.loops.fleet import Fleet, Member
from rlrep.loops.online import Online
from rlrep.loops.training import Training
from rlrep.process.signals import StopRequest
from rlrep.record.checkpoint import Checkpoints
from tests.runs import TINY, evaluations, metrics, run

from .test_meta_runs import POINT

SHORT = (
    *("env=toy_state", "aux=curl", "env.workers=inline", "train.eval_every=0", "compile=off"),
    *("train.agent_steps=24", "train.init_steps=8", "train.checkpoint_every=10", "train.log_every=2"),
)


def words(seed: int, *more: str) -> tuple[str, ...]:
    """Return those of a short run, whose later words count."""
    every = (*SHORT, f"seed={seed}", f"agent.lr={1e-3 * (1 + seed)}", *more)
    return tuple({word.partition("=")[0]: word for word in every}.values())


def member(folder: Path, seed: int, *more: str) -> Member:
    composed = compose_run([*TINY, *words(seed, *more), f"out={folder / str(seed)}"], ())
    return Member(Training(composed.config), composed.tree, io.StringIO(), "the same command")


def train(*members: Member, size: int | Literal["auto"] = "auto", stop: StopRequest | None = None) -> list[int | None]:
    """Train a fleet and return its exit codes, as they are told."""
    told: dict[Member, int | None] = {}
    Fleet(size, stop or StopRequest(), lambda member: told.update({member: member.code})).run(members)
    return [told[member] for member in members]


def lines(member: Member) -> list[str]:
    assert isinstance(member.log, io.StringIO)
    return member.log.getvalue().splitlines()


def said(member: Member) -> str:
    return lines(member)[-1]


def newest(folder: Path, seed: int) -> int:
    manifest = Checkpoints(folder / str(seed) / "checkpoints").latest()
    assert manifest is not None
    return manifest.step


def assert_alike(folder: Path, other: Path, seed: int) -> None:
    """Compare what two runs have logged, up to rounding in single precision."""
    ours, theirs = metrics(folder / str(seed)), metrics(other / str(seed))
    assert [row.keys() for row in ours] == [row.keys() for row in theirs] and len(ours) > 5
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_fleet_is_stopped_and_goes_on_alone_and_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet_of, alone = tmp_path / "fleet", tmp_path / "alone"
    stop, count = StopRequest(), Online.count

    def stopping(work: Online) -> None:
        count(work)
        if work.counters.agent_steps == 15:
            stop.signal_number = 15

    with monkeypatch.context() as patch:
        patch.setattr(Online, "count", stopping)
        assert train(member(fleet_of, 0), member(fleet_of, 1), stop=stop) == [143, 143]
    assert [newest(fleet_of, seed) for seed in range(2)] == [15, 15]
    assert run(fleet_of / "0", *words(0)) == 0
    assert train(member(fleet_of, 1), member(fleet_of, 2)) == [0, 0]
    assert train(member(fleet_of, 0), member(fleet_of, 1)) == [0, 0], "those that are finished say so"
    for seed in range(3):
        assert run(alone / str(seed), *words(seed)) == 0
        assert_alike(fleet_of, alone, seed)


def test_families_are_collected_by_each_and_learnt_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of them owes more updates than the other, for which that one waits."""
    joined, make, fleet_of, alone = list[int](), Joint._fleet, tmp_path / "fleet", tmp_path / "alone"

    def watching(joint: Joint, learners: Any) -> Any:
        joined.append(len(learners))
        return make(joint, learners)

    monkeypatch.setattr(Joint, "_fleet", watching)
    family = (*POINT, "aux=trajectory_contrast", "aux.trajectory_contrast.window=4", "train.eval_every=25")
    more = [("agent.extra_steps=10",), ("agent.extra_steps=20", "agent.lr=1e-3")]
    assert train(*(member(fleet_of, seed, *family, *more[seed]) for seed in range(2))) == [0, 0]
    assert joined and set(joined) == {2}
    for seed in range(2):
        assert run(alone / str(seed), *words(seed, *family, *more[seed])) == 0
        assert_alike(fleet_of, alone, seed)
        scores = [[float(row["return"]) for row in evaluations(where / str(seed))] for where in (fleet_of, alone)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-3)


class Game(gymnasium.Env[Any, Any]):
    """Shows noise, and pays for the last of its actions."""

    def __init__(self, actions: int) -> None:
        self.observation_space, self.last = gymnasium.spaces.Box(-1, 1, (3,)), actions - 1
        self.action_space = gymnasium.spaces.Discrete(actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return self.reset()[0], float(action == self.last), False, False, {}


def test_different_games_share_a_fleet_and_go_on_alone_and_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for actions in (2, 3, 5):
        gymnasium.register(f"Game{actions}-v0", lambda actions=actions, **_: Game(actions), max_episode_steps=6)
    stop, joined, make = StopRequest(), list[int](), Joint._fleet

    def watching(joint: Joint, learners: Any) -> Any:
        joined.append(sum(learner.nets.head.actions for learner in learners))
        if learners[0].updates == 5:
            stop.signal_number = 15
        return make(joint, learners)

    monkeypatch.setattr(Joint, "_fleet", watching)
    games = [("env=gym", f"env.id=Game{actions}-v0", "agent=rainbow", "aux=return_contrast") for actions in (2, 3, 5)]
    assert train(*(member(tmp_path, seed, *games[seed]) for seed in range(2)), stop=stop) == [143, 143]
    assert set(joined) == {5} and run(tmp_path / "0", *words(0, *games[0])) == 0
    assert train(*(member(tmp_path, seed, *games[seed]) for seed in (1, 2))) == [0, 0]
    assert set(joined) == {5, 8}


def test_what_ends_one_run_leaves_the_others_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = Online.observe

    def breaking(work: Online) -> None:
        if work.length.agent_steps == 25 and work.counters.agent_steps == 12:
            raise RuntimeError("a simulator broke")
        observe(work)

    monkeypatch.setattr(Online, "observe", breaking)
    infinite, broken = member(tmp_path, 0, "agent.lr=1e30"), member(tmp_path, 1, "train.agent_steps=25")
    queued = member(tmp_path, 2, "aux.curl.objective=info_nce", "aux.curl.negatives=queue")
    sound = member(tmp_path, 3)
    assert train(infinite, broken, queued, sound) == [1, 1, 0, 0]
    assert "not finite" in said(infinite) and "the last checkpoint before it is kept" in said(infinite)
    assert said(broken) == "error: RuntimeError: a simulator broke; the last checkpoint is kept"
    assert newest(tmp_path, 1) == 10
    (line,) = (line for line in lines(queued) if "one by one" in line)
    assert (
        line
        == "launcher=fleet: updates of this run are made one by one: aux=curl keeps statistics or memory of its own"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError("CUDA error: an illegal memory access"),
            "error: RuntimeError: CUDA error: an illegal memory access",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "error: out of memory: choose a lower launcher.size"),
    ],
)
def test_a_device_that_fails_costs_one_checkpoint_interval(
    error: Exception, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Joint.update

    def failing(joint: Joint, learners: Any) -> None:
        if learners[0].updates == 10:
            raise error
        update(joint, learners)

    with monkeypatch.context() as patch:
        patch.setattr(Joint, "update", failing)
        first, second = member(tmp_path, 0), member(tmp_path, 1)
        assert train(first, second) == [1, 1]
    assert said(first) == said(second) == f"{line}; the last checkpoint is kept"
    assert newest(tmp_path, 0) == newest(tmp_path, 1) == 10
    assert train(member(tmp_path, 0), member(tmp_path, 1)) == [0, 0]


def test_a_fleet_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "free_bytes", lambda device: 1000)
    first, second = member(tmp_path, 0), member(tmp_path, 1)
    assert train(first, second, size=2) == [1, 1]
    assert said(first) == said(second) and "launcher.size=2: replays of" in said(first)
    assert "choose launcher.size=auto" in said(first)
    with monkeypatch.context() as patch:
        patch.setattr(Joint, "_fleet", lambda *_: pytest.fail("one at a time has nobody to be stacked with"))
        assert train(member(tmp_path, 0), member(tmp_path, 1)) == [0, 0]


def test_as_many_go_together_as_their_own_replays_fit_on_one_pool_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, workers = list[int](), list[Any]()

    def ending(self: Fleet, members: Sequence[Member]) -> None:
        together.append(len(members))
        assert all(member.replay_bytes > 0 for member in members)
        for one in members:
            assert isinstance(one.loop.work, Online)
            workers.extend(one.loop.work.parts.envs._workers)  # type: ignore[attr-defined]
            one.end(0)

    monkeypatch.setattr(pool, "_cores", lambda: 1)
    monkeypatch.setattr(Fleet, "_train", ending)
    monkeypatch.setattr(fleet, "free_bytes", lambda device: 100_000)
    capacities = ("agent.capacity=50", "agent.capacity=5000", "agent.capacity=60")
    train(*(member(tmp_path, seed, capacity, "env.workers=process") for seed, capacity in enumerate(capacities)))
    assert together == [2, 1], "the second alone is more than all the memory"
    assert len(workers) == 3 and len(set(workers)) == 2 and not any(worker.alive for worker in workers)


def test_a_run_that_has_ended_leaves_its_memory_to_those_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents, join = list[weakref.ref[Any]](), Fleet._join

    def watching(self: Fleet, member: Member) -> None:
        join(self, member)
        assert isinstance(member.loop.work, Online) and not any(agent() for agent in agents)
        agents.append(weakref.ref(member.loop.work.parts.agent))

    monkeypatch.setattr(Fleet, "_join", watching)
    assert train(*(member(tmp_path, seed, "train.agent_steps=10") for seed in range(2)), size=1) == [0, 0]
    assert len(agents) == 2
