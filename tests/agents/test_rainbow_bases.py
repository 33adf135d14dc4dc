"""SPR, SR-SPR, BBF and SAC-BBF: what their files compose to, and a short game of each."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrep.agents.rainbow.policy import Policy
from rlrep.config.compose import compose_run
from rlrep.grid.suite import load_suite
from tests.runs import final_state, metrics, run

PUBLISHED: dict[str, dict[str, Any]] = {
    "spr": {
        **{"n_step": 10, "discount": 0.99, "hidden_dim": 256, "noisy": True, "sigma0": 0.5, "target_tau": 1.0},
        **{"lr": 1e-4, "adam_eps": 1.5e-4, "max_norm": 10.0, "target_every": 1, "batch_size": 32, "weight_decay": 0.0},
    },
    "sr_spr": {
        **{"n_step": 10, "hidden_dim": 512, "noisy": False, "epsilon_final": 0.0, "epsilon_steps": 2001},
        **{"target_tau": 0.005, "act_by_target": True, "shared_hidden": True, "target_every": 1},
    },
    "bbf": {
        **{"n_step": 3, "discount": 0.997, "hidden_dim": 2048, "weight_decay": 0.1, "noisy": False, "atoms": 51},
        **{"target_tau": 0.005, "act_by_target": True, "shared_hidden": True, "dueling": True, "double": True},
    },
    "sac_bbf": {
        **{"n_step": 3, "discount": 0.997, "hidden_dim": 2048, "weight_decay": 0.1, "noisy": False, "atoms": 51},
        **{"target_tau": 0.005, "act_by_target": True, "lr": 1e-4, "epsilon_start": 0.0, "epsilon_final": 0.0},
        "policy": Policy(temperature=0.01, updates=160_000),
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_agent_brings_what_was_published(name: str) -> None:
    config = compose_run(["env=atari_pong", f"agent={name}"]).config
    agent: Any = config.agent
    encoder, head = config.encoder, config.aux["self_prediction"]
    assert {option: getattr(agent, option) for option in PUBLISHED[name]} == PUBLISHED[name]
    assert config.choices["augment"] == "shift_intensity" and encoder.trunk == "rescaled"  # type: ignore[attr-defined]
    assert (head.pull, head.weight, head.steps, head.as_replayed) == ("sum", 5.0, 5, True)  # type: ignore[attr-defined]
    resets, ratio = agent.resets, config.train.updates_per_step
    every, keep, updates = {"spr": (None, 1.0, 2), "sr_spr": (40_000, 0.8, 8)}.get(name, (40_000, 0.5, 2))
    assert (resets.every, resets.keep_encoder, resets.keep_head, ratio) == (every, keep, 0.0, updates)
    planned = agent.for_updates(int(98_400 * updates)).resets
    due = [update // 1000 for update in range(0, 98_400 * updates, 1000) if planned.due(update)]
    assert due == [k * 40 for k in range(1, {"spr": 1, "sr_spr": 20}.get(name, 5))], "as many as in the code"
    if name.endswith("bbf"):
        assert [agent.n_step_schedule.horizon(3, since) for since in (0, 5_000, 10_000)] == [10, 5, 3]
        assert agent.discount_schedule.discount(0.997, 0) == pytest.approx(0.97)
        assert (encoder.channels, encoder.blocks) == ((64, 128, 128), 2)  # type: ignore[attr-defined]


SWITCHES = {
    "replay_ratio": {"updates_per_step"},
    "n_step": {"n_step"},
    "target": {"target_every"},
    "network": {"encoder", "sigma0"},
    "views": {"augment"},
    "spr": {"aux", "self_prediction"},
    "greedy": {"noisy", "epsilon_final", "epsilon_steps"},
    "slow_target": {"target_tau", "act_by_target", "encoder_tau", "self_prediction"},
    "head": {"hidden_dim", "shared_hidden", "max_norm"},
    "resets": {"resets"},
    "harder_resets": {"resets"},
    "wide": {"encoder", "hidden_dim"},
    "decay": {"weight_decay"},
    "bbf": {"n_step", "n_step_schedule", "discount", "discount_schedule"},
    "sac_bbf": {"policy", "epsilon_start"},
}


def test_each_arm_of_the_bases_is_the_one_before_it_and_a_switch_more() -> None:
    suite, _ = load_suite("atari100k_bases", None)

    def settings(arm: str) -> dict[str, Any]:
        tree = compose_run(["env=atari_pong", *suite.arms[arm].split()]).tree
        resets = tree["agent"]["resets"]
        named = {**tree["choices"], "agent": None}
        return {**named, **tree["agent"], **tree["aux"], **tree["train"], "resets": resets["every"] and resets}

    assert list(suite.arms) == ["rainbow", *SWITCHES] and len(suite.tasks) == 26
    for before, after in pairwise(suite.arms):
        old, new = settings(before), settings(after)
        changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
        assert changed == SWITCHES[after], after


def test_resets_that_a_run_has_no_room_for_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "env=atari_pong", "agent=bbf", "agent.resets.every=500") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: agent.resets.every=500: a run of ") and "\n" not in error


GAME = (
    "env=atari_pong",
    "train.agent_steps=80",
    "train.init_steps=40",
    "train.eval_every=400",
    "env.max_frames=200",
    "agent.capacity=200",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_short_game_learns_finite_numbers_across_resets(name: str, tmp_path: Path) -> None:
    resets = () if name == "spr" else ("agent.resets.every=15",)
    narrow = ("encoder=impala_wide", "encoder.channels=[4,8,8]") if name.endswith("bbf") else ()
    assert run(tmp_path, *GAME, f"agent={name}", *resets, *narrow) == 0
    assert final_state(tmp_path)["agent"]["updates"] == 40
    rows = metrics(tmp_path)
    assert all(np.isfinite(row["loss/rl"]) and row["aux/self_prediction/loss"] > 0 for row in rows if "loss/rl" in row)
    assert any("loss/rl" in row for row in rows)
