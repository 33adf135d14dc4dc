"""`versions.json`: what a result was made with."""

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from rlrep.version import __version__

from .files import replace_file
from .sinks import Guard

SIMULATORS = ("mujoco", "dm_control", "gymnasium", "ale-py", "metaworld")
PACKAGES = ("torch", "numpy", "safetensors", "hydra-core", "omegaconf", "opencv-python-headless", "stable-baselines3")


def collect(device: torch.device) -> dict[str, Any]:
    """Return versions, commit, device and command of this process."""
    return {
        "packages": {"rlrep": __version__, **_versions(PACKAGES)},
        "simulators": _versions(SIMULATORS),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_commit(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "command": command_line(),
    }


def record(folder: Path, device: torch.device, *, at: Mapping[str, int], say: Callable[[str], None]) -> None:
    """Write `versions.json`; a later session of the same run, begun `at` some steps, adds itself under `resumed`.

    A file that cannot be read is written anew, one that cannot be written costs a line: no run needs it.
    """
    path = folder / "versions.json"
    content = now = collect(device)
    first, resumed = _read(path)
    if first and any(at.values()):
        changed = {key: value for key, value in now.items() if value != first.get(key)}
        content = {**first, "resumed": [*resumed, {**at, **changed}]}
    Guard(path.name, say).run(lambda: replace_file(path, json.dumps(content, indent=2) + "\n"))


def _read(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """Return what the first session wrote, and what later ones did; nothing where the file is none of ours."""
    try:
        first = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}, []
    if not isinstance(first, dict):
        return {}, []
    resumed = first.get("resumed")
    return first, resumed if isinstance(resumed, list) else []


def device_name(device: torch.device) -> str:
    """Return the GPU's or the processor's name."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {_cpu_model() or platform.processor() or platform.machine()}"


def command_line() -> str:
    """Return the command of this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"
    return shlex.join([*start.split(), *sys.argv[1:]])


def git_commit() -> str | None:
    """Return the commit of the checkout this code runs from (`-dirty` with local changes), None outside of one."""
    here = Path(__file__).resolve().parent
    if _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit, changes = _git(here, "rev-parse", "HEAD"), _git(here, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changes else commit


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
