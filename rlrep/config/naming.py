"""What identifies a run, and the folder it gets where the command line names none."""

import hashlib
import json
from pathlib import Path

from .config import RunConfig
from .federate_config import FederateConfig
from .overrides import CommandLine
from .pretrain_config import PretrainConfig

NOT_IDENTITY = frozenset(
    {
        "out",
        "root",
        "device",
        "launcher",
        "engine",
        "logger",
        "video",
        "video_format",
        "choices",
        "requested",
        "data.cache",
        "data.cache_path",
        "train.env_timeout",
    }
)
"""Keys, with what is below them, that may change between the sessions of one run."""
_NAMED = frozenset({"env", "agent", "augment", "aux", "preset", "launcher", "logger"})
_PRETRAIN_NAMED = frozenset({"method", "data", "encoder", "preset", "launcher", "logger"})
_FEDERATE_NAMED = _PRETRAIN_NAMED | {"partition", "engine"}


def default_out(config: RunConfig, line: CommandLine) -> str:
    """Return `ROOT/ENV/PRESET/AGENT-AUGMENT-AUX[-hash of other overrides]/seedN`."""
    chosen = config.choices
    name = "-".join(chosen[group] for group in ("agent", "augment", "aux")) + _suffix(line, _NAMED)
    return str(Path(config.root) / chosen["env"] / chosen["preset"] / name / f"seed{config.seed}")


def default_pretrain_out(config: PretrainConfig, line: CommandLine) -> str:
    """Return `ROOT/pretrain/DATA/PRESET/METHOD-ENCODER[-hash of other overrides]/seedN`."""
    chosen = config.choices
    name = f"{chosen['method']}-{chosen['encoder']}{_suffix(line, _PRETRAIN_NAMED)}"
    return str(Path(config.root) / "pretrain" / chosen["data"] / chosen["preset"] / name / f"seed{config.seed}")


def default_federate_out(config: FederateConfig, line: CommandLine) -> str:
    """Return `ROOT/federated/DATA/PRESET/METHOD-PARTITION-ENCODER[-hash of other overrides]/seedN`."""
    chosen = config.choices
    name = "-".join(chosen[group] for group in ("method", "partition", "encoder")) + _suffix(line, _FEDERATE_NAMED)
    return str(Path(config.root) / "federated" / chosen["data"] / chosen["preset"] / name / f"seed{config.seed}")


def _suffix(line: CommandLine, named: frozenset[str]) -> str:
    others = [f"{s.path}={json.dumps(s.value)}" for s in line.settings if matters(s.path) and s.path != "seed"]
    others += [f"{group}={choice}" for group, choice in line.choices.items() if group not in named]
    return "-" + hashlib.sha256("\n".join(sorted(others)).encode()).hexdigest()[:8] if others else ""


def matters(path: str) -> bool:
    """Whether a run with another value of this option is another run."""
    return path not in NOT_IDENTITY and path.split(".")[0] not in NOT_IDENTITY
