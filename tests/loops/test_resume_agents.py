"""Exact resume through the command line of what stands beside SAC: PEARL on a family, Rainbow on a game, MR.Q amid the
stretches between its encoder's phases."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlrep.loops.meta.work import Meta
from rlrep.loops.online import Online
from tests.runs import evaluations, final_state, metrics, run, start

from .test_resume import assert_equal_runs, assert_resumes, at_step, wait_for_rows

META = (
    "env=point_robot",
    "env.horizon=10",
    "env.train_tasks=3",
    "train.agent_steps=110",
    "train.init_steps=10",
    "train.updates_per_step=0.2",
    "train.eval_every=50",
    "agent.capacity=75",
    "agent.context_size=5",
    "agent.meta_batch=2",
    "agent.prior_steps=10",
    "agent.extra_steps=10",
    "checkpoint.keep_replay=true",
)
"""30 steps of three tasks, then twice 40 of two of them, each time 8 updates; the replay wraps and loses tasks."""
GRU = ("agent=pearl_recurrent", "env.workers=process", "agent.posterior_steps=10", "train.eval_policy=stochastic")
PONG = (
    "env=atari_pong",
    "train.agent_steps=48",
    "train.init_steps=16",
    "train.eval_every=100",
    "env.max_frames=160",
    "agent.capacity=40",
    "agent.n_step=3",
    "agent.target_every=10",
    "agent.resets={every: 10, keep_encoder: 0.5}",
    "agent.n_step_schedule={start: 5, updates: 6}",
    "checkpoint.keep_replay=true",
)


def after_update(number: int) -> Callable[[Any], bool]:
    return lambda work: bool(work.updates == number and work._owed)


def test_pearl_resumes_exactly_amid_collecting_and_amid_learning(tmp_path: Path) -> None:
    parts = assert_resumes(tmp_path, META, Meta, at_step(44), after_update(3), after_update(15))
    rows, learnt = evaluations(parts), final_state(parts)["agent"]
    assert learnt["updates"] == 16 and "context" in {name.split(".")[0] for name in learnt["nets"]}
    assert {row["kind"] for row in rows} == {"periodic", "final"} and len(rows) == 3 * 2 * 3
    assert any("context/kl" in row for row in metrics(parts))


def test_pearl_with_a_gru_and_simulators_in_processes_resumes_exactly(tmp_path: Path) -> None:
    assert_resumes(tmp_path, (*META, *GRU), Meta, at_step(14), after_update(13))


def test_rainbow_on_a_game_resumes_exactly(tmp_path: Path) -> None:
    parts = assert_resumes(tmp_path, PONG, Online, at_step(9), at_step(31))
    assert final_state(parts)["agent"]["updates"] >= 16


def test_mrq_resumes_exactly(tmp_path: Path) -> None:
    words = ("env=toy_state", "agent=mrq", "aux=curl", "agent.target_every=8", "checkpoint.keep_replay=true")
    parts = assert_resumes(tmp_path, words, Online, at_step(13), at_step(37))
    assert any("loss/latent" in row and "loss/critic" in row for row in metrics(parts))


def test_a_killed_pearl_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    words = (*META, "train.agent_steps=830", "train.eval_every=400")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    process = start(parts, *words)
    wait_for_rows(parts, process)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 143, text
    assert run(whole, *words) == run(parts, *words) == 0
    assert_equal_runs(whole, parts)
