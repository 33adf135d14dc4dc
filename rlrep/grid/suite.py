"""What a benchmark command asks for: a suite's file and the words that were typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlrep.config.overrides import TRAIN, expand_word, key_of, parse
from rlrep.settings import ConfigError, build, coerce, hint
from rlrep.settings.groups import check, names, read, values

_MOST_SEEDS = 1_000
_OWN = ("suite", "tasks", "agents", "aux", "arms", "seeds", "out")
_INSTEAD = {
    "env": "the suite names the tasks; tasks=A,B picks some of them, and --config-dir DIR finds DIR/suite/NAME.yaml",
    "agent": "a grid compares agents, say agents=",
    "seed": "a grid has several, say seeds=5 or seeds=[0,1]",
    "root": "a grid's folder is out=",
}


@dataclass(frozen=True)
class Suite:
    """A protocol. tasks: words of each task, a line each; words: of every run.

    agents, aux: choices to compare, each of the one with each of the other.
    arms: in their place, by name, the words of each arm; sweeps in them are further arms.
    """

    tasks: tuple[str, ...]
    agents: tuple[str, ...] = ()
    aux: tuple[str, ...] = ()
    arms: Mapping[str, str] = field(default_factory=dict)
    seeds: int = 5
    preset: str = "paper"
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        crossed = bool(self.agents) and bool(self.aux)
        if crossed == bool(self.arms) or bool(self.agents) != bool(self.aux):
            raise ValueError("give agents and aux, or arms in their place")


@dataclass(frozen=True)
class Request:
    """A whole command. tasks, agents, aux: words of each choice. arms: words of each, where the suite names them.

    augment: of the heads' arms, None where nothing says. words: the others, of every run.
    root: the runs' folder. place: the word that says so to `rlrep.train`, none for its default.
    """

    suite: str
    preset: str
    tasks: tuple[tuple[str, ...], ...]
    agents: tuple[str, ...]
    aux: tuple[str, ...]
    arms: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    root: str
    place: tuple[str, ...]
    augment: str | None
    words: tuple[str, ...]
    launcher: tuple[str, ...]


def read_request(words: Sequence[str], folders: Sequence[Path]) -> Request:
    """Read the words of a benchmark command; what is not its own is `rlrep.train`'s. Raises ConfigError."""
    given = {key_of(word): word for word in words}
    own = {key: given.pop(key) for key in _OWN if key in given}
    for key, instead in _INSTEAD.items():
        if key in given:
            raise ConfigError(f"{given[key]}: {instead}")
    if "suite" not in own:
        raise ConfigError(f"name a suite: suite=NAME{hint('', names('suite', folders))}")
    name = value_of(own["suite"])
    preset = value_of(given.pop("preset")) if "preset" in given else None
    suite, preset = load_suite(name, preset, folders)
    _check_arms(suite, own)
    launcher = tuple(given.pop(key) for key in list(given) if key.split(".")[0] == "launcher")
    for word in launcher:
        value_of(word)
    every = {key_of(word): word for word in (*_not_replaced(suite.words, given), *given.values())}
    augment = None if suite.arms else every.pop("augment", None)
    return Request(
        suite=name,
        preset=preset,
        tasks=tuple(tuple(_not_replaced(words, given)) for words in _tasks(suite, own.get("tasks"))),
        agents=tuple(_choices(own["agents"])) if "agents" in own else suite.agents,
        aux=tuple(_choices(own["aux"])) if "aux" in own else suite.aux,
        arms={arm: tuple(_not_replaced(words, given)) for arm, words in _named_arms(suite, own.get("arms")).items()},
        seeds=_seeds(own["seeds"]) if "seeds" in own else tuple(range(suite.seeds)),
        root=_folder(own["out"]) if "out" in own else "runs",
        place=(f"root={own['out'].partition('=')[2]}",) if "out" in own else (),
        augment=None if augment is None else value_of(augment),
        words=tuple(every.values()),
        launcher=launcher,
    )


