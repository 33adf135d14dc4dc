"""Which files a word of the command line passes on its way to its dataclass, and how often it comes back to one.

    python -m benchmarks.stays [GROUP=NAME ...] [--all]

Follows words of `rlrep.train --cfg`, each with a value that nothing else has. A stay begins where a function of another
file is handed the word, or something that holds it; to hand back a result is none. A return is a stay in a file that
the word had left.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType

from . import machine

WORDS = {
    "agent.lr=0.0123": 0.0123,
    "aux.curl.weight=0.0123": 0.0123,
    "train.log_every=12321": 12321,
    "env.num_envs=12321": 12321,
    "augment=shift_intensity": "shift_intensity",
    "aux.curl.view=shift_intensity": "shift_intensity",
}
"""Words that are followed, by what is looked for."""
BASE = ("env=dmc_cartpole", "aux=curl", "preset=debug")
_DEEPEST = 9


def main() -> None:
    """Print a line for each word."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list the stays too")
    parser.add_argument("base", nargs="*", default=BASE, metavar="GROUP=NAME", help="words beside the followed one")
    options = parser.parse_args()
    for word, value in WORDS.items():
        stays = follow([*options.base, word], value)
        print(f"{word:<34}{len(set(stays)):>3} files {len(stays):>3} stays {len(stays) - len(set(stays)):>3} returns")
        if options.all:
            print("\n".join(f"    {place}" for place in stays))


def follow(words: list[str], value: object) -> list[str]:
    """Return the files that are handed `value` between the command line and the first dataclass made of it."""
    from rlrep.train import main

    stays: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event != "call" or stays[-1:] == ["done"] or not frame.f_code.co_argcount:
            return
        if frame.f_code.co_name == "__init__" and path.name == "<string>" and _made_of(frame, value):
            stays.append("done")
        elif path.suffix == ".py" and machine.ROOT in path.parents and any(_holds(frame, value)):
            place = str(path.relative_to(machine.ROOT))
            stays.extend([place] if stays[-1:] != [place] else [])

    before, sys.argv = sys.argv, ["rlrep.train", *words, "--cfg"]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main()  # what is imported only once is imported now
            sys.setprofile(watch)
            main()
    finally:
        sys.setprofile(None)
        sys.argv = before
    assert stays[-1:] == ["done"], f"{words[-1]} reached no dataclass"
    return stays[:-1]


def _holds(frame: FrameType, value: object) -> Iterator[bool]:
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
    return (_has(frame.f_locals.get(name), value, _DEEPEST) for name in names)


def _made_of(frame: FrameType, value: object) -> bool:
    """Whether a dataclass of settings is made of the value itself, or of a component of that name."""
    made = frame.f_locals["self"]
    module = type(made).__module__.split(".")
    settings = module[0] == "rlrep" and module[-1] not in ("overrides", "cli", "compose", "groups")
    if isinstance(value, str):
        return settings and type(made).__name__.lower() in (value.replace("_", ""), "imageview")
    return settings and any(held is not made and _has(held, value, 1) for held in frame.f_locals.values())


def _has(node: object, value: object, deepest: int) -> bool:
    if isinstance(node, (str, int, float)):
        return node == value or (isinstance(node, str) and str(value) in node)
    if deepest == 0:
        return False
    if isinstance(node, dict):
        return any(_has(held, value, deepest - 1) for pair in node.items() for held in pair)
    if isinstance(node, (list, tuple, set, frozenset)):
        return any(_has(held, value, deepest - 1) for held in node)
    if is_dataclass(node) and not isinstance(node, type):
        return any(_has(getattr(node, f.name, None), value, deepest - 1) for f in fields(node))
    return False


if __name__ == "__main__":
    main()
