"""Errors whose one line is all a user needs, and what is none: a run that was asked to stop."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can put right: printed as one line, without a traceback."""

    exit_code = 1


class ConfigError(UserError):
    """A command line or config that cannot be run."""

    exit_code = 2


class Busy(UserError):
    """Another process works in the folder: later the same command may do."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Stopped(Exception):
    """The run was asked to stop by a signal, at a point where everything is consistent."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 + signal."""
        return 128 + self.signal_number


def hint(name: str, valid: Iterable[str]) -> str:
    """Return `: did you mean X? Valid: …` for a name that is not among `valid`."""
    options = sorted(valid)
    close = get_close_matches(name, options, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]}? " if close else ""
    return f": {guess}valid: {', '.join(options) or 'none'}"


def one_line(error: BaseException) -> str:
    """Return an exception's message squeezed into one line; what a screen would obey rather than show becomes `?`."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if line.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in line)
