"""The report as one page: no other file is needed to read it, and no name in it is trusted."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from . import charts, views
from .files import clean
from .films import Film
from .results import Results, arm_names
from .runs import Fault
from .searches import Search, view
from .statistics import FEWEST_RUNS

_MOST_FAULTS = 200


def render(
    title: str,
    results: Sequence[Results],
    films: Mapping[int, Sequence[Film]],
    *,
    remarks: Sequence[str],
    faults: Sequence[Fault],
    footer: Sequence[str],
    searches: Sequence[Search] = (),
) -> str:
    """Return the page. films: by the comparison's place. remarks: of all comparisons. faults: what was left out."""
    canvas = views.Canvas(arm_names(results))
    shown = [views.comparison(canvas, found, films.get(number, ())) for number, found in enumerate(results)]
    runs = sum(len(found.made.runs) for found in results)
    tasks = sum(len(found.made.tasks) for found in results)
    script = _text("report.js")
    content = {
        "summary": ", ".join(_count(*each) for each in ((runs, "run"), (len(canvas.names), "arm"), (tasks, "task"))),
        "remarks": remarks,
        "faults": [(clean(str(path)), line) for path, line in faults[:_MOST_FAULTS]],
        "fault_count": len(faults),
        "comparisons": shown,
        "searches": [view(search) for search in searches],
        "names": canvas.names,
        "data": charts.to_json(canvas.names, canvas.charts),
        "footer": footer,
        "fewest": FEWEST_RUNS,
        "script": script,
        "script_digest": _digest(script),
    }
    return fill("report.html", title, content)


def fill(template: str, title: str, content: Mapping[str, Any]) -> str:
    """Return a page: a template of `web/`, in the report's style, with everything in `content` escaped."""
    style = _text("report.css")
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = {**content, "title": title, "style": style, "style_digest": _digest(style)}
    return environment.get_template(template).render(page)


def _text(name: str) -> str:
    return (files(__package__) / "web" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """Return the hash by which a content security policy allows one script or style sheet and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
