"""`python -m rlrep.train env=dmc_cheetah aux=return_contrast`: train one run, or continue it. See `--help`."""

import sys


def main() -> int:
    """Run the command line. Nothing heavy is imported before: simulator processes import this module again."""
    from rlrep.commands.train import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
