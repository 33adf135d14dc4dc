"""What `launcher=fleet` starts: the runs that standard input lists, in one process, told of on standard output."""

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

from rlrep.process.cli import read_arguments, run_main
from rlrep.settings import UserError, one_line


def _run() -> int:
    from rlrep.loops.fleet import Fleet, Member
    from rlrep.process.signals import catch_signals

    asked = json.loads(sys.stdin.read())
    with os.fdopen(os.dup(1), "w", buffering=1) as told:
        os.dup2(2, 1)  # what simulators print is not for whoever started us
        numbers: dict[Member, int] = {}

        def tell(number: int, code: int | None) -> None:
            print(json.dumps({"run": number, "code": code}), file=told, flush=True)

        for number, run in enumerate(asked["runs"]):
            log = _opened(Path(run["log"]))
            try:
                numbers[_member(run["words"], log)] = number
            except UserError as error:
                print(f"error: {one_line(error)}", file=log, flush=True)
                tell(number, error.exit_code)
        with catch_signals("stopping: the runs save (again to quit at once)") as stop:
            fleet = Fleet(asked["size"], stop, lambda member: tell(numbers[member], member.code))
            fleet.run(list(numbers))
    return 0


def _opened(log: Path) -> IO[str]:
    from rlrep.files import open_plain

    log.parent.mkdir(parents=True, exist_ok=True)
    return open(open_plain(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a")


def _member(words: list[str], log: IO[str]) -> Any:
    """Return the run of a command line of `rlrep.train`. Raises UserError if it is not valid."""
    from rlrep.config.compose import compose_run
    from rlrep.loops.fleet import Member
    from rlrep.loops.training import Training

    arguments = read_arguments(words)
    composed = compose_run(arguments.words, arguments.folders)
    return Member(Training(composed.config), composed.tree, log, arguments.again("rlrep.train", arguments.words))


if __name__ == "__main__":
    sys.exit(run_main(_run))
