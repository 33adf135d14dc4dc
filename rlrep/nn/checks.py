"""What the settings of encoders are refused for."""

from dataclasses import fields
from typing import Any


def check_sizes(settings: Any) -> None:
    """Raise ValueError naming the first whole number of a dataclass, by itself or in a list, that is below 1, or an
    empty list."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        listed = value if isinstance(value, tuple) else (value,)
        if not listed or any(type(each) is int and each < 1 for each in listed):
            raise ValueError(f"{field.name} must be at least 1, not {list(listed) if listed is value else value}")


def check_states(name: str, obs_shape: tuple[int, ...]) -> None:
    """Raise ValueError if `encoder=name`, which is for states `(D,)`, is given images."""
    if len(obs_shape) != 1:
        raise ValueError(
            f"encoder={name} needs flat states, got observations of {obs_shape}: choose encoder=curl for pixels"
        )
