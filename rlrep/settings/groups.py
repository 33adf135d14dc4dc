"""The one reader of settings files: which names a group offers, and what a name stands for.

A group is a folder of YAML files, here in `configs/` or in a `--config-dir`, and what other packages register for it:

    [project.entry-points."rlrep.aux"]         # or another of `ENTRY_POINTS`: a config dataclass, as a `_target_` is
    my_head = "my_package.heads:MyHead"        # then: aux=my_head aux.my_head.weight=0.1

`# @package PLACE` at the top of a file says where its values go (`_global_`: the whole tree; without it: its group).
`defaults` lists files of its group that it builds on, and `override /GROUP: NAME` chooses in another one. What depends
on something stands under `when`: of its cases (a preset, `pixels` or `state`, a family of environments, an agent,
`else`), the first one that holds adds to the file; it may choose, and have a `when` of its own. A list of such cases is
several questions, each answered by itself, a later one winning.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from importlib.metadata import EntryPoint, entry_points
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from .coerce import TARGET, with_defaults
from .errors import ConfigError, hint, one_line

ROOT = Path(__file__).parent.parent / "configs"
GROUPS = ("env", "agent", "augment", "aux", "encoder", "preset", "logger", "launcher")
PRETRAIN_GROUPS = ("method", "data", "encoder", "augment", "preset", "logger", "launcher")
FEDERATE_GROUPS = (*PRETRAIN_GROUPS, "partition", "engine")
ENTRY_POINTS = {
    "aux": "rlrep.aux",
    "env": "rlrep.envs",
    "agent": "rlrep.agents",
    "method": "rlrep.methods",
    "data": "rlrep.data",
    "augment": "rlrep.views",
}
AUTO = "auto"
ELSE = "else"
"""The case of `when` that always holds."""
_ALWAYS = ({ELSE}, {"state", "pixels"})
"""Cases of which one always holds; of an agent's run that is."""

Tree = dict[str, Any]
_SELF, _OVERRIDE = "_self_", "override /"
_TARGETS = re.compile(rf"""{TARGET}["']?\s*:\s*["']?([\w.]+)""")
_PLACE = re.compile(r"(?:\s*(?:#[^\n]*)?\n)*?\s*#\s*@package[ \t]+(\S+)")


def _frame_size(*, _root_: DictConfig) -> int | None:
    """Side of the frames that a view hands to the encoder; None (as they come) where there is no environment."""
    size = OmegaConf.select(_root_, "env.size")
    return None if size is None else min(_root_.image_size, size)


OmegaConf.register_new_resolver("frame_size", _frame_size, replace=True)  # ${frame_size:}


@dataclass(frozen=True)
class File:
    """One file as it is written. place: the keys under which its values stand in the tree. name: what errors call it.

    builds_on: names of its own group, with `_self_` where it comes itself.
    """

    name: str
    place: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def builds_on(self) -> list[str]:
        """Return the files of its group that `defaults` names, and `_self_`, in the order in which later ones win."""
        listed = [entry for entry in _listed(self.content, self.name) if isinstance(entry, str)]
        return listed if _SELF in listed else [*listed, _SELF]

    @property
    def plain(self) -> "File":
        """The file without what depends on something."""
        return replace(self, content={key: value for key, value in self.content.items() if key != "when"})

    @property
    def conditional(self) -> "File":
        """Only what depends on something."""
        return replace(self, content={"when": self.content.get("when")})

    def values(self, cases: Set[str]) -> Tree:
        """Return its values, at their place in the tree, where these cases hold."""
        values, _ = _said(self.content, cases, self.name)
        return reduce(lambda inner, key: {key: inner}, reversed(self.place), values)

    def choices(self, cases: Set[str]) -> dict[str, Any]:
        """Return what it chooses in other groups where these cases hold."""
        return _said(self.content, cases, self.name)[1]


def _said(content: Mapping[str, Any], cases: Set[str], name: str) -> tuple[Tree, dict[str, Any]]:
    """Return values and choices of a file or of a case in it."""
    values = {str(key): value for key, value in content.items() if key not in ("defaults", "when")}
    chosen = [entry for entry in _listed(content, name) if isinstance(entry, dict)]
    choices = {str(key).removeprefix(_OVERRIDE): value for entry in chosen for key, value in entry.items()}
    for case, more in _holding(content.get("when"), cases, name):
        if any(isinstance(entry, str) for entry in _listed(more, name)):
            raise ConfigError(f"{name}: what a file builds on depends on nothing: take it out of `when: {case}`")
        inner, others = _said(more, cases, name)
        values, choices = merge(values, inner), choices | others
    return values, choices


