"""`python -m rlrep.bench`: what the flags do. Heavy imports wait until a grid needs them."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrep.process.cli import Arguments, read_arguments, run_main
from rlrep.settings import ConfigError, UserError

if TYPE_CHECKING:
    from optuna import Study

    from rlrep.grid.plan import Plan, Run
    from rlrep.grid.search import Asked
    from rlrep.grid.state import Board
    from rlrep.launch.scheduler import Entry, State

ENTRY = "rlrep.bench"
TRAIN = "rlrep.train"
_ROUNDS = 4
"""In how many parts a fleet trains the trials of a search, so that later ones can learn from earlier ones."""


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
    from rlrep.grid.search import make_asked
    from rlrep.grid.space import take_search
    from rlrep.grid.suite import read_request

    space, trials, words = take_search(arguments.words)
    request = read_request(words, arguments.folders)
    if sys.stderr.isatty():
        print(f"composing the runs of {len(request.tasks)} task(s) ...", file=sys.stderr, flush=True)
    if space is not None:
        return _search(make_asked(request, space, trials, arguments.folders), arguments)
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

    entries = [_entry(run, arguments) for run in plan.runs]
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


def _search(asked: "Asked", arguments: Arguments) -> int:
    """Run a search, then its best arm and the default one on seeds that it has not seen."""
    from rlrep.grid.search import SEED, open_study

    if arguments.show or arguments.dry_run:
        return _show_search(asked)
    study = open_study(asked)
    print(f"search of {', '.join(asked.space)}: {asked.trials} trials in {asked.folder}", flush=True)
    code = _run_trials(asked, study, arguments)
    _write_summary(asked, study, {})
    if code > 1:
        print("stopped; the same command goes on", file=sys.stderr, flush=True)
        return code
    best = best_of(study)
    chosen = " ".join(f"{key}={value}" for key, value in best.items())
    print(f"highest on seed {SEED}: {chosen}; now on fresh seeds, beside the default", flush=True)
    plan = asked.fresh({"best": best, "default": {}})
    code = _conduct(plan, arguments)
    names = {"best": plan.runs[0].arm, "default": plan.runs[1].arm}
    scores = {name: scores_of([run for run in plan.runs if run.arm == arm]) for name, arm in names.items()}
    _write_summary(asked, study, scores)
    return code


def _show_search(asked: "Asked") -> int:
    import yaml

    space = {key: [*each.ends, *(["log"] if each.log else [])] for key, each in asked.space.items()}
    shown = {"search": space, "trials": asked.trials, "fresh_seeds": list(asked.request.seeds)}
    print(yaml.safe_dump({**shown, "folder": str(asked.folder)}, sort_keys=False, width=120), end="")
    return 0


def _run_trials(asked: "Asked", study: "Study", arguments: Arguments) -> int:
    from rlrep.grid.multirun import conduct
    from rlrep.grid.search import Search
    from rlrep.launch import Fleet

    def say(line: str) -> None:
        print(line, flush=True)

    together = isinstance(asked.settings.launcher, Fleet)  # whose runs begin, and are stopped, all at once
    most = -(-asked.trials // _ROUNDS) if together else asked.trials
    search = Search(asked, study, lambda run: _entry(run, arguments), _state_of, evaluations_of, say, cuts=not together)
    settings = replace(asked.settings, root=str(asked.folder))
    return conduct([], settings, search, search.standing, more=search.more, most=most)


def evaluations_of(folder: Path) -> list[tuple[int, float, bool]]:
    """Return agent steps, score and whether it is the final one of each evaluation of a run; [] before the first."""
    from rlrep.record.stored import Unreadable
    from rlrep.scores.arms import task_of
    from rlrep.scores.comparison import raw
    from rlrep.scores.runs import read_run

    try:
        run, _ = read_run(folder)
    except Unreadable:
        return []
    found = run.evaluations
    scores, last = raw(task_of(run), run).tolist(), len(found.agent_steps) - 1
    return [(int(step), scores[i], i == last and found.final) for i, step in enumerate(found.agent_steps.tolist())]


def scores_of(runs: "Sequence[Run]") -> list[float]:
    """Return the final scores of the runs that have one."""
    return [score for run in runs for _, score, final in evaluations_of(Path(run.out)) if final]


def best_of(study: "Study") -> dict[str, Any]:
    """Return the options of the best trial. Raises UserError if none was finished."""
    try:
        return dict(study.best_params)
    except ValueError as error:
        raise UserError("no trial of the search was finished: see the logs beside their folders") from error


def _write_summary(asked: "Asked", study: "Study", fresh: "Mapping[str, Sequence[float]]") -> None:
    import json

    from rlrep.grid.search import summary
    from rlrep.record.files import replace_file

    replace_file(asked.folder / "search.json", json.dumps(summary(asked, study, fresh), indent=1) + "\n")


def _entry(run: "Run", arguments: Arguments) -> "Entry":
    """Return a run as the scheduler sees it."""
    from rlrep.grid.multirun import command, log_of
    from rlrep.launch.base import Job
    from rlrep.launch.scheduler import Entry

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
