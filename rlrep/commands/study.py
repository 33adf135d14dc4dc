"""`python -m rlrep.study`: what its words do. Heavy imports wait until there is something to measure."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlrep.process.cli import Arguments, entry
from rlrep.settings import TARGET, ConfigError, build, find_target, groups, hint

if TYPE_CHECKING:
    from rlrep.launch.base import Job
    from rlrep.studies.study import Study

ENTRY = "rlrep.study"
ALL = "all"
OF_ENCODER = "_of_encoder"
"""What the files of a study of a trained encoder end with."""
_DATA = "data."
"""What the options of a pretraining run's data begin with."""
_OWN = ("out", "seeds", "preset", "jobs")
_MOST_SEEDS = 1000
_MOST_FRAMES = 20_000


@dataclass(frozen=True)
class StudyConfig:
    """See `--help`."""

    out: str = "studies"
    seeds: int | tuple[int, ...] | None = None
    preset: Literal["cpu", "debug"] = "cpu"
    jobs: int | Literal["auto"] = "auto"
    encoder: str | None = None
    frames: int = 1000

    def __post_init__(self) -> None:
        count = self.seeds if isinstance(self.seeds, int) else 1 if self.seeds is None else len(self.seeds)
        listed = self.seeds if isinstance(self.seeds, tuple) else ()
        if not 0 < count <= _MOST_SEEDS or min(listed, default=0) < 0 or len(set(listed)) < len(listed):
            raise ValueError("seeds: give how many, as in seeds=5, or different ones by number, as in seeds=[0,1]")
        if not 10 <= self.frames <= _MOST_FRAMES:
            raise ValueError(f"frames must be from 10 to {_MOST_FRAMES}, not {self.frames}")
        if self.jobs != "auto" and self.jobs < 1:
            raise ValueError(f"jobs must be auto or at least 1, not {self.jobs}")

    @property
    def listed(self) -> tuple[int, ...] | None:
        """The seeds, None = as many as a study needs."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


def _run(arguments: Arguments) -> int:
    if arguments.help:
        from rlrep.config.help import study_help

        print(study_help(arguments.folders))
        return 0
    if arguments.multirun:
        raise ConfigError("-m is rlrep.train's: name one study, or all")
    name, words = _name(arguments)
    config = _settings(words)
    if name == ALL and config.encoder is not None:
        raise ConfigError("encoder= is for one study: name it in place of all")
    if name == ALL:
        return _run_all(config, words, arguments)
    study, command = compose(name, words, config.preset, arguments.folders), [name, *_kept(words)]
    if config.encoder is not None:
        name, study = f"{name}{OF_ENCODER}", _applied(name, study, config, arguments)
    if arguments.show:
        import yaml

        print(yaml.safe_dump({name: study.settings}, sort_keys=False, width=120), end="")
        return 0
    return _run_one(name, study, config, arguments.again(ENTRY, command))


def _applied(name: str, study: "Study", config: StudyConfig, arguments: Arguments) -> "Study":
    """Return the study of a trained encoder. Raises ConfigError if the study takes none, UserError on a bad run."""
    from rlrep.record.trust import Trust
    from rlrep.studies.study import Applied

    from .subject import subject_of

    if not isinstance(study, Applied):
        raise ConfigError(f"{name} takes no encoder: collapse, memorisation and simplex do")
    trust = Trust(tuple(arguments.folders), tuple(arguments.modules))
    data = [word for word in arguments.words if word.startswith(_DATA)]
    return study.of(subject_of(str(config.encoder), trust, images=config.frames, words=data))


def _name(arguments: Arguments) -> tuple[str, list[str]]:
    """Return the study asked for and the other words. Raises ConfigError unless just one is named, and known."""
    named = [word for word in arguments.words if "=" not in word or word.startswith("study=")]
    valid = [ALL, *groups.names("study", arguments.folders)]
    if len(named) != 1:
        raise ConfigError(f"name one study, as in python -m rlrep.study simplex: valid: {', '.join(valid)}")
    name = named[0].removeprefix("study=")
    if name not in valid:
        raise ConfigError(f"there is no study {name}{hint(name, valid)}")
    return name, [word for word in arguments.words if word != named[0]]


def _settings(words: Sequence[str]) -> StudyConfig:
    from rlrep.config.overrides import STUDY, parse

    asked = {setting.path: setting.value for setting in parse(words, STUDY).settings if "." not in setting.path}
    config: StudyConfig = build(StudyConfig, asked, "")
    return config


def compose(name: str, words: Sequence[str], preset: str, folders: Sequence[Path] = ()) -> "Study":
    """Return a study with the options that words set, `NAME.OPTION=VALUE`. Raises ConfigError in one line."""
    from rlrep.config.options import apply_settings
    from rlrep.config.overrides import STUDY, parse

    tree: dict[str, Any] = {name: groups.node("study", name, name, folders=folders, cases={preset})}
    own = (word for word in words if not word.startswith(_DATA))
    line = parse([word for word in own if "." in word.partition("=")[0]], STUDY)
    apply_settings(tree, line, lambda component, _: dict(component))
    settings = dict(tree[name])
    study: Study = build(find_target(str(settings.pop(TARGET)), name), settings, name)
    return study


def _kept(words: Sequence[str]) -> list[str]:
    """Return the words that make a result what it is."""
    return [word for word in words if word.partition("=")[0] not in ("out", "jobs")]


def _run_one(name: str, study: "Study", config: StudyConfig, command: str) -> int:
    import torch

    from rlrep.record.versions import collect
    from rlrep.studies.outcome import Outcome, measure
    from rlrep.studies.page import write, write_index

    versions = {key: value for key, value in collect(torch.device("cpu")).items() if key != "command"}  # names a folder
    seeds = config.listed or tuple(range(study.seeds))
    measured, seconds = measure(study, seeds, lambda line: print(f"{name}: {line}", flush=True))
    outcome = Outcome(name, study, config.preset, command, versions, seeds, measured, seconds)
    page = write(Path(config.out), outcome)
    names = groups.names("study")
    write_index(Path(config.out), [*names, *(f"{each}{OF_ENCODER}" for each in names)])
    for verdict in outcome.verdicts:
        print(verdict.line)
    print(f"{name}: {outcome.data['verdict']}: {page}")
    return 0


def _run_all(config: StudyConfig, words: Sequence[str], arguments: Arguments) -> int:
    """Measure every study in a process of its own, then put them on one page."""
    from contextlib import closing

    from rlrep.launch.lines import Lines, complain
    from rlrep.launch.local import Local
    from rlrep.launch.scheduler import Entry, Scheduler
    from rlrep.process.signals import catch_signals
    from rlrep.studies.page import found, write_overview

    out, names = Path(config.out), groups.names("study", arguments.folders)
    entries = [Entry(_job(name, words, names, config, arguments)) for name in names]
    with (
        closing(Local(config.jobs).make(jobs=len(names), device="cpu", folder=out)) as launcher,
        catch_signals("stopping") as stop,
    ):
        code = Scheduler(launcher, stop, Lines(entries)).run(entries)
    complain(entries)
    for name, data in found(out, names).items():
        print(f"{name}: {data['verdict']}")
    print(write_overview(out, names))
    return code


def _job(name: str, words: Sequence[str], names: Sequence[str], config: StudyConfig, arguments: Arguments) -> "Job":
    """Return the command of one study of all; the options of others are not its own."""
    from rlrep.launch.base import Job

    own = words_of(name, words, names)
    command = [word for folder in arguments.folders for word in ("--config-dir", str(folder.absolute()))]
    return Job(name, (sys.executable, "-m", ENTRY, *command, name, *own), Path(config.out) / f"{name}.log")


def words_of(name: str, words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the words that one study of all gets; the options of the others are not its own."""
    return [word for word in words if word.partition("=")[0].partition(".")[0] not in {*names} - {name}]


main = entry(_run, ("--trust",))