def load_suite(name: str, preset: str | None, folders: Sequence[Path] = ()) -> tuple[Suite, str]:
    """Return a suite as it is at a preset (None: its own), and that preset. Raises ConfigError."""
    files = read("suite", name, folders)
    chosen = preset or str(values(files, set())["suite"].get("preset", "paper"))
    check("preset", chosen, folders)
    suite: Suite = build(Suite, values(files, {chosen})["suite"], f"suite {name}")
    return suite, chosen


def value_of(word: str) -> str:
    """Return a word's right side. Raises ConfigError if it is a sweep."""
    (only, *others) = expand_word(word)
    if others:
        raise ConfigError(f"{word}: give one")
    return only.partition("=")[2]


def task_name(words: Sequence[str]) -> str:
    """Return what a task is called: its environment and, where that has several, which one."""
    named = [word.partition("=")[2] for word in words if key_of(word) in ("env", "env.task", "env.game", "env.domain")]
    return "/".join(named)


def name_tasks(tasks: Sequence[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the tasks by name; those of one environment with what tells them apart.

    Raises ConfigError if two are the same.
    """
    named: dict[str, list[tuple[str, ...]]] = {}
    for words in dict.fromkeys(tasks):
        named.setdefault(task_name(words), []).append(words)
    every: dict[str, tuple[str, ...]] = {}
    for name, alike in named.items():
        shared = set.intersection(*map(set, alike))
        for words in alike:
            own = [word.partition("=")[2] for word in words if word not in shared]
            if every.setdefault("/".join([name, *own]), words) != words:
                raise ConfigError(f"two tasks of the suite would be called {'/'.join([name, *own])}: {' '.join(words)}")
    return every


def _folder(word: str) -> str:
    """Return the folder that `out=` names, without the quotes of the command line's grammar."""
    (only,) = parse([word]).settings
    folder: str = coerce(only.value, str, only.path)
    if not folder:
        raise ConfigError("out= names no folder")
    return folder


def _choices(word: str) -> list[str]:
    return [choice.partition("=")[2] for choice in expand_word(word)]


def _seeds(word: str) -> tuple[int, ...]:
    seeds: Sequence[int]
    text = word.partition("=")[2].strip()
    swept = _choices(word)  # of 4,1 or range(0,5)
    listed = text.strip("[]").split(",") if text.startswith("[") else swept
    try:
        seeds = range(int(text)) if listed == [text] else tuple(map(int, listed))
    except ValueError:
        seeds = ()
    if len(seeds) > _MOST_SEEDS:
        raise ConfigError(f"{word}: at most {_MOST_SEEDS:,} seeds make a grid")
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{word}: give how many seeds, as in seeds=5, or different ones by number, as in seeds=[0,1]")
    return tuple(seeds)


def _tasks(suite: Suite, word: str | None) -> tuple[tuple[str, ...], ...]:
    every = name_tasks([tuple(line.split()) for line in suite.tasks])
    asked = list(every) if word is None else _choices(word)
    for name in asked:
        if name not in every:
            raise ConfigError(f"tasks={name} is not in this suite{hint(name, every)}")
    return tuple(every[name] for name in dict.fromkeys(asked))


def _check_arms(suite: Suite, own: Mapping[str, str]) -> None:
    """Raise ConfigError where arms are typed in the other way than the suite's."""
    instead = "this suite crosses agents= and aux=, name those"
    if suite.arms:
        instead = f"this suite names its arms, pick some by arms={','.join(suite.arms)}"
    for key in ("agents", "aux") if suite.arms else ("arms",):
        if key in own:
            raise ConfigError(f"{own[key]}: {instead}")


def _named_arms(suite: Suite, word: str | None) -> dict[str, tuple[str, ...]]:
    asked = list(suite.arms) if word is None else _choices(word)
    for name in asked:
        if name not in suite.arms:
            raise ConfigError(f"arms={name} is not in this suite{hint(name, suite.arms)}")
    return {name: tuple(suite.arms[name].split()) for name in asked}


def _not_replaced(words: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Return the suite's words that the command line does not replace; a length replaces one in the other unit."""
    keys = {*given, *(TRAIN.lengths if set(TRAIN.lengths) & given.keys() else ())}
    return [word for word in words if key_of(word) not in keys]
