"""What README and docs have people run in Python runs, and their tables are those of the result files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.result import RESULTS
from rlrep.config.compose import compose_run
from rlrep.scores.statistics import FEWEST_RUNS
from rlrep.settings import groups

ROOT = Path(__file__).resolve().parent.parent
TEXT = "\n".join(page.read_text() for page in tables.PAGES)


def test_arms_compose() -> None:
    arms = re.findall(r"\| `(augment=\w+ aux=\w+)` \|", TEXT)
    found = [compose_run(["env=dmc_cartpole", *arm.split()]).config.choices for arm in arms]
    assert [(choices["augment"], choices["aux"]) for choices in found] == [
        ("none", "none"),
        ("random_crop", "none"),
        ("random_crop", "return_contrast"),
    ]


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", python_blocks(), ids=range(len(python_blocks())))
def test_python_example_runs(block: str, tmp_path: Path) -> None:
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", block.replace("100_000", "120")]
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_targets_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", TEXT)) <= {*targets, "does"}


def test_tables_say_what_the_results_say() -> None:
    pages = {page: page.read_text() for page in tables.PAGES}
    assert {page: tables.filled(page) for page in pages} == pages
    assert tables.unplaced("".join(pages.values()), RESULTS) == []


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def page_tables(text: str) -> list[list[list[str]]]:
    """Return a page's tables: their heads first, then their rows."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[cells(line) for line in block.splitlines() if not line.startswith("| ---")] for block in blocks]


def runs_of(head: list[str], row: list[str]) -> int:
    """Return how many runs a row says that it is of; 0 if it does not say."""
    said = [cell for name, cell in zip(head, row, strict=True) if name in ("seeds", "runs")]
    return int(said[0].replace(",", "") or 0) if said else 0


SPREAD = re.compile(r"±|\bstd\b|\bCI\b|\[-?[\d.]+, -?[\d.]+\]")


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.stem)
def test_no_table_has_an_interval_of_few_runs(page: Path) -> None:
    for head, *body in page_tables(page.read_text()):
        runs = [runs_of(head, row) for row in body]
        for count, row in zip(runs, body, strict=True):
            assert count >= FEWEST_RUNS or not SPREAD.search(" ".join(row)), row
        assert max(runs) >= FEWEST_RUNS or not SPREAD.search(" ".join(head)), head


def test_tables_that_could_have_intervals_are_found() -> None:
    heads = [head for page in tables.PAGES for head, *_ in page_tables(page.read_text()) if "seeds" in head]
    assert len(heads) >= 8 and any(SPREAD.search(" ".join(head)) for head in heads)


def test_no_text_has_an_interval_of_few_runs() -> None:
    """Of the pages' own words, tables aside: intervals stand in tables that say of how many runs they are."""
    for page in tables.PAGES:
        words = "\n".join(line for line in page.read_text().splitlines() if not line.startswith(("|", "    ")))
        assert not re.search(r"± ?\d|P\([^)]*>[^)]*\) is|\bbeats?\b|standard errors?", words), page
        assert page.parent.name == "methods" or not re.search(r"\d \[-?[\d.]+, -?[\d.]+\]", words), page


@pytest.mark.parametrize("group, folder", [("aux", "heads"), ("agent", "agents"), ("method", "methods")])
def test_every_choice_has_a_page(group: str, folder: str) -> None:
    pages = "".join(f"`{page.stem}`{page.read_text()}" for page in (ROOT / "docs" / folder).glob("*.md"))
    assert [name for name in groups.names(group) if not re.search(rf"\b{name}\b", pages)] == []


def test_every_method_and_head_has_its_class() -> None:
    """Once each, in docs/taxonomy.md."""
    head, *classes = page_tables((ROOT / "docs" / "taxonomy.md").read_text())[0]
    for group, column in (("method", head.index("methods")), ("aux", head.index("heads"))):
        listed = sorted(name for row in classes for name in re.findall(r"`(\w+)`", row[column]))
        assert listed == [name for name in groups.names(group) if name != "none"]
