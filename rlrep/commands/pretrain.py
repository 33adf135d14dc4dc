"""`python -m rlrep.pretrain`: what the flags do. Heavy imports wait until a run needs them."""

from collections.abc import Sequence

from rlrep.process.cli import Arguments, check_alone, processes, read_arguments, run_main

ENTRY = "rlrep.pretrain"


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_main(lambda: _run(read_arguments(argv)), check=processes)


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from rlrep.config.help import pretrain_help

        print(pretrain_help(arguments.folders))
        return 0
    from rlrep.config.pretrain_compose import compose_pretraining

    if arguments.multirun:
        check_alone()
        from rlrep.grid.multirun import launch

        return launch(arguments, ENTRY, compose_pretraining)
    composed = compose_pretraining(arguments.words, arguments.folders)
    if arguments.show:
        import yaml

        print(yaml.safe_dump(composed.tree, sort_keys=False, width=120), end="")
        return 0
    from rlrep.loops.pretraining.job import Pretrain
    from rlrep.loops.session import run

    run(Pretrain(composed.config), composed.tree, again=arguments.again(ENTRY, arguments.words))
    return 0
