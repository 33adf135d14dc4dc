"""`python -m rlrep.bench suite=dmc100k aux=none,curl,return_contrast seeds=5`: a grid of runs. See `--help`."""

import sys


def main() -> int:
    """Run the command line. Nothing heavy is imported before: simulator processes import this module again."""
    from rlrep.commands.bench import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
