"""What a run folder holds when a session begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlrep.record.checkpoint import Checkpoints, Manifest
from rlrep.record.folder import check_same_run, has_final_row, read_config
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

    def size(self, counted: str) -> str:
        """Say how long a finished run is, in what it counts."""
        return f" ({self.manifest.step} {counted.replace('_', ' ')})" if self.manifest else ", its checkpoints are gone"


class Run(Protocol):
    """What opening a folder asks of the run that is to go on in it; see `Job`."""

    @property
    def may_grow(self) -> bool: ...
    def check_stored(self, folder: Path, stored: Mapping[str, Any]) -> None: ...


def look_into(folder: Path) -> Opened:
    """Look into a run folder. Raises UserError if it is damaged."""
    manifest = Checkpoints(folder / "checkpoints").latest()
    if (folder / "config.yaml").exists():
        return Opened(folder, read_config(folder), manifest, grows=False)
    if manifest is not None:
        raise UserError(f"{folder} has checkpoints but no config.yaml: restore it, or choose another out=")
    return Opened(folder, None, None, grows=False)


def open_run(folder: Path, tree: Mapping[str, Any], run: Run) -> Opened:
    """Look into a run folder. Raises UserError if it holds another run, or one that cannot be made longer."""
    found = look_into(folder)
    manifest = found.manifest
    if found.stored is None:
        return found
    grows = check_same_run(folder, found.stored, tree, may_grow=run.may_grow)
    if grows and manifest is None and has_final_row(folder):
        raise UserError(
            f"{folder} is finished and its checkpoints are gone, so it cannot become longer: choose another out="
        )
    if grows and manifest is not None and manifest.finished and not manifest.rings:
        raise UserError(
            f"{folder} is finished ({manifest.step} agent steps) and its replay was dropped, so it cannot "
            f"become longer: choose another out= (checkpoint.keep_replay=true keeps the replay)"
        )
    run.check_stored(folder, found.stored)
    return Opened(folder, found.stored, manifest, grows)
