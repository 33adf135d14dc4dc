"""`python -m rlrep.bench`: what the flags do. Heavy imports wait until a grid needs them."""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlrep.process.cli import Arguments, read_arguments, run_main
from rlrep.settings import ConfigError

if TYPE_CHECKING:
    from rlrep.grid.plan import Plan, Run
    from rlrep.grid.state import Board
    from rlrep.launch.scheduler import Entry, State

ENTRY = "rlrep.bench"
TRAIN = "rlrep.train"


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    if list(argv[:1]) == ["speed"]:
        from rlrep.grid.speed import main as speed

        return speed(argv[1:])
    return run_main(lambda: _run(read_arguments(argv, ("--dry-run",))))


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from rlrep.config.help import bench_help

        print(bench_help(arguments.folders))
        return 0
    if arguments.multirun:
        raise ConfigError("-m is rlrep.train's: a grid is a multirun already")
    from rlrep.grid.plan import make_plan
    from rlrep.grid.suite import read_request

    request = read_request(arguments.words, arguments.folders)
    if sys.stderr.isatty():
        print(f"composing the runs of {len(request.tasks)} task(s) ...", file=sys.stderr, flush=True)
    plan = make_plan(request, arguments.folders)
    if arguments.show:
        import yaml

        print(yaml.safe_dump(describe(plan), sort_keys=False, width=120), end="")
        return 0
    return _conduct(plan, arguments)


def _conduct(plan: "Plan", arguments: Arguments) -> int:
    from rlrep.grid.multirun import conduct
    from rlrep.grid.state import Board
    from rlrep.grid.table import make_view
    from rlrep.launch.lines import complain

    entries = [_entry(plan, index, arguments) for index in range(len(plan.runs))]
    board = Board(plan, entries)
    print("\n".join(headline(board)), flush=True)
    if arguments.dry_run:
        print("\n".join(_listed(board, arguments)))
        return 0
    runs = {entry.job: run for run, entry in board.pairs()}
    code = 0
    if any(entry.state in ("waiting", "elsewhere") for entry in entries):
        with make_view(board) as view:
            code = conduct(entries, plan.settings, view, lambda job: _state_of(runs[job]))
    complain(entries, code)
    print(_ending(board), flush=True)
    return code or int(any(entry.state == "failed" for entry in entries))


def _entry(plan: "Plan", index: int, arguments: Arguments) -> "Entry":
    """Return a run as the scheduler sees it."""
    from rlrep.grid.multirun import command, log_of
    from rlrep.launch.base import Job
    from rlrep.launch.scheduler import Entry

    run = plan.runs[index]
    return Entry(Job(run.name, command(TRAIN, run.words, arguments.folders), log_of(run.out)), *_state_of(run))


def _state_of(run: "Run") -> "tuple[State, str]":
    """Return how a run stands, in the scheduler's words: what is finished, refused or elsewhere is not its to start."""
    from rlrep.grid.plan import standing

    kind, reason = standing(run)
    states: dict[str, State] = {"finished": "done", "elsewhere": "elsewhere", "refused": "failed"}
    return states.get(kind, "waiting"), reason


def headline(board: "Board") -> list[str]:
    """Say what the grid is."""
    plan, request = board.plan, board.plan.request
    sizes = (
        (len(request.tasks), "task"),
        (len(request.agents), "agent"),
        (len(plan.arms), "arm"),
        (len(request.seeds), "seed"),
    )
    size = " x ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in sizes if count)
    lines = [f"{request.suite} (preset={request.preset}): {size} = {len(plan.runs)} runs in {request.root}"]
    if plan.augmentations:
        lines.append(f"with the augmentation-only arm: augment={','.join(plan.augmentations)} aux=none")
    return [*lines, f"before: {board.counts()}"]


def _listed(board: "Board", arguments: Arguments) -> list[str]:
    told = {"done": "  # finished", "failed": "  # refused", "elsewhere": "  # under way elsewhere"}
    return [arguments.again(TRAIN, run.words) + told.get(entry.state, "") for run, entry in board.pairs()]


def describe(plan: "Plan") -> dict[str, object]:
    """Return the grid as `--cfg` prints it."""
    request = plan.request
    return {
        "suite": request.suite,
        "preset": request.preset,
        "tasks": [shlex.join(words) for words in request.tasks],
        "agents": list(request.agents),
        "arms": plan.arms,
        "augmentation_only": list(plan.augmentations),
        "seeds": list(request.seeds),
        "words": list(request.words),
        "launcher": plan.settings.choices["launcher"],
        "out": request.root,
        "runs": len(plan.runs),
    }


def _ending(board: "Board") -> str:
    done = sum(entry.state == "done" for entry in board.entries)
    line = f"{done} of {len(board.entries)} runs are finished"
    return f"{line}; report: python -m rlrep.report {shlex.quote(board.plan.request.root)}" if done else line
