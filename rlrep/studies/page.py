"""What a study leaves in a folder: its numbers, its figure, its page of the docs, and an index of all of them."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrep.record.files import replace_file
from rlrep.scores.html import fill
from rlrep.scores.statistics import FEWEST_RUNS

from .figure import write_figure
from .outcome import Data, Outcome, read, to_json
from .verdict import short

INDEX, OVERVIEW = "README.md", "studies.html"
_UNSIZED = "A debug size, to see that all works: it says nothing of the paper."
_INTRODUCTION = """\
# Studies

Why contrastive learning works, measured on the objectives, predictors and meters that train agents here. Each page is
written by its command, verdicts included: a claim holds where the paper's inequality does for every seed, or from five
seeds on for the whole 95 % bootstrap interval of the mean; it fails where it does for none; else it is not settled.

    python -m rlrep.study all out=docs/studies
    python -m rlrep.study simplex encoder=RUN        # the same meters on a trained encoder; also collapse, memorisation
"""


def write(out: Path, outcome: Outcome) -> Path:
    """Write NAME.json, NAME.png and NAME.md into a folder, its index anew, and return the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"{outcome.name}.md"
    replace_file(out / f"{outcome.name}.json", to_json(outcome))
    write_figure(out / f"{outcome.name}.png", outcome.study.panels, [seed.curves for seed in outcome.measured])
    replace_file(page, markdown(read(out / f"{outcome.name}.json")))
    return page


def write_index(out: Path, names: Sequence[str]) -> Path:
    """Write the index of those of these studies that are in a folder, and return its path. Raises UserError."""
    rows = [
        [f"[{name}]({name}.md)", data["source"], data["verdict"] + (", debug size" if _is_debug(data) else "")]
        for name, data in found(out, names).items()
    ]
    replace_file(out / INDEX, f"{_INTRODUCTION}\n{table(['study', 'paper', 'verdict'], rows)}")
    return out / INDEX


def write_overview(out: Path, names: Sequence[str]) -> Path:
    """Write one HTML page of those of these studies that are in a folder, and return its path. Raises UserError."""
    studies = [
        {**data, "picture": _picture(out / f"{name}.png"), "measured": _measured(data), "origin": origin(data)}
        for name, data in found(out, names).items()
    ]
    debug = f" {_UNSIZED}" * any(map(_is_debug, studies))
    content = {"summary": f"{len(studies)} studies.{debug}", "studies": studies}
    replace_file(out / OVERVIEW, fill("studies.html", "Studies of contrastive learning", content))
    return out / OVERVIEW


def found(out: Path, names: Sequence[str]) -> Mapping[str, Data]:
    """Return the outcomes in a folder by study. Raises UserError if one of them cannot be read."""
    return {name: read(out / f"{name}.json") for name in names if (out / f"{name}.json").exists()}


def markdown(data: Data) -> str:
    """Return the page of an outcome."""
    name, count = data["study"], str(len(data["seeds"]))
    rows = [[row["claim"], row["bound"], count, row["figures"], f"**{row['verdict']}**"] for row in data["verdicts"]]
    numbers = [[key, ", ".join(map(_short, values))] for key, values in data["numbers"].items()]
    parts = [
        f"# {data['title']}\n\n{data['source']}.\n",
        *([f"{_UNSIZED}\n"] if _is_debug(data) else []),
        f"**Claim.** {data['claim']}\n",
        f"**Set-up.** {data['setup']}\n",
        f"    {data['command']}\n",
        f"**Verdict.** {data['verdict'].capitalize()}.\n",
        table(["claim", "bound", "seeds", _measured(data), "verdict"], rows),
        f"![{data['title']}]({name}.png)\n",
        "Everything that was measured, by seed:\n",
        table(["number", "values"], numbers),
        f"<sub>{origin(data)} Settings and curves: [{name}.json]({name}.json).</sub>\n",
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def origin(data: Data) -> str:
    """Say on what and how long an outcome was measured."""
    made, seeds = data["versions"], ", ".join(map(str, data["seeds"]))
    commit, dirty, _ = (made["git"] or "unknown").partition("-dirty")
    where = f"{made['device']}, torch {made['packages']['torch']}, commit {commit[:10]}{dirty}"
    return f"{where}, seed{'s' * (len(data['seeds']) > 1)} {seeds}, {data['seconds']:.0f} s of one core."


def _measured(data: Data) -> str:
    return "mean [95 % CI]" if len(data["seeds"]) >= FEWEST_RUNS else "by seed"


def _short(value: Any) -> str:
    return short(value) if isinstance(value, float) else str(value)


def _is_debug(data: Data) -> bool:
    return bool(data["preset"] == "debug")


def _picture(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
