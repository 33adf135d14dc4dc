"""`python -m rlrep.evaluate out=RUN episodes=10 video=true`: score a run's latest checkpoint. See `--help`."""

import sys


def main() -> int:
    """Run the command line. Nothing heavy is imported before: simulator processes import this module again."""
    from rlrep.commands.evaluate import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
