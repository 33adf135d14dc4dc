"""The live table of a grid: tasks down, arms across, a mark for every seed."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from ..launchers.lines import Lines
from ..launchers.scheduler import Entry, View
from .plan import Run
from .state import Board

_SECONDS = 1.0
_FAILURES = 5
MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "bold red"), "stopped": ("■", "yellow")}
MARKS |= {"elsewhere": ("↗", "cyan")}


class Table:
    """One table that is redrawn in place; a context manager."""

    def __init__(self, board: Board, console: Console | None = None) -> None:
        self._board, self._last = board, 0.0
        self._live = Live(console=console or Console(highlight=False), auto_refresh=False)

    def __enter__(self) -> "Table":
        self._live.start()
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()
        self._live.stop()

    def changed(self, entry: Entry) -> None:
        """Show what became of a run."""
        self._draw()

    def refresh(self) -> None:
        """Redraw, once a second at most."""
        if time.monotonic() - self._last >= _SECONDS:
            self._draw()

    def _draw(self) -> None:
        self._last = time.monotonic()
        self._live.update(draw(self._board), refresh=True)


def draw(board: Board) -> Group:
    """Return the table, the counts below it, and the last failures."""
    plan = board.plan
    grid = Grid(title=f"{plan.request.suite} in {plan.request.root}", title_justify="left")
    grid.add_column("task")
    for arm in plan.arms:
        grid.add_column(arm)
    rows: dict[str, dict[str, list[Text]]] = {}
    several = len(plan.request.agents) > 1
    for run, entry in board.pairs():
        row = rows.setdefault(f"{run.task}  {run.agent}" if several else run.task, {})
        row.setdefault(run.arm, []).append(mark(board, run, entry))
    for task, cells in rows.items():
        grid.add_row(task, *(Text(" ").join(cells.get(arm, [])) for arm in plan.arms))
    failures = [entry for entry in board.entries if entry.state in ("failed", "stopped")][-_FAILURES:]
    lines = [f"[red]{entry.state}[/] {escape(entry.job.name)}: {escape(entry.note)}" for entry in failures]
    return Group(grid, escape(board.summary()), *lines)


def mark(board: Board, run: Run, entry: Entry) -> Text:
    """Return a run's mark: how much of it is done while it runs."""
    if entry.state == "running":
        return Text(f"{100 * board.share(run, entry):.0f}%", "bold")
    return Text(*MARKS[entry.state])


@contextmanager
def make_view(board: Board) -> Iterator[View]:
    """Give the table on a terminal, lines elsewhere."""
    if not sys.stdout.isatty():
        yield Lines(board.entries, board.summary)
        return
    with Table(board) as table:
        yield table
