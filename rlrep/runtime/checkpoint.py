"""Checkpoints: one folder each, complete or absent, with hashes of everything in it. The last two are kept.

    checkpoints/000003_step_12000/    tensors.safetensors  state.json  manifest.json
    checkpoints/chunks/               replay rows, shared by the checkpoints that refer to them

A checkpoint is written under a temporary name, synced, and renamed; the manifest, with its own hash, is written last.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from rlrep.replay.ring import Ring

from .chunks import ChunkStore, Damaged, RingRecord, read_checked
from .errors import UserError
from .files import sync_folder, write_synced
from .protocols import Tree
from .tree import join, split

FORMAT = 2
KEEP = 2
_STATE, _TENSORS, _MANIFEST = "state.json", "tensors.safetensors", "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself. finished: the run's end, without replay unless it was kept."""

    path: Path
    step: int
    finished: bool
    files: Mapping[str, str]
    rings: Mapping[str, RingRecord]


class Checkpoints:
    """The checkpoints of one run folder. `step` counts what the run counts: agent steps, or updates of pretraining."""

    def __init__(self, folder: Path, say: Callable[[str], None] = print) -> None:
        self.folder = folder
        self._say = say
        self._chunks = ChunkStore(folder / "chunks")
        self._records: dict[str, RingRecord] = {}

    def latest(self) -> Manifest | None:
        """Return the newest complete checkpoint's manifest, without reading the rest of it."""
        for path in reversed(self._paths()):
            try:
                return _read_manifest(path)
            except Damaged:
                continue
        return None

    def save(self, tree: Tree, rings: Mapping[str, Ring], *, step: int, finished: bool = False) -> None:
        """Write one checkpoint. Raises OSError (disk full) with the older ones intact and no half-written one left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".writing"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            records = {name: self._chunks.save(name, ring, self._records.get(name)) for name, ring in rings.items()}
            temporary.mkdir()
            _write(temporary, tree, step, finished, records)
            temporary.rename(self.folder / f"{self._next_serial():06d}_step_{step}")
            sync_folder(self.folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            self._clean()
            raise
        self._records = records
        self._clean(keep=1 if finished else KEEP)

    def load(self) -> tuple[Manifest, Tree] | None:
        """Return the newest sound checkpoint, all hashes checked; damaged ones are reported and put aside.

        Returns None where there never was one. Raises Damaged if there were some and none is sound.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                manifest, tree = self.read(path)
            except Damaged as error:
                self._say(f"warning: checkpoint {path} is damaged ({error}): the previous one is used")
                path.rename(path.with_name(f"damaged_{path.name}"))
                continue
            self._records = dict(manifest.rings)
            return manifest, tree
        if paths or list(self.folder.glob("damaged_*")):
            raise Damaged(f"no sound checkpoint is left in {self.folder}: start a new out=")
        return None

    def read(self, path: Path) -> tuple[Manifest, Tree]:
        """Read one checkpoint, its replay's chunks checked too. Raises Damaged."""
        manifest = _read_manifest(path)
        tree = _read_state(manifest)
        for record in manifest.rings.values():
            self._chunks.verify(record)
        return manifest, tree

    def peek(self) -> tuple[int, Tree]:
        """Return step and state of the newest sound checkpoint, without its replay, changing nothing.

        Raises Damaged if there is none.
        """
        for path in reversed(self._paths()):
            try:
                manifest = _read_manifest(path)
                return manifest.step, _read_state(manifest)
            except Damaged as error:
                self._say(f"warning: checkpoint {path} is damaged ({error}): the previous one is used")
        raise Damaged(f"{self.folder} has no sound checkpoint")

    def restore_rings(self, manifest: Manifest, rings: Mapping[str, Ring]) -> None:
        """Fill the replay. Raises ValueError if it is laid out differently."""
        if rings.keys() != manifest.rings.keys():
            raise ValueError(f"the replay has {sorted(rings)}, the checkpoint's had {sorted(manifest.rings)}")
        for name, ring in rings.items():
            self._chunks.restore(ring, manifest.rings[name])

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*_step_*") if path.is_dir())

    def _next_serial(self) -> int:
        names = [path.name.removeprefix("damaged_") for path in self.folder.glob("*_step_*")]
        return 1 + max((int(name.split("_")[0]) for name in names), default=0)

    def _clean(self, keep: int = KEEP) -> None:
        """Delete what the newest `keep` checkpoints do not need. A failure to delete only costs space."""
        paths = self._paths()
        for path in [*paths[:-keep], *self.folder.glob("damaged_*")]:
            shutil.rmtree(path, ignore_errors=True)
        records: list[RingRecord] = []
        for path in paths[-keep:]:
            try:
                records += _read_manifest(path).rings.values()
            except Damaged:
                continue
        try:
            self._chunks.drop_all_but(records)
        except OSError as error:
            self._say(f"warning: old replay chunks stay in {self._chunks.folder} ({error.strerror})")


def load_newest(checkpoints: Checkpoints) -> tuple[Manifest, Tree] | None:
    """Return the newest sound checkpoint, None if there never was one. Raises UserError if none is sound."""
    try:
        return checkpoints.load()
    except Damaged as error:
        raise UserError(str(error)) from error


def _write(folder: Path, tree: Tree, step: int, finished: bool, records: Mapping[str, RingRecord]) -> None:
    data, tensors = split(tree)
    files = {
        _TENSORS: write_synced(folder / _TENSORS, save(tensors)),
        _STATE: write_synced(folder / _STATE, json.dumps(data).encode()),
    }
    rings = {name: record.as_json() for name, record in records.items()}
    body = {"format": FORMAT, "step": step, "finished": finished, "files": files, "rings": rings}
    write_synced(folder / _MANIFEST, json.dumps({"sha256": _digest(body), "body": body}, indent=1).encode())
    sync_folder(folder)


def _read_manifest(path: Path) -> Manifest:
    try:
        outer = json.loads((path / _MANIFEST).read_text())
        body, digest = outer["body"], outer["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"its manifest is unreadable: {type(error).__name__}") from error
    if _digest(body) != digest:
        raise Damaged("its manifest is not what was written")
    if body["format"] != FORMAT:
        raise UserError(
            f"{path} was written by another version of rlrep (checkpoint format {body['format']}, this one reads "
            f"{FORMAT}): go on with that version, or start a new out="
        )
    rings = {name: RingRecord.from_json(record) for name, record in body["rings"].items()}
    return Manifest(path, body["step"], body["finished"], body["files"], rings)


def _read_state(manifest: Manifest) -> Tree:
    data = {name: read_checked(manifest.path / name, sha256) for name, sha256 in manifest.files.items()}
    return join(json.loads(data[_STATE]), load(data[_TENSORS]))


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
