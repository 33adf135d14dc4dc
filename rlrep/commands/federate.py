"""`python -m rlrep.federate`: what the flags do. Heavy imports wait until a run needs them."""

from typing import Any

from rlrep.process.cli import Arguments, entry

from .pretrain import start

ENTRY = "rlrep.federate"


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from rlrep.config.help import federate_help

        print(federate_help(arguments.folders))
        return 0
    from rlrep.config.federate_compose import compose_federation

    def job(config: Any) -> Any:
        from rlrep.loops.federation.job import Federate

        return Federate(config)

    return start(arguments, ENTRY, compose_federation, job)


main = entry(_run)
