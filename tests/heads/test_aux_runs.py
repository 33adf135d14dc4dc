"""Every head by its name, from the command line to the metrics it logs."""

import math
from pathlib import Path

import pytest

from rlrep.settings import groups
from tests.runs import lines, metrics, run

OBJECTIVES = {"hard_negative": "toy_state", "mochi": "toy_state", "cacr": "toy_pixels"}
"""An objective of two views, one of a queue, one of several views, and what they are run on."""
SHORT = ("train.agent_steps=24", "train.eval_every=0", "train.log_every=12")
RUNS = {
    "temporal": ("env=toy_pixels", "aux.temporal.mask_within=2"),
    "sup_con_return": ("env=toy_state",),
    "byol": ("env=toy_pixels",),
    "directpred": ("env=toy_state",),
    "barlow_twins": ("env=toy_pixels",),
    "vicreg": ("env=toy_state",),
    "autoencoder": ("env=toy_pixels", "encoder.strides=[2,1]", "aux.autoencoder.strides=[2,1]"),
    "self_prediction": ("env=toy_state", "aux.self_prediction.steps=2"),
    "latent_contrast": ("env=toy_pixels", "agent=mrq", "agent.target_every=4"),
    "video_moco": ("env=toy_pixels", "aux.video_moco.queue_size=20"),
    "comatch_return": ("env=toy_state",),
    "trajectory_contrast": ("env=toy_pixels", "aux.trajectory_contrast.window=3"),
    "tcl_published": ("env=toy_state", "aux.tcl_published.window=4"),
}
OF_TASKS = ("ccm", "focal")


@pytest.mark.parametrize("name", RUNS)
def test_head_runs_and_logs_its_health(name: str, tmp_path: Path) -> None:
    assert run(tmp_path / "x", f"aux={name}", *SHORT, *RUNS[name]) == 0
    row = metrics(tmp_path / "x")[-1]
    health = {key.removeprefix(f"aux/{name}/"): value for key, value in row.items() if key.startswith(f"aux/{name}/")}
    assert {"loss", "grad_ratio_encoder"} < set(health) and len(health) >= 4
    assert all(math.isfinite(value) for value in health.values())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective_of_curl_runs(objective: str, tmp_path: Path) -> None:
    assert (
        run(tmp_path / "x", f"env={OBJECTIVES[objective]}", "aux=curl", f"aux.curl.objective={objective}", *SHORT) == 0
    )
    assert math.isfinite(metrics(tmp_path / "x")[-1]["aux/curl/accuracy"])


def test_every_head_is_run() -> None:
    """Here, or in the tests of SAC and Rainbow; heads that tell tasks apart in those of agents for several."""
    assert set(groups.names("aux")) == {*RUNS, *OF_TASKS, "none", "curl", "curl_weak", "return_contrast"}


def test_objectives_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, answer in (("objective=simclr", "nt_xent"), ("negatives=queue", "info_nce")):
        assert run(tmp_path / "x", "env=toy_state", "aux=curl", f"aux.curl.{word}") != 0
        found = capsys.readouterr()
        assert [answer in line for line in lines(found.out + found.err)] == [True]


@pytest.mark.parametrize("name", OF_TASKS)
def test_heads_that_tell_tasks_apart_say_so(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "x", "env=toy_state", f"aux={name}") != 0
    found = capsys.readouterr()
    assert [f"aux.{name}" in line and "meta-RL" in line for line in lines(found.out + found.err)] == [True]
