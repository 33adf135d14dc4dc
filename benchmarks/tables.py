"""Writes figures into README and docs from benchmarks/results/*.json, so that none is typed by hand.

    python -m benchmarks.tables            # between <!-- table NAME --> and <!-- end NAME -->, from NAME.json
    python -m benchmarks.tables --check    # exit 1 if README or docs are not what the results say
    python -m benchmarks.tables --quote REPORT NAME [--published A,B]    # first write NAME.json from a report of
                                                                         # rlrep.report, beside methods' own scores

A result file takes part by its key `table`: {"columns": [...], "rows": [[...], ...]}; `machine` and `limits` make the
caption. `<!-- line NAME KEY -->` ... `<!-- end NAME -->` takes the sentence KEY of the file's `lines`.
"""

import csv
import json
import os
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrep.scores.statistics import FEWEST_RUNS

from .machine import ROOT
from .result import RESULTS, command_line, write

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKED = re.compile(
    r"<!-- (?P<kind>table|line) (?P<name>\w+)(?: (?P<key>\w+))? -->\n.*?<!-- end (?P=name) -->", re.DOTALL
)


def fill(text: str, results: Path, link: str = "benchmarks/results") -> str:
    """Return `text` with every marked place filled; one whose result file is missing says so.

    link: the way from the page to the results.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        path = results / f"{name}.json"
        body = "*Not measured yet.*\n"
        if path.exists():
            report = json.loads(path.read_text())
            body = f"{report['lines'][match['key']]}\n" if match["kind"] == "line" else render(name, report, link)
        return f"{match[0].splitlines()[0]}\n{body}<!-- end {name} -->"

    return MARKED.sub(block, text)


def filled(page: Path) -> str:
    """Return what a page of this repository should say."""
    return fill(page.read_text(), RESULTS, os.path.relpath(RESULTS, page.parent))


def unplaced(text: str, results: Path) -> list[str]:
    """Return the result files with a table that `text` has no place for."""
    placed = {match["name"] for match in MARKED.finditer(text)}
    return sorted(
        p.stem for p in results.glob("*.json") if p.stem not in placed and "table" in json.loads(p.read_text())
    )


def render(name: str, report: Mapping[str, Any], link: str) -> str:
    """Return a result's Markdown table and its caption."""
    table = report["table"]
    lines = [row(table["columns"]), row(["---"] * len(table["columns"])), *map(row, table["rows"])]
    return "\n".join(lines) + f"\n\n{caption(name, report, link)}\n"


def row(cells: Sequence[object]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def caption(name: str, report: Mapping[str, Any], link: str) -> str:
    """Return where the numbers come from and what they cannot say."""
    machine = report.get("machine", {})
    packages = machine.get("packages", {})
    where = [f"{machine['cores']} cores of {machine['cpu']}"] if "cpu" in machine else []
    where += [str(machine["gpu"])] if machine.get("gpu") else []
    where += [f"torch {packages['torch']}"] if "torch" in packages else []
    where += [str(machine["date"])] if "date" in machine else []
    limits = f" {report['limits']}" if report.get("limits") else ""
    return f"<sub>[{name}.json]({link}/{name}.json): {', '.join(where)}.{limits}</sub>"


def quoted(report: Path, methods: Sequence[str] = ()) -> dict[str, object]:
    """Return the finished runs of a report by task and arm, as `rlrep.report` wrote them to its tables, and below each
    task what is published of these methods: a mean, and the standard deviation of runs."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with open(report / "tables" / "runs.csv", newline="") as file:
        for run in csv.DictReader(file):
            if run["finished"] == "True":
                found.setdefault((run["task"], run["arm"]), []).append(run)
    rows = []
    for names, runs in found.items():
        final, best = ([float(run[kind]) for run in runs] for kind in ("final", "best"))
        steps = " / ".join(f"{int(runs[0][unit]):,}" for unit in ("env_steps", "agent_steps"))
        mean = f"{statistics.fmean(final):.4g}{spread(final, 1)}"
        rows.append([*names, str(len(runs)), steps, mean, f"{statistics.fmean(best):.4g}"])
    with open(report / "tables" / "published.csv", newline="") as file:
        rows += [published(row) for row in csv.DictReader(file) if row["method"] in methods]
    rows.sort(key=lambda row: row[0])
    final_head = spread_head("final", list(map(len, found.values())))
    columns = ["task", "arm", "seeds", "env / agent steps", final_head, "best of training"]
    return {"limits": "Means over runs.", "table": {"columns": columns, "rows": rows}}


def published(entry: Mapping[str, str]) -> list[str]:
    """Return the line of a published score."""
    deviation = f" (sd {float(entry['std']):.3g})" if entry["std"] else ""
    steps, mean = f"{int(entry['env_steps']):,}", f"{float(entry['mean']):.4g}{deviation}"
    return [entry["task"], f"published: {entry['method']}", entry["runs"], steps, mean, ""]


def spread(values: Sequence[float], digits: int) -> str:
    """Return what stands behind a mean of runs: its standard error from `FEWEST_RUNS` on, below the runs themselves."""
    if len(values) >= FEWEST_RUNS:
        return f" ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"
    return f" ({', '.join(f'{value:.{digits}f}' for value in values)})" if len(values) > 1 else ""


def spread_head(name: str, counts: Sequence[int]) -> str:
    """Return the head of a column of means, each with its `spread`. counts: the runs of its cells."""
    shown = {"± SE": max(counts) >= FEWEST_RUNS, "(runs)": any(1 < count < FEWEST_RUNS for count in counts)}
    return f"{name} {' or '.join(key for key, told in shown.items() if told)}".rstrip()


def main() -> int:
    """Write or check README and docs. Returns the exit status."""
    parser = command_line(__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quote", nargs=2, metavar=("REPORT", "NAME"))
    parser.add_argument("--published", default="", help="methods whose published scores stand beside")
    options = parser.parse_args()
    if options.quote:
        report, name = options.quote
        write(options.results / f"{name}.json", quoted(Path(report), options.published.split(",")))
    for name in unplaced("".join(page.read_text() for page in PAGES), RESULTS):
        print(f"no page has <!-- table {name} --> ... <!-- end {name} -->", file=sys.stderr)
    stale = [(page, text) for page in PAGES if (text := filled(page)) != page.read_text()]
    for page, text in stale:
        if options.check:
            print(
                f"{page.relative_to(ROOT)} differs from benchmarks/results: run python -m benchmarks.tables",
                file=sys.stderr,
            )
        else:
            page.write_text(text)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
