"""`python -m rlrep.study NAME`: measure what a paper claims of contrastive learning. See `--help`."""

import sys


def main() -> int:
    """Run the command line."""
    from rlrep.commands.study import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
