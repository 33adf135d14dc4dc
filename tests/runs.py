"""Tiny runs for the tests of runs: commands, their folders, and what two runs must have in common."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlrep.commands.train import main
from rlrep.record.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "preset=debug",
    "device=cpu",
    "video=false",
    "logger=none",
    "train.agent_steps=60",
    "train.init_steps=20",
    "train.updates_per_step=1",
    "train.eval_every=25",
    "train.eval_episodes=1",
    "train.log_every=5",
    "train.checkpoint_every=20",
    "agent.batch_size=8",
    "agent.hidden_dim=16",
    "agent.capacity=50",
)
"""Wraps its replay, and crosses several evaluations, log rows and checkpoints."""


def run(out: Path, *words: str) -> int:
    """Train in this process and return the exit code."""
    state = torch.get_rng_state()
    try:
        return main([*TINY, f"out={out}", *words])
    finally:
        torch.set_rng_state(state)


def start(out: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Train in a process of its own."""
    command = [sys.executable, "-m", "rlrep.train", *TINY, f"out={out}", *words]
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=out.parent,
        env={**os.environ, **paths, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def metrics(out: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "wall_seconds" and not k.startswith("perf/")} for row in rows]


def evaluations(out: Path) -> list[dict[str, str]]:
    """Return the rows of eval.csv without what depends on the clock."""
    with open(out / "eval.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "wall_seconds"} for row in csv.DictReader(file)]


def final_state(out: Path) -> Any:
    """Return the state in the newest checkpoint, without what depends on the clock."""
    _, state = Checkpoints(out / "checkpoints").peek()
    del state["counters"]["wall_seconds"], state["logs"]
    return state


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Name every place at which two state trees differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [f"{path}: keys {sorted(map(str, left.keys() ^ right.keys()))}"]
        return [found for key in left for found in differences(left[key], right[key], f"{path}/{key}")]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)) and len(left) == len(right):
        return [
            found for i, pair in enumerate(zip(left, right, strict=True)) for found in differences(*pair, f"{path}/{i}")
        ]
    return [] if _same(left, right) else [path]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and bool(((left == right) | _both_nan(left, right)).all())
        )
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    return bool(left == right) and type(left) is type(right)


def _both_nan(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left != left) & (right != right)


def replay(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the stored rows of every ring, in order, from the newest checkpoint that has them."""
    from safetensors.torch import load_file

    checkpoints = Checkpoints(out / "checkpoints")
    manifest = checkpoints.latest()
    assert manifest is not None
    rows: dict[str, dict[str, torch.Tensor]] = {}
    for name, record in manifest.rings.items():
        parts = [load_file(checkpoints.folder / "chunks" / chunk.file) for chunk in record.chunks]
        joined = {key: torch.cat([part[key] for part in parts]) for key in (parts[0] if parts else {})}
        rows[name] = {key: column[-record.capacity :] for key, column in joined.items()}
    return rows


def lines(text: str, prefix: str = "error:") -> Sequence[str]:
    """Return the lines of an output that start with `prefix`."""
    return [line for line in text.splitlines() if line.startswith(prefix)]
