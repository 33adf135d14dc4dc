"""`python -m rlrep.pretrain`: what the flags do. Heavy imports wait until a run needs them."""

from rlrep.process.cli import Arguments, check_alone, entry, processes

ENTRY = "rlrep.pretrain"


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


main = entry(_run, check=processes)
