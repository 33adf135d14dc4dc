"""The command line's `key=value` words, read by Hydra's grammar: group choices, settings, sweeps."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from rlrep.settings import ConfigError, hint, one_line
from rlrep.settings.groups import FEDERATE_GROUPS, GROUPS, PRETRAIN_GROUPS, names


@dataclass(frozen=True)
class Grammar:
    """What an entry point's words may be. groups: those that choose a name. lengths: options of which one is due.

    paths: options besides `is_path`'s that are one. texts: options that are taken as they are typed.
    """

    groups: tuple[str, ...]
    lengths: tuple[str, ...] = ()
    explanation: str = ""
    paths: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


TRAIN = Grammar(GROUPS, ("train.agent_steps", "train.env_steps"), "env steps count action repeats")
PROBE = Grammar(("data",), paths=("encoder",))
STUDY = Grammar(("study",), paths=("encoder",))
PRETRAIN = Grammar(PRETRAIN_GROUPS, ("train.epochs", "train.updates"), "an epoch is one pass over the data")
FEDERATE = Grammar(FEDERATE_GROUPS)


@dataclass(frozen=True)
class Setting:
    """`path=value` for one option. as_typed: the value never went through the grammar, and nothing in it is special."""

    path: str
    value: Any
    as_typed: bool = False


@dataclass(frozen=True)
class CommandLine:
    """One run's words: the chosen name (or names) by group, and single settings in order."""

    words: tuple[str, ...]
    choices: dict[str, str | list[str]]
    settings: tuple[Setting, ...]
    grammar: Grammar = TRAIN

    def setting(self, path: str) -> Any:
        """Return the last value given for `path`, or None."""
        return next((s.value for s in reversed(self.settings) if s.path == path), None)


def parse(words: Sequence[str], grammar: Grammar = TRAIN) -> CommandLine:
    """Read one run's words. Raises ConfigError on bad grammar or a sweep; whether a choice is known is not asked."""
    choices: dict[str, str | list[str]] = {}
    settings = []
    for word in words:
        if (typed := _as_typed(word, grammar)) is not None:
            settings.append(typed)
            continue
        override = _read(word)
        key, value = str(override.key_or_group), _value(override)
        if key in grammar.groups:
            choices[key] = _choice(key, value)
        else:
            settings.append(Setting(key, value))
    _reject_two_lengths(settings, grammar)
    return CommandLine(tuple(words), choices, tuple(settings), grammar)


def expand(words: Sequence[str]) -> list[list[str]]:
    """Return the words of every run of a multirun: the product of its sweeps, the last one moving fastest."""
    return [list(combination) for combination in product(*map(expand_word, words))]


def is_path(option: str) -> bool:
    """Whether an option of any entry point names a file or folder: those are never read by the grammar."""
    return option in ("out", "root", "encoder.load") or option.rpartition(".")[2] in ("path", "cache_path")


def as_path(text: str) -> str:
    """Return what the user calls a place, `~` expanded as a shell does; what still begins with one is called so."""
    place = os.path.expanduser(text)
    return os.path.abspath(place) if os.path.normpath(place).startswith("~") else place


def _as_typed(word: str, grammar: Grammar) -> Setting | None:
    """Return what a word sets, everything after its first `=`, if it is a path or a text; `null` is no path."""
    key, equals, text = word.partition("=")
    key = key.lstrip("+")  # Hydra's spelling
    if not equals or not (is_path(key) or key in (*grammar.paths, *grammar.texts)):
        return None
    if key in grammar.texts:
        return Setting(key, text, as_typed=True)
    return Setting(key, None if text == "null" else as_path(text), as_typed=True)


def _read(word: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        reason = (
            "write key=value"
            if "=" not in word
            else f"{one_line(error)[:120]} (quote values that hold special characters)"
        )
        raise ConfigError(f"cannot read {word!r}: {reason}") from error
    if override.is_delete() or not override.key_or_group:
        raise ConfigError(f"cannot read {word!r}: write key=value")
    return override


def _value(override: Override) -> Any:
    if override.is_sweep_override():
        raise ConfigError(f"{override.input_line} is a sweep: add -m to run them all (or write [a,b] for a list)")
    return override.value()


def _choice(group: str, value: Any) -> str | list[str]:
    if group == "aux":
        return sorted({str(head) for head in (value if isinstance(value, list) else [value])} - {"none"})
    if not isinstance(value, str):
        raise ConfigError(f"{group}={value} is not a name{hint(str(value), names(group))}")
    return value


def _reject_two_lengths(settings: Sequence[Setting], grammar: Grammar) -> None:
    if grammar.lengths and set(grammar.lengths) <= {s.path for s in settings}:
        raise ConfigError(f"give {' or '.join(grammar.lengths)}, not both ({grammar.explanation})")


def key_of(word: str) -> str:
    """Return the left side of a word. Raises ConfigError on bad grammar."""
    typed = _as_typed(word, TRAIN)
    return typed.path if typed else str(_read(word).key_or_group)


def expand_word(word: str) -> list[str]:
    """Return the words that a sweep stands for, the word itself if it is none. Paths are never swept."""
    if _as_typed(word, TRAIN):
        return [word]
    override = _read(word)
    if not override.is_sweep_override():
        return [word]
    try:
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    except HydraException as error:
        raise ConfigError(f"cannot sweep {word!r}: list the values, as in key=a,b or key=range(0,3)") from error
