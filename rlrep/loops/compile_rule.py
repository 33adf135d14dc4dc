"""`compile=auto`: a fixed rule, never a timing, so that the same command always computes the same."""

import os
import shutil
from dataclasses import dataclass

from rlrep.config.config import Compile
from rlrep.contract.agent import CompileMode
from rlrep.settings import UserError

WORTH_COMPILING_UPDATES = 20_000
"""Updates after which compiling (about a minute) has paid for itself on a CPU."""


@dataclass(frozen=True)
class CompileChoice:
    """The mode an agent is built with, and why."""

    mode: CompileMode
    reason: str


def choose_compile(
    asked: Compile, *, device: str, pixels: bool, updates: int, gains_on_pixels: bool = False, compiles: bool = True
) -> CompileChoice:
    """Settle `auto` from the device type, the kind of observation and the planned updates.

    gains_on_pixels: the agent's update of frames is small enough for what lies between its convolutions to matter.
    compiles: the agent's update can be compiled at all.
    Raises UserError if what is asked for cannot run here.
    """
    if asked == "cudagraph" and device != "cuda":
        raise UserError(f"compile=cudagraph needs a GPU, this run is on {device}: use compile=default or compile=off")
    if asked == "default" and device == "cpu" and not find_compiler():
        raise UserError("compile=default needs a C++ compiler: install g++ or clang++, or use compile=off")
    if asked != "auto":
        return CompileChoice(asked, "as asked")
    if not compiles:
        return CompileChoice("off", "this agent's update runs as it is")
    if device == "cuda":
        return CompileChoice("cudagraph", "on a GPU, whole updates are replayed")
    if pixels and not gains_on_pixels:
        return CompileChoice("off", "convolutions on a CPU gain nothing")
    if updates < WORTH_COMPILING_UPDATES:
        return CompileChoice("off", f"{updates} updates are fewer than {WORTH_COMPILING_UPDATES}")
    if not find_compiler():
        return CompileChoice("off", "no C++ compiler found: install g++ or clang++ for faster updates")
    return CompileChoice("default", f"{updates} updates of a small network")


def find_compiler() -> str | None:
    """Return a C++ compiler's path, if there is one."""
    named = os.environ.get("CXX")
    return next((path for name in (named, "g++", "clang++", "c++") if name and (path := shutil.which(name))), None)
