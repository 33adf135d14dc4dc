"""Checkpoints: one folder each, complete or absent, with hashes of everything in it. The last two are kept.

    checkpoints/000003_step_12000/    tensors.safetensors  state.json  manifest.json
    checkpoints/chunks/               replay rows, shared by the checkpoints that refer to them

A checkpoint is written under a temporary name, synced, and renamed; the manifest, with its own hash, is written last.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from rlrep.contract.agent import Rows
from rlrep.contract.env import Tree
from rlrep.files import read_plain
from rlrep.settings import UserError, one_line

from .chunks import ChunkStore, Damaged, RingRecord, load_tensors, read_checked
from .files import sync_folder, write_synced
from .stored import MEGABYTE, Unreadable, load_json
from .tree import join, misfit, split

FORMAT = 3
KEEP = 2
_NAME = re.compile(r"(damaged_)?[0-9]{6,12}_step_[0-9]+")
_MOST_MANIFEST = 64 * MEGABYTE
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

    def save(self, tree: Tree, rings: Mapping[str, Rows], *, step: int, finished: bool = False) -> None:
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
        if paths or self._named():
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

    def restore_rings(self, manifest: Manifest, rings: Mapping[str, Rows]) -> None:
        """Fill the replay. Raises ValueError if it is laid out differently."""
        if rings.keys() != manifest.rings.keys():
            raise ValueError(f"the replay has {sorted(rings)}, the checkpoint's had {sorted(manifest.rings)}")
        for name, ring in rings.items():
            self._chunks.restore(ring, manifest.rings[name])

    def _paths(self) -> list[Path]:
        return [path for name, path in sorted(self._named().items()) if name[0].isdigit()]

    def _named(self) -> dict[str, Path]:
        """Return the folders that checkpoints have, damaged ones too, by name."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return {p.name: p for p in found if _NAME.fullmatch(p.name) and p.is_dir() and not p.is_symlink()}

    def _next_serial(self) -> int:
        return 1 + max((int(name.removeprefix("damaged_").split("_")[0]) for name in self._named()), default=0)

    def _clean(self, keep: int = KEEP) -> None:
        """Delete what the newest `keep` checkpoints do not need. A failure to delete only costs space."""
        paths = self._paths()
        for path in [*paths[:-keep], *(path for name, path in self._named().items() if not name[0].isdigit())]:
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
        outer = load_json(read_plain(path / _MANIFEST, _MOST_MANIFEST))
        body, digest = outer["body"], outer["sha256"]
    except (OSError, Unreadable, KeyError, TypeError) as error:
        raise Damaged(f"its manifest is unreadable: {type(error).__name__}") from error
    if not isinstance(body, dict) or _digest(body) != digest:
        raise Damaged("its manifest is not what was written")
    if body.get("format") != FORMAT:
        raise UserError(
            f"{path} was written by another version of rlrep (checkpoint format {body.get('format')}, this one reads "
            f"{FORMAT}): go on with that version, or start a new out="
        )
    try:
        rings = {str(name): RingRecord.from_json(record) for name, record in body["rings"].items()}
        manifest = Manifest(path, body["step"], body["finished"], body["files"], rings)
        if type(manifest.step) is not int or manifest.step < 0 or type(manifest.finished) is not bool:
            raise ValueError("it says of no step that it is of it")
        if manifest.files.keys() != {_STATE, _TENSORS}:
            raise ValueError("it has other files than a checkpoint")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"its manifest makes no sense: {one_line(error)[:120]}") from error
    return manifest


def _read_state(manifest: Manifest) -> Tree:
    data = {name: read_checked(manifest.path / name, sha256) for name, sha256 in manifest.files.items()}
    try:
        return join(load_json(data[_STATE]), load_tensors(data[_TENSORS]))
    except (Unreadable, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Damaged(f"its state makes no sense: {one_line(error)[:120]}") from error


def check_state(own: Tree, found: Tree, step: int) -> None:
    """Raise ValueError, saying why, if `found` is no state, after `step` steps, of the run whose state `own` is."""
    logs = {"metrics.jsonl": 0, "eval.csv": 0}
    line = misfit({**own, "logs": logs}, found)
    if line is None and found["counters"]["agent_steps"] != step:
        line = f"its counters are at {found['counters']['agent_steps']} steps, its manifest at {step}"
    if line is not None:
        raise ValueError(line)


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Take in a checkpoint's state. Raises UserError for whatever it turns out not to be; nothing is written here."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # its hashes are right, so that it was written on purpose: by anyone, holding anything
        raise UserError(
            f"{path} does not fit this run ({type(error).__name__}: {one_line(error)[:200]}): it is left as it is; "
            f"move it away to go on from the one before, or start a new out="
        ) from error


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
