"""`python -m rlrep.hub push RUN --repo NAME`, `pull NAME --out DIR`: agents and encoders on the Hub. See `--help`."""

import sys


def main() -> int:
    """Run the command line. Nothing heavy is imported before: simulator processes import this module again."""
    from rlrep.commands.hub import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
