"""The text of `--help`."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from rlrep.settings.groups import FEDERATE_GROUPS, GROUPS, PRETRAIN_GROUPS, ROOT, names


def bench_help(folders: Sequence[Path]) -> str:
    """Return usage, suites and launchers of `rlrep.bench`."""
    return help_text("bench").format(groups=_groups(("suite", "launcher", "preset"), folders))


def train_help(folders: Sequence[Path]) -> str:
    """Return usage, groups with their names, and the general options with their defaults."""
    return help_text("train").format(groups=_groups(GROUPS, folders), options=_options("config"))


def pretrain_help(folders: Sequence[Path]) -> str:
    """Return the same of `rlrep.pretrain`."""
    groups = _groups(PRETRAIN_GROUPS, folders)
    return help_text("pretrain").format(groups=groups, options=_options("pretrain"))


def study_help(folders: Sequence[Path]) -> str:
    """Return usage and studies of `rlrep.study`."""
    return help_text("study").format(studies=f"  {_wrap(names('study', folders))}")


def federate_help(folders: Sequence[Path]) -> str:
    """Return the same of `rlrep.federate`: the options that it has beside `rlrep.pretrain`'s."""
    groups = _groups(FEDERATE_GROUPS, folders)
    return help_text("federate").format(groups=groups, options=_options("federate"))


def help_text(command: str) -> str:
    """Return what `configs/help/COMMAND.txt` says: usage with examples, which name environments and agents."""
    return (ROOT / "help" / f"{command}.txt").read_text().removesuffix("\n")


def _groups(groups: Sequence[str], folders: Sequence[Path]) -> str:
    return "\n".join(f"  {group + '=':<11}{_wrap(names(group, folders))}" for group in groups)


def _wrap(listed: Sequence[str]) -> str:
    lines: list[str] = []
    line = ""
    for name in listed:
        if len(line) + len(name) > 100:
            lines, line = [*lines, line], ""
        line += f"{name} "
    return ("\n" + " " * 13).join([*lines, line])


def _options(primary: str) -> str:
    """Show the general options as `configs/PRIMARY.yaml` writes them, with its comments."""
    lines = (ROOT / f"{primary}.yaml").read_text().splitlines()
    top = {key for key in yaml.safe_load("\n".join(lines)) if key not in ("defaults", "when", "scale")}
    start = next(i for i, line in enumerate(lines) if line.split(":")[0] in top)
    return "\n".join(f"  {line}" for line in lines[start:] if line.strip())
