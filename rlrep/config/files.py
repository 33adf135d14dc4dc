"""One pass over the files that a command line, and they themselves, choose."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from rlrep.settings import ConfigError, hint
from rlrep.settings.groups import (
    AUTO,
    File,
    Tree,
    check_suffixes,
    check_target,
    choices,
    listed,
    merge,
    read,
    read_primary,
    values,
)

Choice = str | list[str]
_MAY_BE_AUTO = ("encoder", "augment")
_CHOOSE = ("env", "preset", "agent")
_COMPONENTS = ("agent", "method", "data", "encoder", "augment")
"""Groups whose choice is a dataclass, besides the environment, which is asked before."""


@dataclass(frozen=True)
class Composition:
    """What files say together: their values, the choice made in each group, and the cases of `when` that hold."""

    node: Tree
    choices: dict[str, Choice]
    cases: frozenset[str]


def compose_files(
    primary: str,
    asked: Mapping[str, Choice],
    folders: Sequence[Path] = (),
    *,
    kinds: Callable[[Any], Set[str]] = lambda _: set(),
    pulled: Collection[tuple[str, ...]] = (),
) -> Composition:
    """Compose `configs/PRIMARY.yaml` with a file of each of its groups. Raises ConfigError in one line.

    Later groups win over earlier ones, and what stands under `when` of an environment over the preset. In other groups
    a preset chooses over an environment, an agent over both, and what is asked for over all.
    asked: choices by group. kinds: of the environment's plain settings, what holds in `when` besides the preset, its
    `scale`, and the agent. pulled: places of heads for which the preset does not hold.
    """
    first, standard = read_primary(primary)
    start = {**standard, **asked}
    env, preset = (read(group, start.get(group, []), folders) for group in ("env", "preset"))
    own = kinds(_plain(env, str(start.get("env"))))
    cases = frozenset({str(start.get("preset")), *own})
    cases |= {str(values([first, *preset], cases).get("scale"))}
    made, agent = _settle(first, standard, asked, [*env, *preset], cases, folders)
    cases |= {str(made.get("agent"))}
    check_suffixes({group: choice for group, choice in made.items() if group != "env"}, own, folders)
    files = {"env": [file.plain for file in env], "preset": preset, "agent": agent}
    files |= {group: read(group, made[group], folders) for group in standard if group not in files}
    _chosen((file for group in standard.keys() - _CHOOSE for file in files[group]), cases, set())
    ordered = [first, *(file for group in standard for file in files[group]), *(file.conditional for file in env)]
    less = cases - {str(start.get("preset"))}
    said = (file.values(less if file.place in pulled else cases) for file in ordered)
    node: Tree = reduce(merge, said, {})
    for group in [group for group in _COMPONENTS if group in standard]:
        check_target(node.get(group), group, str(made[group]))
    return Composition(node, {group: made[group] for group in reversed(standard)}, cases)


def _plain(env: Sequence[File], choice: str) -> Any:
    """Return the environment's settings as far as they depend on nothing. Raises ConfigError if there are none."""
    plain = values((file.plain for file in env), set()).get("env")
    if env:
        check_target(plain, "env", choice)
    return plain


def _settle(
    first: File,
    standard: dict[str, str],
    asked: Mapping[str, Choice],
    choosing: Sequence[File],
    cases: Set[str],
    folders: Sequence[Path],
) -> tuple[dict[str, Any], list[File]]:
    """Return the choice made in every group, and the agent's files. choosing: those of environment and preset."""
    free = standard.keys() - {"env", "preset"}
    agent = {**standard, **_chosen(choosing, cases, free), **asked}.get("agent", [])
    files, cases = read("agent", agent, folders), cases | {str(agent)}
    taken = _chosen(files, cases, free - {"agent"})
    usual = {**standard, **choices([first], cases), **taken}
    made = {**usual, **_chosen(choosing, cases, free), **taken, **asked}
    made |= {group: usual[group] for group in _MAY_BE_AUTO if made.get(group) == AUTO and group in usual}
    return {**made, "aux": sorted({*listed(made.get("aux", []))} - {"none"})}, files


def _chosen(files: Iterable[File], cases: Set[str], free: Set[str]) -> dict[str, Any]:
    """Return what files choose in other groups. Raises ConfigError where that is not one of those that are `free`."""
    files = list(files)
    for file in files:
        for group in file.choices(cases).keys() - free:
            raise ConfigError(f"{file.name}: `override /{group}` has no place here{hint(group, free)}")
    return choices(files, cases)