def _holding(when: Any, cases: Set[str], name: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield the first case that holds of each question of a `when`. Raises ConfigError where one never can."""
    for question in when if isinstance(when, list) else [when]:
        asked = _mapping(question, name, "when")
        for place, case in enumerate(asked):
            if any(ends <= set(list(asked)[:place]) for ends in _ALWAYS):
                raise ConfigError(f"{name}: `when: {case}` is never reached after what always holds: list it apart")
        held = next((case for case in asked if case == ELSE or case in cases), None)
        if held is not None:
            yield held, _mapping(asked[held], name, f"when: {held}")


def _listed(content: Mapping[str, Any], name: str) -> list[Any]:
    listed = content.get("defaults") or []
    if not isinstance(listed, list) or not all(
        isinstance(entry, str) or (isinstance(entry, dict) and all(str(key).startswith(_OVERRIDE) for key in entry))
        for entry in listed
    ):
        raise ConfigError(f"{name}: defaults lists files of its group, {_SELF}, and `{_OVERRIDE}GROUP: NAME`")
    return listed


def _mapping(value: Any, name: str, key: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{name}: {key} holds {value}, expected settings by name")
    return value or {}


def merge(node: Mapping[str, Any], more: Mapping[str, Any]) -> Tree:
    """Return `node` with the values of `more` in place of its own, option by option."""
    both = {
        k: merge(node[k], v) if isinstance(v, dict) and isinstance(node.get(k), dict) else v for k, v in more.items()
    }
    return {**node, **both}


def listed(chosen: Any) -> list[str]:
    """Return the names of a choice, one or several."""
    return [str(name) for name in chosen] if isinstance(chosen, list) else [str(chosen)]


def check_suffixes(chosen: Mapping[str, Any], kinds: Set[str], folders: Sequence[Path]) -> None:
    """Raise ConfigError for a file NAME_KIND beside NAME, which was read in its place before there was `when`."""
    for group, choice in chosen.items():
        for name, kind in product(listed(choice), kinds):
            if path := find(group, f"{name}_{kind}", folders):
                raise ConfigError(f"{path} is not read for {group}={name}: say `when: {{{kind}: ...}}` in {name}.yaml")


def values(files: Iterable[File], cases: Set[str]) -> Tree:
    """Return what files say together where these cases hold; later ones win."""
    return reduce(merge, (file.values(cases) for file in files), {})


def choices(files: Iterable[File], cases: Set[str]) -> dict[str, Any]:
    """Return what files choose in other groups where these cases hold; later ones win."""
    return {group: choice for file in files for group, choice in file.choices(cases).items()}


def read(group: str, chosen: str | Sequence[str], folders: Sequence[Path] = ()) -> list[File]:
    """Return the files that `group=chosen`, a name or several, is made of, what a file builds on before it.

    Raises ConfigError in one line if one of them is missing or cannot be read.
    """
    return [file for name in listed(chosen) for file in _read(group, name, folders, ())]


def _read(group: str, name: str, folders: Sequence[Path], above: tuple[str, ...]) -> list[File]:
    """Return the files of one name. above: those that build on it."""
    check(group, name, folders)
    path = find(group, name, folders)
    if path is None:
        place = (group, name) if group == "aux" else (group,)
        return [File(f"{group}={name}", place, {TARGET: registered(group)[name].value.replace(":", ".")})]
    file = _load(path, group)
    if name in above:
        raise ConfigError(f"{file.name}: it builds on itself")
    return [
        each
        for base in file.builds_on
        for each in ([file] if base == _SELF else _read(group, base, folders, (*above, name)))
    ]


def read_primary(name: str) -> tuple[File, dict[str, str]]:
    """Return `configs/NAME.yaml`, and the choice of each group that it has, in the order in which later groups win.

    A name among its `defaults` is that of another such file, which it builds on.
    """
    file, standard = replace(_load(ROOT / f"{name}.yaml", "config"), place=()), dict[str, str]()
    content = {key: value for key, value in file.content.items() if key != "defaults"}
    for entry in file.content["defaults"]:
        if isinstance(entry, dict):
            standard |= {str(group): str(choice) for group, choice in entry.items()}
        elif entry != _SELF:
            base, standard = read_primary(entry)
            content = merge(base.content, content)
    return replace(file, content=content), standard


def _load(path: Path, group: str) -> File:
    try:
        text = path.read_text(encoding="utf-8")
        content = OmegaConf.to_container(OmegaConf.load(StringIO(text)), resolve=False)
    except (YAMLError, UnicodeDecodeError, OSError, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot compose {group}={path.stem}: {path} cannot be read: {one_line(error)}") from error
    place = found[1] if (found := _PLACE.match(text)) else group
    keys = () if place == "_global_" else tuple(place.split("."))
    return File(str(path), keys, content if isinstance(content, dict) else {})  # type: ignore[arg-type]


def node(group: str, name: str, path: str, *, folders: Sequence[Path] = (), cases: Set[str] = frozenset()) -> Tree:
    """Return the component that `group=name` stands for, every option of its dataclass filled in.

    path: what errors call it. Raises ConfigError in one line if there is none.
    """
    files = read(group, name, folders)
    found: Any = values(files, cases)
    for key in files[-1].place or (group,):
        found = found.get(key) if isinstance(found, dict) else None
    check_target(found, group, name)
    return with_defaults(found, path)


def view(name: str, path: str, folders: Sequence[Path] = (), cases: Set[str] = frozenset()) -> Tree:
    """Return the settings of an augmentation by name. path: what errors call it."""
    check("augment", name, folders, asked=f"{path}={name}")
    return node("augment", name, path, folders=folders, cases=cases)


@dataclass(frozen=True)
class HeadViews:
    """The views that heads name.

    augment: the agent's, which `auto` follows. cases: that hold. names: of those asked for, by path.
    """

    augment: str
    cases: Set[str]
    folders: Sequence[Path] = ()
    names: dict[str, str] = field(default_factory=dict)

    @property
    def usual(self) -> str:
        """What `auto` is where the agent has no augmentation."""
        return "amplitude_scale" if "state" in self.cases else "random_shift"

    def settings(self, name: str, path: str) -> Tree:
        """Return the settings of a view by name. path: what errors call it."""
        if name == AUTO:
            name = self.usual if self.augment == "none" else self.augment
        self.names[path] = name
        return view(name, path, self.folders, self.cases)


def check_target(node: Any, group: str, choice: str) -> None:
    """Raise ConfigError if what the file of a choice gives to its group is no component."""
    if not isinstance(node, dict) or TARGET not in node:
        raise ConfigError(
            f"{group}={choice}: its file gives {group} no {TARGET} (does it begin with `# @package _global_`, and have "
            f"`{group}:` then?)"
        )


def names(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return every name that `group=` accepts."""
    files = {path.stem for root in (ROOT, *folders) for path in (root / group).glob("*.yaml") if path.is_file()}
    return sorted(files | set(registered(group)))


def check(group: str, name: str, folders: Sequence[Path] = (), *, asked: str = "") -> None:
    """Raise ConfigError, with the valid names, if `group` has no `name`. asked: what was typed, `group=name`."""
    if name not in names(group, folders):
        raise ConfigError(f"{asked or f'{group}={name}'} is not known{hint(name, names(group, folders))}")


def find(group: str, name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the YAML file of `group=name`, None where another package has it."""
    paths = (root / group / f"{name}.yaml" for root in (ROOT, *folders))
    return next((path for path in paths if path.is_file()), None)


def registered(group: str) -> Mapping[str, EntryPoint]:
    """Return what other installed packages add to `group`."""
    return _scan(ENTRY_POINTS[group]) if group in ENTRY_POINTS else {}


@lru_cache
def _scan(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


@lru_cache
def targets(group: str, folders: tuple[Path, ...] = ()) -> frozenset[str]:
    """Return every `_target_` that files of `group` (`*`: of any) name, here or in `folders`, and entry points have.

    They are read as texts; nothing is imported.
    """
    files = [path for root in (ROOT, *folders) for path in root.glob(f"{group}/*.yaml")]
    outside = [point for name in ENTRY_POINTS if group in (name, "*") for point in registered(name).values()]
    named = (_TARGETS.findall(path.read_text()) for path in files)
    return frozenset({name for found in named for name in found} | {p.value.replace(":", ".") for p in outside})
