"""`python -m rlrep.pretrain`: what the flags do. Heavy imports wait until a run needs them."""

from collections.abc import Callable
from typing import Any

from rlrep.process.cli import Arguments, check_alone, entry, processes

ENTRY = "rlrep.pretrain"


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from rlrep.config.help import pretrain_help

        print(pretrain_help(arguments.folders))
        return 0
    from rlrep.config.pretrain_compose import compose_pretraining

    def job(config: Any) -> Any:
        from rlrep.loops.pretraining.job import Pretrain

        return Pretrain(config)

    return start(arguments, ENTRY, compose_pretraining, job)


def start(arguments: Arguments, command: str, compose: Callable[..., Any], job: Callable[[Any], Any]) -> int:
    """Compose, and show, launch or run.

    compose: from words and folders to a config and its tree. job: makes the session's job of a config.
    """
    if arguments.multirun:
        check_alone()
        from rlrep.grid.multirun import launch

        return launch(arguments, command, compose)
    composed = compose(arguments.words, arguments.folders)
    if arguments.show:
        import yaml

        print(yaml.safe_dump(composed.tree, sort_keys=False, width=120), end="")
        return 0
    from rlrep.loops.session import run

    run(job(composed.config), composed.tree, again=arguments.again(command, arguments.words))
    return 0


main = entry(_run, check=processes)
