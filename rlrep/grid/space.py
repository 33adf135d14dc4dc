"""What a search may choose from: `search={OPTION: [LOW, HIGH, log]}` of a command line, read into ranges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlrep.config.overrides import key_of, parse
from rlrep.settings import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_MOST_TRIALS = 1_000
_FORM = "write search='{agent.lr: [1e-4, 1e-3, log]}': lowest, highest and, if wanted, log; or names to choose from"


@dataclass(frozen=True)
class Range:
    """What one option may be. low, high: numbers, whole ones if both are; choices: in place of them, names."""

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[str, ...] = ()

    def distribution(self) -> "BaseDistribution":
        """Return it as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are composed before anything runs."""
        return self.choices or (self.low, self.high)


def take_search(words: Sequence[str]) -> tuple[dict[str, Range] | None, int, list[str]]:
    """Return the space (None: no search), the number of trials and the other words. Raises ConfigError in one line."""
    own = {key_of(word): word for word in words if key_of(word) in ("search", "trials")}
    rest = [word for word in words if word not in own.values()]
    if "search" not in own:
        if own:
            raise ConfigError(f"{own['trials']}: trials of what? {_FORM}")
        return None, 0, rest
    values = {setting.path: setting.value for setting in parse(list(own.values())).settings}
    if "trials" not in values:
        raise ConfigError("search= needs a number of trials, as trials=40")
    trials = values["trials"]
    if type(trials) is not int or not 1 <= trials <= _MOST_TRIALS:
        raise ConfigError(f"trials={trials} must be a whole number from 1 to {_MOST_TRIALS}")
    return read_space(values["search"]), trials, rest


def read_space(value: object) -> dict[str, Range]:
    """Return the ranges by option. Raises ConfigError."""
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"search= names no options: {_FORM}")
    return {str(key): _range(str(key), each) for key, each in value.items()}


def _range(option: str, value: object) -> Range:
    if not isinstance(value, list) or len(value) < 2:
        raise ConfigError(f"search: {option}: {value} is no range: {_FORM}")
    if all(isinstance(each, str) for each in value):
        if len(set(value)) < len(value):
            raise ConfigError(f"search: {option}: {value} names a choice twice")
        return Range(choices=tuple(value))
    log, (low, *others) = value[-1] == "log", value
    numbers = [low, *others[: len(others) - log]]
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ConfigError(f"search: {option}: {value} is no range: {_FORM}")
    low, high = numbers
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"search: {option}: the range must go from a lower to a higher number, not {low} to {high}")
    if log and low <= 0:
        raise ConfigError(f"search: {option}: a range with log begins above 0, not at {low}")
    return Range(low, high, log)
