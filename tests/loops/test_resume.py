"""Exact resume: train N equals train k, stop, resume to N, bit for bit on a CPU, however it was stopped."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlrep.loops.loop import Work
from rlrep.loops.online import Online
from tests.runs import differences, evaluations, final_state, metrics, replay, run, start

PREDICTING = "[autoencoder,byol,directpred,self_prediction]"
DECORRELATING = "[barlow_twins,sup_con_return,temporal,trajectory_contrast,vicreg]"
QUEUE = ("aux.curl.objective=mochi", "aux.curl.queue_size=100", "aux.curl.hardest=20", "aux.curl.mask_same_return=true")


def assert_equal_runs(left: Path, right: Path) -> None:
    """Compare everything but the clock: logs, parameters, optimisers, random streams, environments, replay."""
    assert metrics(left) == metrics(right)
    assert evaluations(left) == evaluations(right)
    assert differences(final_state(left), final_state(right)) == []
    assert differences(replay(left), replay(right)) == []


def interrupt(patch: pytest.MonkeyPatch, kind: type[Work], reached: Callable[[Any], bool]) -> None:
    """Let SIGTERM come once the next run has `reached` a place."""
    step = kind.step

    def interrupted(work: Any) -> bool:
        due = step(work)
        if reached(work):
            signal.raise_signal(signal.SIGTERM)
        return due

    patch.setattr(kind, "step", interrupted)


def assert_resumes(folder: Path, words: tuple[str, ...], kind: Any, *places: Callable[[Any], bool]) -> Path:
    """Compare a run from beginning to end with one that is stopped at each place. Returns its folder."""
    whole, parts = folder / "whole", folder / "parts"
    assert run(whole, *words) == 0
    for reached in places:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, kind, reached)
            assert run(parts, *words) == 143
    assert run(parts, *words) == 0
    assert_equal_runs(whole, parts)
    return parts


def at_step(agent_steps: int) -> Callable[[Any], bool]:
    return lambda work: bool(work.counters.agent_steps == agent_steps)


@pytest.mark.parametrize(
    ("env", "aux"),
    [
        ("toy_pixels", "none"),
        ("toy_state", "[curl,return_contrast]"),
        *((env, aux) for env in ("toy_pixels", "toy_state") for aux in (PREDICTING, DECORRELATING)),
    ],
)
def test_resume_is_exact(env: str, aux: str, tmp_path: Path) -> None:
    """Stopped while acting at random, with a full replay ahead, just before the end."""
    words = (f"env={env}", f"aux={aux}", "checkpoint.keep_replay=true")
    parts = assert_resumes(tmp_path, words, Online, at_step(13), at_step(37), at_step(58))
    state = final_state(parts)["agent"]
    assert any("optimiser" in key for key in state), "the state compared holds optimiser moments"
    assert len(metrics(parts)) >= 10


def test_resume_is_exact_with_several_environments_in_processes(tmp_path: Path) -> None:
    words = (
        "env=toy_pixels",
        "aux=[curl,return_contrast,self_prediction]",
        *QUEUE,
        "aux.return_contrast.mask_within=3",
        "env.num_envs=2",
        "env.workers=process",
        "checkpoint.keep_replay=true",
    )
    assert_resumes(tmp_path, words, Online, at_step(34))


def test_the_same_command_twice_computes_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(tmp_path / name, "env=toy_pixels", "aux=[curl,return_contrast]") == 0
    assert_equal_runs(tmp_path / "a", tmp_path / "b")
    assert run(tmp_path / "c", "env=toy_pixels", "aux=[curl,return_contrast]", "seed=1") == 0
    assert metrics(tmp_path / "c") != metrics(tmp_path / "a")


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("env=toy_pixels", "aux=return_contrast")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, *words) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, Online, at_step(47))
        assert run(parts, *words) == 143
    newest = sorted((parts / "checkpoints").glob("*_step_*"))[-1]
    assert newest.name.endswith("_step_47")
    (newest / "tensors.safetensors").write_bytes((newest / "tensors.safetensors").read_bytes()[:-100])
    assert run(parts, *words) == 0
    out = capsys.readouterr().out
    assert "is damaged" in out and "continuing at 40 env steps" in out
    assert_equal_runs(whole, parts)


def wait_for_rows(out: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until a run has logged something."""
    deadline = time.monotonic() + 120
    while not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: int, code: int) -> None:
    out, words = tmp_path / "x", ("env=toy_state", "train.agent_steps=100000", "train.eval_every=0")
    process = start(out, *words)
    wait_for_rows(out, process)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == code, text
    assert "to go on: python -m rlrep.train" in text.splitlines()[-1]
    saved = sorted((out / "checkpoints").glob("*_step_*"))[-1]
    steps = int(saved.name.split("_")[-1])
    again = start(out, *words)
    assert again.stdout is not None
    assert any(line == f"continuing at {steps} env steps\n" for line in iter(again.stdout.readline, ""))
    again.kill()
    again.communicate()


def logged_steps(out: Path) -> int:
    """Return the agent steps of the last whole row of metrics.jsonl."""
    rows = (out / "metrics.jsonl").read_text().split("\n")[:-1] if (out / "metrics.jsonl").exists() else []
    return int(json.loads(rows[-1])["agent_steps"]) if rows else 0


def kill_after(out: Path, process: "subprocess.Popen[str]", agent_steps: int, seconds: float) -> None:
    """Kill -9 once a run has come so far, and some more time has passed. Fails if the run ends before."""
    deadline = time.monotonic() + 300
    while logged_steps(out) < agent_steps:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("env", "aux"), [("toy_pixels", "return_contrast"), ("toy_state", "curl")])
def test_twenty_kills_leave_no_trace(env: str, aux: str, tmp_path: Path) -> None:
    """Kill -9 at random moments, start-up and saving included; the same command each time."""
    words = (
        f"env={env}",
        f"aux={aux}",
        "checkpoint.keep_replay=true",
        "train.agent_steps=3000",
        "train.eval_every=200",
        "train.checkpoint_every=15",
        "train.log_every=10",
        "agent.capacity=400",
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole, *words).wait(timeout=1200) == 0
    draw = random.Random(0)
    for agent_steps in sorted(draw.randrange(2500) for _ in range(16)):
        kill_after(parts, start(parts, *words), agent_steps, draw.uniform(0, 0.2))
    for _ in range(4):
        kill_after(parts, start(parts, *words), 0, draw.uniform(0.1, 4))
    assert start(parts, *words).wait(timeout=1200) == 0
    assert_equal_runs(whole, parts)
