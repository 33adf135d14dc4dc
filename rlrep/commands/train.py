"""`python -m rlrep.train`: what the flags do. Heavy imports wait until a run needs them."""

from collections.abc import Sequence

from rlrep.process.cli import Arguments, entry

ENTRY = "rlrep.train"


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from rlrep.config.help import train_help

        print(train_help(arguments.folders))
        return 0
    if arguments.multirun:
        from rlrep.config.compose import compose_run
        from rlrep.grid.multirun import launch

        return launch(arguments, ENTRY, compose_run)
    return _run_one(arguments)


def _run_one(arguments: Arguments) -> int:
    from rlrep.config.compose import compose_run

    if arguments.show:
        import yaml

        print(yaml.safe_dump(compose_run(arguments.words, arguments.folders).tree, sort_keys=False, width=120), end="")
    else:
        train(arguments)
    return 0


def train(arguments: Arguments) -> str:
    """Train a run, or go on with it, and return its folder."""
    from rlrep.config.compose import compose_run
    from rlrep.loops.session import run
    from rlrep.loops.training import Training

    composed = compose_run(arguments.words, arguments.folders)
    small = composed.config.choices["preset"] != "paper"
    afterwards = f"full-size job: {arguments.again(ENTRY, _full_size(arguments.words))}" if small else ""
    again = arguments.again(ENTRY, arguments.words)
    run(Training(composed.config), composed.tree, again=again, afterwards=afterwards)
    return composed.config.out


def _full_size(words: Sequence[str]) -> list[str]:
    """Return the words of the same job with the paper's settings."""
    return [word for word in words if word.split("=")[0].split(".")[0] not in ("preset", "train", "out")]


main = entry(_run)
