"""Every command that README, CONTRIBUTING and the docs tell people to type is taken by its entry point, and not run.

Only those with `--config-dir` are left out: tests of what they belong to run them.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import PAGES
from rlrep.commands import evaluate, hub, probe, report, study
from rlrep.config.compose import compose_run
from rlrep.config.federate_compose import compose_federation
from rlrep.config.overrides import expand
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.grid import speed
from rlrep.grid.plan import make_plan
from rlrep.grid.search import make_asked
from rlrep.grid.space import take_search
from rlrep.grid.suite import read_request
from rlrep.process.cli import read_arguments
from rlrep.record.trust import Trust

ROOT = Path(__file__).resolve().parent.parent
TEXT = "\n".join(re.sub(r"\\\n *", "", page.read_text()) for page in (*PAGES, ROOT / "CONTRIBUTING.md"))
BLOCK = re.compile(r"^(?:    |(?=python|torchrun))[^`\n]*-m (rlrep|benchmarks)\.(\w+) ([^`#\n]*)", re.MULTILINE)
INLINE = re.compile(r"`python -m (rlrep|benchmarks)\.(\w+)\s([^`]*)`")
STAND_IN = {"study": {"NAME": "simplex"}, "bench": {"suite=NAME": "suite=toy"}}


def commands(room: str) -> list[tuple[str, str]]:
    """Return entry points and the words that pages have behind them; one of several (`a|b`) each by itself."""
    typed = [*BLOCK.findall(TEXT), *INLINE.findall(TEXT)]
    found = [(name, " ".join(words.split())) for where, name, words in typed if where == room]
    return list(dict.fromkeys((name, each) for name, words in found for each in alternatives(name, words)))


def alternatives(name: str, words: str) -> Iterator[str]:
    """Yield a command with stand-ins for what a reader fills in."""
    first, _, rest = words.partition(" ")
    for one in first.split("|"):
        said = f"{one} {rest}".strip()
        for place, stand_in in STAND_IN.get(name, {}).items():
            said = re.sub(rf"\b{place}\b", stand_in, said)
        if said and "--config-dir" not in said:
            yield said


def of_runs(compose: Callable[[list[str]], Any]) -> Callable[[list[str]], None]:
    """Return what takes the words of one run, or of several."""

    def take(argv: list[str]) -> None:
        arguments = read_arguments(argv, ("--trust",))
        for words in expand(arguments.words) if arguments.multirun else [arguments.words]:
            assert compose(words).config.train

    return take


def take_grid(argv: list[str]) -> None:
    """Compose the arms of the first task; what there are of tasks is known by then."""
    if argv[0] == "speed":
        assert speed.main([*argv[1:], "--dry-run", "curl=."]) == 0
        return
    space, trials, words = take_search(read_arguments(argv, ("--dry-run",)).words)
    request = read_request(words, ())
    request = replace(request, tasks=request.tasks[:1])
    assert make_plan(request, ()).runs if space is None else make_asked(request, space, trials, ()).space


def take_study(argv: list[str]) -> None:
    name, words = study._name(read_arguments(argv))
    config = study._settings(words)
    assert name == study.ALL or study.compose(name, words, config.preset).settings


TAKE: dict[str, Callable[[list[str]], Any]] = {
    "train": of_runs(compose_run),
    "pretrain": of_runs(compose_pretraining),
    "federate": of_runs(compose_federation),
    "bench": take_grid,
    "study": take_study,
    "probe": lambda argv: probe.compose_probe(read_arguments(argv, ("--trust",)).words, Trust()),
    "evaluate": lambda argv: evaluate.read_asked(read_arguments(argv, ("--trust",)).words),
    "report": lambda argv: report.read_asked(read_arguments(argv).words),
    "hub": lambda argv: hub.read_asked(read_arguments(hub._as_words(argv)).words),
}


def test_commands_are_found() -> None:
    found = commands("rlrep")
    assert len(found) >= 100 and {name for name, _ in found} == set(TAKE)
    assert len(commands("benchmarks")) >= 3


@pytest.mark.parametrize("name, command", commands("rlrep"))
def test_a_command_is_taken(name: str, command: str) -> None:
    TAKE[name](shlex.split(command))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"-m benchmarks\.(\w+)", TEXT))))
def test_a_script_is_there_with_its_flags(name: str) -> None:
    text = (ROOT / "benchmarks" / f"{name}.py").read_text()
    assert '__name__ == "__main__"' in text
    shared = (ROOT / "benchmarks" / "result.py").read_text()
    flags = {flag for script, words in commands("benchmarks") if script == name for flag in re.findall(r"--\w+", words)}
    assert {flag for flag in flags if f'"{flag}"' not in text + shared} == set()
