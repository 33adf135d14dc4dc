"""From plain values to frozen dataclasses, and the errors of users who gave others."""

from .coerce import (
    TARGET,
    accepts,
    build,
    coerce,
    complete,
    completed,
    expand_names,
    find_object,
    find_target,
    plain,
    with_all_defaults,
    with_defaults,
)
from .errors import Busy, ConfigError, Stopped, UserError, hint, one_line

__all__ = [
    "TARGET",
    "Busy",
    "ConfigError",
    "Stopped",
    "UserError",
    "accepts",
    "build",
    "coerce",
    "complete",
    "completed",
    "expand_names",
    "find_object",
    "find_target",
    "hint",
    "one_line",
    "plain",
    "with_all_defaults",
    "with_defaults",
]
