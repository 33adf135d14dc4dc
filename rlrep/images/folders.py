"""What a folder of image files means: classes by subfolder, a split by its parts' names, or images without labels."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from .image_file import SUFFIXES

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Side:
    """Files in order, and the name of each one's class; None = there are no class folders."""

    files: list[Path]
    classes: list[str] | None


@dataclass
class Found:
    """A data set's files. test: None where a share of `train` is to be held out. skipped: by kind of file."""

    train: Side
    test: Side | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes in alphabetical order, those of the test side included."""
        sides = [self.train, *([self.test] if self.test else [])]
        return tuple(sorted({name for side in sides for name in side.classes or ()}))


def find_images(root: Path) -> Found:
    """Look for images under `root`, hidden files and folders apart. Raises ValueError, in one line, if there are none
    or the folder's parts cannot be told apart."""
    found = Found(Side([], None))
    parts = _folders(root, Counter())
    halves = {part.name.lower(): part for part in parts}
    train, test = (next((halves[name] for name in names if name in halves), None) for names in (_TRAIN, _TEST))
    if train and test:
        _read_split(root, train, test, parts, found)
    else:
        found.train = _side(root, found)
        _check_parts(root, parts)
    skipped = ", ".join(f"{count} {kind}" for kind, count in sorted(found.skipped.items()) if count)
    if skipped:
        found.notes.append(f"skipped: {skipped}")
    if not found.train.files:
        told = f" ({found.notes[-1]})" if skipped else ""
        raise ValueError(
            f"data.path={root} holds no images{told}: it needs image files ({' '.join(SUFFIXES)}), "
            f"in one subfolder per class where they have classes"
        )
    return found


def _read_split(root: Path, train: Path, test: Path, parts: Sequence[Path], found: Found) -> None:
    found.train, found.test = _side(train, found), _side(test, found)
    others = [part.name for part in parts if part not in (train, test)]
    found.notes.append(
        f"{train.name} and {test.name} are the split, test_fraction has no use"
        + (f"; not read: {', '.join(others)}" if others else "")
    )
    if not found.test.files:
        raise ValueError(f"{test} holds no images: put some there, or give data.path={train} to hold some out of it")
    if (found.train.classes is None) != (found.test.classes is None):
        raise ValueError(
            f"of {train} and {test} only one has class folders: give the other some too, or give data.path={train}"
        )
    unknown = sorted(set(found.test.classes or ()) - set(found.train.classes or ()))
    if unknown:
        raise ValueError(f"{test} has classes that {train} has not: {', '.join(unknown[:5])}")


def _check_parts(root: Path, parts: Sequence[Path]) -> None:
    """Refuse what looks like parts of a data set rather than classes: a folder of folders alone, or named as half of
    a split."""
    for part in parts:
        if len(parts) > 1 and part.name.lower() not in (*_TRAIN, *_TEST):
            continue
        deep = [folder for folder in _folders(part, Counter()) if any(_images(folder, Counter()))]
        direct = any(_is_file(entry) and _is_image(entry.name) for entry in _entries(part))
        if len(deep) > 1 and not direct:
            raise ValueError(
                f"data.path={root} holds a folder {part.name} of class folders, and no other half of a split: "
                f"give data.path={part}"
            )


def _side(folder: Path, found: Found) -> Side:
    labelled: list[tuple[Path, str]] = []
    for part in _folders(folder, found.skipped):
        inside = [(path, part.name) for path in _images(part, found.skipped)]
        found.skipped["folders without images"] += not inside
        labelled += inside
    direct = [entry for entry in _entries(folder) if _is_file(entry) and not _hidden(entry.name)]
    images = [Path(entry.path) for entry in direct if _is_image(entry.name)]
    found.skipped.update(_kind(entry) for entry in direct if not _is_image(entry.name))
    if not labelled:
        return Side(images, None)
    if images:
        found.skipped["images beside the class folders"] += len(images)
    return Side([path for path, _ in labelled], [name for _, name in labelled])


def _folders(root: Path, skipped: Counter[str]) -> list[Path]:
    """Return the subfolders in order, links to the folder itself or one above it left out."""
    above = {root.resolve(), *root.resolve().parents}
    children = _entries(root)
    skipped.update(_kind(entry) for entry in children if _hidden(entry.name))
    found = [Path(entry.path) for entry in children if not _hidden(entry.name) and _is_dir(entry)]
    return [path for path in found if path.resolve() not in above]


def _images(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Yield the image files in and below a folder, in order."""
    for entry in _entries(folder):
        if not entry.is_symlink() and entry.is_dir() and not _hidden(entry.name):
            yield from _images(Path(entry.path), skipped)
        elif _is_image(entry.name) and _is_file(entry):
            yield Path(entry.path)
        else:
            skipped[_kind(entry)] += 1


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """Return what a folder holds, in order. Of an entry most is known without asking the disk for each."""
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()  # of links that go in a circle, too


def _is_file(entry: "os.DirEntry[str]") -> bool:
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _hidden(name: str) -> bool:
    """Whether a file browser, a notebook or an archiver left it: `._a.png`, `.ipynb_checkpoints`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _kind(entry: "os.DirEntry[str]") -> str:
    if _hidden(entry.name):
        return "hidden"
    if _is_dir(entry):
        return "linked folders"
    return PurePath(entry.name).suffix.lower() or "without suffix"
