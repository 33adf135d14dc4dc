"""What a run folder may name: it is data, and only components that are known here are ever imported.

A `_target_` of a stored config is compared as text, before anything is imported, with those of the YAML files in
`configs/` and with the entry points of installed packages. More than that takes the user's own word on the command
line: `--config-dir DIR`, whose files' targets are then known, or `--trust MODULE`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrep.settings import TARGET, UserError, find_target, groups

from .folder import read_config

_GROUPS = frozenset({*groups.GROUPS, *groups.FEDERATE_GROUPS})
_HOUSE = "rlrep."


@dataclass(frozen=True)
class Trust:
    """The user's word: folders of `--config-dir`; modules, and packages with all that is in them, of `--trust`."""

    folders: tuple[Path, ...] = ()
    modules: tuple[str, ...] = ()

    def read(self, folder: Path) -> dict[str, Any]:
        """Return a run folder's config, which may then be built. Raises UserError if it names what is not known.

        Its texts are texts: a `${...}` in them refers to nothing.
        """
        tree = read_config(folder)
        for key, node in tree.items():
            if key != "requested":  # texts of single options, which are never built
                self.check(str(key), node, str(folder / "config.yaml"))
        return tree

    def check(self, group: str, node: Any, place: str) -> None:
        """Raise UserError, naming target and place, if the settings of a group name a component that is not known."""
        outer = ""  # the module of the component that the next ones are inside of
        for path, target, outermost in _targets(node, group, outermost=True):
            if group not in _GROUPS or not isinstance(target, str):
                raise UserError(f"{place}: {path}.{TARGET} names a component where none belongs")
            known = groups.targets(group if outermost else "*", self.folders)
            beside = not outermost and target.rpartition(".")[0] == outer  # an option's own dataclass, as stored
            if not (target in known or beside or self._trusts(target) or _is_registered(target, known)):
                raise UserError(_refusal(place, path, target, group if outermost else "component"))
            outer = target.rpartition(".")[0] if outermost and not target.startswith(_HOUSE) else outer

    def _trusts(self, target: str) -> bool:
        return any(f"{target.rpartition('.')[0]}.".startswith(f"{module}.") for module in self.modules)


def _targets(node: Any, path: str, *, outermost: bool) -> Iterator[tuple[str, Any, bool]]:
    """Yield path and target of every component in a tree, and whether it is inside no other."""
    if isinstance(node, Mapping):
        if TARGET in node:
            yield path, node[TARGET], outermost
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}", outermost=outermost and TARGET not in node)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(value, f"{path}[{index}]", outermost=outermost)


def _is_registered(target: str, known: frozenset[str]) -> bool:
    """Whether a target is one of ours by the name of the module that defines it, as dataclasses' defaults are stored.

    Only registered components are imported to find out.
    """
    alike = [name for name in known if name.rpartition(".")[2] == target.rpartition(".")[2]]
    ours = [find_target(name, name) for name in alike if name.startswith(_HOUSE) and target.startswith(_HOUSE)]
    return any(f"{cls.__module__}.{cls.__qualname__}" == target for cls in ours)


def _refusal(place: str, path: str, target: str, kind: str) -> str:
    shown = ascii(target)[1:-1][:120]
    if target.startswith(_HOUSE) and target not in groups.targets("*"):
        return (
            f"{place}: {path}.{TARGET} is {shown}, which this version of rlrep does not have: the folder is of another "
            f"version (its versions.json names it): use that one, or train again"
        )
    module = shown.rpartition(".")[0]
    way = (
        f": if you trust it, add --config-dir DIR with the file that names it, or, where {module} can be imported, "
        f"--trust {module}"
        if module
        else ""
    )
    return f"{place}: {path}.{TARGET} is {shown}, which is no registered {kind}: a run folder is data, never code{way}"
