"""`python -m rlrep.report runs/ out=report/`: compare runs in one page, figures and tables. See `--help`."""

import sys


def main() -> int:
    """Run the command line."""
    from rlrep.commands.report import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
