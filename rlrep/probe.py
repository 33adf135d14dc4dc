"""`python -m rlrep.probe encoder=RUN data=digits`: what a saved encoder's features are good for. See `--help`."""

import sys


def main() -> int:
    """Run the command line."""
    from rlrep.commands.probe import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
