"""Run folders that somebody else made: small real ones, and the means to make them hostile."""

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rlrep.commands import pretrain as command
from rlrep.loops.online import Online
from tests.runs import run
from tests.ssl.ssl_rig import SMALL

WORDS = ("env=toy_state", "aux=none")
PRETRAIN = (*SMALL, "method=simclr", "train.updates=2", "train.evaluations=1")
Tensors = dict[str, torch.Tensor]


def make_run(out: Path) -> Path:
    """Train and stop at step 47, which leaves checkpoints of steps 40 and 47 with their replay."""
    with pytest.MonkeyPatch.context() as patch:
        step = Online.step

        def interrupted(work: Online) -> bool:
            due = step(work)
            if work.counters.agent_steps == 47:
                signal.raise_signal(signal.SIGTERM)
            return due

        patch.setattr(Online, "step", interrupted)
        assert run(out, *WORDS) == 143
    return out


def make_pretraining(out: Path) -> Path:
    """Pretrain for two updates."""
    state = torch.get_rng_state()
    try:
        assert command.main([*PRETRAIN, f"out={out}"]) == 0
    finally:
        torch.set_rng_state(state)
    return out


def newest(folder: Path) -> Path:
    """Return the newest checkpoint of a run."""
    return max((folder / "checkpoints").glob("0*_step_*"))


def edit_yaml(path: Path, change: Callable[[Any], None]) -> None:
    """Change a config."""
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def put(tree: dict[str, Any], path: str, value: object) -> None:
    """Set a value by dotted path, making what is on the way."""
    *parents, leaf = path.split(".")
    for key in parents:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[leaf] = value


def forge(checkpoint: Path, change: Callable[[Any, Tensors], None]) -> None:
    """Change a checkpoint's state and tensors, and make its hashes right again."""
    state, tensors = json.loads((checkpoint / "state.json").read_text()), load_file(checkpoint / "tensors.safetensors")
    change(state, tensors)
    (checkpoint / "state.json").write_text(json.dumps(state))
    save_file(tensors, checkpoint / "tensors.safetensors")
    seal(checkpoint)


def forge_manifest(checkpoint: Path, change: Callable[[Any], None]) -> None:
    """Change what a checkpoint says of itself, and make its hash right again."""
    body = json.loads((checkpoint / "manifest.json").read_text())["body"]
    change(body)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps({"sha256": digest, "body": body}))


def seal(checkpoint: Path) -> None:
    """Make a checkpoint's hashes right again."""

    def change(body: Any) -> None:
        body["files"] = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in body["files"]}

    forge_manifest(checkpoint, change)


def listing(place: Path) -> dict[str, str]:
    """Return every file below a folder with the hash of what is in it; locks and byte code aside."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != ".lock" and "__pycache__" not in path.parts
    }


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command complained of, which is one line that a screen can show."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].isprintable(), lines
    return lines[0]
