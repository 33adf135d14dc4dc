"""The report as one page: no other file is needed to read it, and no name in it is trusted."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from . import charts, sections
from .arms import Arm
from .charts import Chart
from .films import Film
from .results import Results
from .runs import Fault

_MOST_FAULTS = 200
_SOURCE = "https://arxiv.org/abs/2108.13264"


@dataclass
class Page:
    """A page under way. index: each arm's place in legend and palette, by its name over all comparisons."""

    names: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    groups: int = 0

    def index(self, results: Results) -> dict[Arm, int]:
        """Return the arms' numbers; an arm of the same name in another comparison has the same one."""
        for name in results.made.names.values():
            if name not in self.names:
                self.names.append(name)
        return {arm: self.names.index(name) for arm, name in results.made.names.items()}

    def figure(self, chart: Chart, *, plain: bool = False) -> str:
        """Return a chart's place. plain: without its title above it."""
        self.charts.append(chart)
        title = "" if plain else f"<h4>{escape(chart['title'])}</h4>"
        return f'<figure data-chart="{len(self.charts) - 1}">{title}<div class="read"></div></figure>'

    def group(self) -> int:
        """Return the number of a new group of panels, of which one is shown."""
        self.groups += 1
        return self.groups


def render(
    title: str,
    results: Sequence[Results],
    films: Mapping[int, Sequence[Film]],
    *,
    remarks: Sequence[str],
    faults: Sequence[Fault],
    footer: Sequence[str],
) -> str:
    """Return the page. films: by the comparison's place. remarks: of all comparisons. faults: what was left out."""
    page = Page()
    body = [sections.comparison(page, number, found, films.get(number, ())) for number, found in enumerate(results)]
    runs = sum(len(found.made.runs) for found in results)
    tasks = sum(len(found.made.tasks) for found in results)
    counted = f"{runs} runs of {len(page.names)} arms on {tasks} tasks"
    head = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{counted}</p>', _remarks(remarks), _faults(faults)]
    if len(results) > 1:
        links = (
            f'<li><a href="#c{number}">{escape(found.made.title)}</a></li>' for number, found in enumerate(results)
        )
        head.append(f"<nav><ul>{''.join(links)}</ul></nav>")
    lines = "".join(f"<p class='soft'>{escape(line)}</p>" for line in footer)
    source = f'<p class="soft">Statistics: <a href="{_SOURCE}">Agarwal et al. 2021</a>. {escape(METHOD)}</p>'
    return _document(
        title,
        f"<header>{''.join(head)}</header>{_legend(page.names)}<main>{''.join(body)}</main>"
        f"<footer>{source}{lines}</footer>",
        charts.to_json(page.names, page.charts),
    )


METHOD = (
    "Every task weighs the same. Intervals are 95 % percentile bootstraps, runs resampled within each task. Final is "
    "the last evaluation of a finished run; best is the best evaluation of its training, which always flatters. Curves are "
    "over all runs that have come that far."
)


def _remarks(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="caveats"><ul>{items}</ul></div>' if items else ""


def _faults(faults: Sequence[Fault]) -> str:
    if not faults:
        return ""
    items = "".join(f"<li><code>{escape(str(path))}</code> {escape(line)}</li>" for path, line in faults[:_MOST_FAULTS])
    more = f"<li>and {len(faults) - _MOST_FAULTS} more</li>" if len(faults) > _MOST_FAULTS else ""
    return (
        f'<details class="caveats"><summary>{len(faults)} files or rows could not be used</summary>'
        f"<ul>{items}{more}</ul></details>"
    )


def _legend(names: Sequence[str]) -> str:
    keys = "".join(
        f'<button class="key {tint(number)}" data-legend="{number}" aria-pressed="true">{escape(name)}</button>'
        for number, name in enumerate(names)
    )
    choices = "".join(
        f'<div class="choice" role="group" aria-label="{label}">'
        + "".join(
            f'<button data-{name}="{value}" aria-pressed="{str(first == 0).lower()}">{text}</button>'
            for first, (value, text) in enumerate(options)
        )
        + "</div>"
        for name, label, options in (
            ("stat", "statistic of curves", (("IQM", "IQM"), ("mean", "mean"))),
            ("axis", "horizontal axis", (("env", "env steps"), ("agent", "agent steps"))),
            ("kind", "score", (("final", "final"), ("best", "best of training"))),
        )
    )
    return (
        f'<div class="legend"><div><div class="keys" role="group" aria-label="arms">{keys}</div>{choices}</div></div>'
    )


def tint(number: int) -> str:
    """Return the class of an arm's colour."""
    return f"arm{number % 8}"


def _document(title: str, body: str, data: str) -> str:
    style, script = (files(__package__).joinpath(f"web/report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "img-src 'self' data: file:; media-src 'self' data: file:"
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
