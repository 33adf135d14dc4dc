"""`python -m rlrep.report`: what its words do. Heavy imports wait until there is something to report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlrep.process.cli import Arguments, entry
from rlrep.settings import ConfigError, UserError, build

if TYPE_CHECKING:
    from rlrep.scores.comparison import Comparison
    from rlrep.scores.films import Film
    from rlrep.scores.runs import Fault
    from rlrep.scores.searches import Search

_HELP = """\
Compare all runs below some folders: one HTML page that opens without a network, figures, tables.

  python -m rlrep.report FOLDER [FOLDER ...] [OPTION=VALUE ...]

  python -m rlrep.report runs/                              report/report.html, report/figures/, report/tables/
  python -m rlrep.report runs/ more/ out=cheetah/ metric=return

options
  out=report          folder of the report; files of an earlier one are replaced
  title=...           heading of the page
  metric=auto         what is scored: auto (success rate where there is one, else the return on the scale that
                      the environment names, if any), return, or success
  seed=0              of the bootstrap: the same seed gives the same intervals (shown from five runs of every task on)
  resamples=2000      of the bootstrap; curves and profiles take at most 500 of them
  figures=true        write figures/*.png and *.pdf
  video_megabytes=8   videos inside the page up to this much in all; the others are linked; 0 = link all

Runs are found by their files and may be unfinished. What cannot be used is named in a line each, and left out.
"""
_SHOWN = 20
_MOST_RESAMPLES = 100_000
_MOST_MEGABYTES = 1000


@dataclass(frozen=True)
class ReportConfig:
    """See `--help`."""

    out: str = "report"
    title: str = "Comparison of runs"
    metric: Literal["auto", "return", "success"] = "auto"
    seed: int = 0
    resamples: int = 2000
    figures: bool = True
    video_megabytes: float = 8.0

    def __post_init__(self) -> None:
        if not 10 <= self.resamples <= _MOST_RESAMPLES:
            raise ValueError(f"resamples must be from 10 to {_MOST_RESAMPLES}, not {self.resamples}")
        if self.seed < 0:
            raise ValueError(f"seed cannot be negative, as {self.seed} is")
        if not 0 <= self.video_megabytes <= _MOST_MEGABYTES:
            raise ValueError(f"video_megabytes must be from 0 to {_MOST_MEGABYTES}, not {self.video_megabytes}")


def _run(arguments: Arguments) -> int:
    if arguments.help:
        print(_HELP + "\nall options: " + ", ".join(field.name for field in fields(ReportConfig)))
        return 0
    return report(*read_asked(arguments.words))


def read_asked(words: Sequence[str]) -> tuple[list[Path], ReportConfig]:
    """Read the words of a command: folders with runs, and settings. Raises ConfigError in one line."""
    from rlrep.config.overrides import Grammar, as_path, parse

    roots = [word for word in words if "=" not in word or os.path.isdir(word)]  # as Hydra's lr=0.1 is
    line = parse([word for word in words if word not in roots], grammar=Grammar((), texts=("title",)))
    config: ReportConfig = build(ReportConfig, {setting.path: setting.value for setting in line.settings}, "")
    return [Path(as_path(word)) for word in roots], config


def report(roots: Sequence[Path], config: ReportConfig) -> int:
    """Write the report and return 0. Raises ConfigError or UserError if there is nothing to report."""
    from rlrep.scores.comparison import compare
    from rlrep.scores.runs import find_folders, read_runs
    from rlrep.scores.searches import find_searches, is_trial

    for root in roots:
        if not root.is_dir():
            raise ConfigError(
                f"{root} is no folder: name folders with runs in them, as in python -m rlrep.report runs/"
            )
    if not roots:
        raise ConfigError("name a folder with runs in it, as in python -m rlrep.report runs/")
    searches, unread = find_searches(roots)
    runs, faults = read_runs(folder for folder in find_folders(roots) if not (searches and is_trial(folder)))
    faults += unread
    _complain(faults)
    if not runs and not searches:
        raise UserError(
            f"no run to report in {', '.join(map(str, roots))}: a run is a folder with config.yaml and eval.csv"
        )
    comparisons, duplicates = compare(runs, config.metric)
    _complain(duplicates)
    if not comparisons and not searches:
        raise UserError("no run has what is to be scored: choose another metric=")
    path = _write(comparisons, [*faults, *duplicates], config, searches)
    print(f"{sum(len(made.runs) for made in comparisons)} runs: {path}")
    return 0


def _complain(faults: "Sequence[Fault]") -> None:
    from rlrep.scores.files import clean

    folders: dict[str, list[str]] = {}
    for folder, line in faults:
        folders.setdefault(clean(line), []).append(clean(str(folder)))
    for line, named in list(folders.items())[:_SHOWN]:
        print(f"warning: {named[0]}{f' and {len(named) - 1} more' * (len(named) > 1)}: {line}")
    if len(folders) > _SHOWN:
        print(f"warning: {len(folders) - _SHOWN} more lines like these are in the report")


def _write(
    comparisons: "Sequence[Comparison]", faults: "Sequence[Fault]", config: ReportConfig, searches: "Sequence[Search]"
) -> Path:
    from rlrep.record.files import replace_file
    from rlrep.scores.analysis import Draws
    from rlrep.scores.caveats import across
    from rlrep.scores.films import Reel
    from rlrep.scores.html import render
    from rlrep.scores.results import compute
    from rlrep.scores.tables import write_tables
    from rlrep.version import __version__

    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    results = [compute(made, Draws(config.seed, config.resamples)) for made in comparisons]
    reel = Reel(out, config.video_megabytes)
    films: dict[int, list[Film]] = {number: reel.collect(made) for number, made in enumerate(comparisons)}
    footer = [f"rlrep {__version__}, {config.resamples} resamples, seed {config.seed}."]
    page = render(
        config.title, results, films, remarks=across(comparisons), faults=faults, footer=footer, searches=searches
    )
    replace_file(out / "report.html", page)
    write_tables(out / "tables", results)
    if config.figures:
        from rlrep.scores.figures import write_figures

        write_figures(out / "figures", results)
    return out / "report.html"


main = entry(_run)
