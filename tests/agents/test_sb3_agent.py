"""`agent=sb3_sac` and `agent=sb3_dqn`: SB3's own numbers in rlrep's loop, run folder and exact resume."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from rlrep.config.compose import compose_run
from rlrep.config.make import make_agent
from rlrep.config.simulators import build_envs
from rlrep.envs.toy import ToyState
from rlrep.loops.online import Online
from tests.fakes import FakeEnvs
from tests.loops.test_resume import assert_resumes, at_step
from tests.loops.test_resume_agents import PONG
from tests.runs import evaluations, final_state, lines, metrics, run

SB3 = ("agent=sb3_sac", "env=toy_state", "checkpoint.keep_replay=true")
FRAMES = (
    "agent=sb3_sac",
    "env=toy_pixels",
    "encoder=curl_small",
    "env.size=20",
    "image_size=17",
    "augment=random_crop",
    "aux=curl",
    "train.agent_steps=34",
    "checkpoint.keep_replay=true",
)


def test_it_is_sb3s_sac() -> None:
    """Stepped by the loop's protocol, the same weights as SAC.learn(), bit for bit."""
    options = {"buffer_size": 40, "batch_size": 8, "learning_starts": 10, "device": "cpu", "seed": 11}
    theirs = SAC("MlpPolicy", DummyVecEnv([lambda: ToyState().make(0)]), **options).learn(70)  # type: ignore[arg-type]
    envs = build_envs(ToyState(), [0])
    ours: Any = make_agent("sb3_sac", envs, options={"capacity": 40, "batch_size": 8}, device="cpu", seed=11)
    ours.begin(obs := envs.reset([11]))
    for number in range(1, 71):
        action = ours.random_actions(1) if number <= 10 else ours.act(obs, explore=True)
        envs.step_async(action)
        step = envs.step_wait()
        ours.observe(action, step)
        obs = step.obs
        if number > 10:
            ours.update()
    assert ours.updates == theirs._n_updates == 60
    pairs = zip(ours._model.policy.parameters(), theirs.policy.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("aux", ["none", "[curl,return_contrast]"])
def test_resumes_exactly(tmp_path: Path, aux: str) -> None:
    parts = assert_resumes(tmp_path, (*SB3, f"aux={aux}", "env.num_envs=2"), Online, at_step(34), at_step(52))
    rows, seen = metrics(parts), {key for row in metrics(parts) for key in row}
    assert {"loss/critic", "loss/actor", "sac/alpha"} <= seen and evaluations(parts)[-1]["kind"] == "final"
    assert ("aux/return_contrast/same_return" in " ".join(seen)) == (aux != "none") == ("rep/effective_rank" in seen)
    assert final_state(parts)["agent"]["numbers"]["_n_updates"] == rows[-1]["updates"] == 40


def test_frames_under_a_crop_resume_exactly(tmp_path: Path) -> None:
    parts = assert_resumes(tmp_path, FRAMES, Online, at_step(29))
    assert any("aux/curl/accuracy" in row for row in metrics(parts))


def test_dqn_on_a_game_resumes_exactly(tmp_path: Path) -> None:
    words = [word for word in PONG if not re.search("n_step|resets|discount_schedule", word)]
    assert_resumes(tmp_path, ("agent=sb3_dqn", *words, "aux=return_contrast"), Online, at_step(31))


def test_choices_that_environments_make_for_other_agents_are_left_aside() -> None:
    for words, encoder in (
        (["agent=sb3_dqn", "env=atari_pong"], "sb3"),
        (["agent=sb3_sac", "env=dmc_cheetah", "preset=cpu"], "sb3"),
        (["agent=sb3_sac", "env=toy_state"], "sb3"),
        (["agent=sb3_sac", "env=dmc_cheetah", "encoder=drqv2"], "drqv2"),
        (["env=atari_pong"], "der"),
    ):
        assert compose_run(words).config.choices["encoder"] == encoder, words
    assert compose_run(["agent=sb3_sac", "env=toy_state"]).tree["agent"]["capacity"] == 1_000_000
    assert compose_run(["agent=sb3_sac", "env=dmc_cheetah"]).config.choices["augment"] == "random_crop"


def test_a_lost_worker_leaves_no_transition_of_its_last_step() -> None:
    envs = FakeEnvs(num_envs=2, deaths=(3,))
    agent: Any = make_agent("sb3_sac", envs, aux=["self_prediction"], device="cpu")
    agent.begin(envs.reset())
    for _ in range(5):
        action = agent.random_actions(2)
        envs.step_async(action)
        agent.observe(action, envs.step_wait())
    replay = agent._replay
    assert np.array_equal(replay.observations[2], replay.observations[1])
    assert replay.dones[2].tolist() == replay.timeouts[2].tolist() == [1, 1]
    assert replay._first[3].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("agent=sb3_dqn", "env=toy_state"), "agent=sb3_dqn needs discrete actions"),
        (("agent=sb3_sac", "env=atari_pong"), "agent=sb3_sac needs continuous, bounded actions"),
        (
            ("agent=sb3_sac", "env=point_robot"),
            "env=point_robot is a family of tasks, agent=sb3_sac learns a single one",
        ),
        (("agent=sb3_sac", "env=toy_pixels"), "encoder=sb3 (its NatureCNN) needs frames of 36 pixels or more"),
        (("agent=sb3_sac", "env=toy_state", "compile=default"), "use compile=off"),
        (("agent=sb3_sac", "env=toy_state", "precision=bf16"), "Stable-Baselines3 computes in float32, not bf16"),
        (("agent=sb3_sac", "env=toy_state", "encoder=identity", "aux=curl"), "EncoderExtractor has no parameters"),
        (("agent=sac", "env=toy_state", "encoder=sb3"), "encoder=sb3 is for Stable-Baselines3's agents"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", *words) in (1, 2)
    (said,) = lines(capsys.readouterr().err)
    assert line in said


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", *SB3, "aux=curl", "aux.curl.weight=1e39", "agent.pull=sum") == 1
    (said,) = lines(capsys.readouterr().err)
    assert "update 1: loss/actor, aux/gradient_norm, aux/grad_ratio_encoder not finite" in said
