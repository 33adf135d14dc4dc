"""`python -m rlrep.pretrain method=simclr data=digits`: pretrain an encoder, or continue it. See `--help`."""

import sys


def main() -> int:
    """Run the command line. Nothing heavy is imported before it is needed."""
    from rlrep.commands.pretrain import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
