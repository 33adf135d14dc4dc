"""Errors whose one line is all a user needs, and what is none: a run that was asked to stop."""

from rlrep.settings import ConfigError, UserError, hint, one_line

__all__ = ["Busy", "ConfigError", "Stopped", "UserError", "hint", "one_line"]


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
