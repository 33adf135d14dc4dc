"""What a run folder holds when a session begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rlrep.config.config import Compile, RunConfig
from rlrep.record.checkpoint import Checkpoints, Manifest
from rlrep.record.folder import (
    check_same_run,
    has_final_row,
    read_config,
)
from rlrep.settings import UserError


@dataclass(frozen=True)
class Opened:
    """A run folder as found: the config it was made with and its newest checkpoint, both None in a fresh one."""

    folder: Path
    stored: Mapping[str, Any] | None
    manifest: Manifest | None
    grows: bool

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing to do: a final evaluation without any checkpoint is what a tidied run leaves."""
        over = self.manifest.finished if self.manifest else self.stored is not None and has_final_row(self.folder)
        return over and not self.grows


def open_run(folder: Path, tree: Mapping[str, Any], config: RunConfig) -> Opened:
    """Look into a run folder. Raises UserError if it holds another run, or one that cannot be made longer."""
    manifest = Checkpoints(folder / "checkpoints").latest()
    if not (folder / "config.yaml").exists():
        if manifest is not None:
            raise UserError(f"{folder} has checkpoints but no config.yaml: restore it, or choose another out=")
        return Opened(folder, None, None, grows=False)
    stored = read_config(folder)
    may_grow = not getattr(config.agent, "depends_on_length", False)
    grows = check_same_run(folder, stored, tree, may_grow=may_grow)
    if grows and manifest is None and has_final_row(folder):
        raise UserError(
            f"{folder} is finished and its checkpoints are gone, so it cannot become longer: choose another out="
        )
    if grows and manifest is not None and manifest.finished and not manifest.rings:
        raise UserError(
            f"{folder} is finished ({manifest.step} agent steps) and its replay was dropped, so it cannot "
            f"become longer: choose another out= (checkpoint.keep_replay=true keeps the replay)"
        )
    _check_settled(folder, stored)
    return Opened(folder, stored, manifest, grows)


def _check_settled(folder: Path, stored: Mapping[str, Any]) -> None:
    """Raise UserError if what this run's first session settled is none of what may be settled."""
    steps = stored["train"].get("agent_steps")
    if type(steps) is not int or stored.get("compile") not in get_args(Compile):
        raise UserError(
            f"{folder}: its config.yaml is damaged (train.agent_steps={steps}, compile={stored.get('compile')}): "
            f"restore it, or choose another out="
        )
