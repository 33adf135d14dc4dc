"""`python -m rlrep.federate method=moon data=digits`: train among parties, or continue it. See `--help`."""

import sys


def main() -> int:
    """Run the command line. Nothing heavy is imported before it is needed."""
    from rlrep.commands.federate import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
