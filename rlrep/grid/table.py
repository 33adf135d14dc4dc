"""The live table of a grid: tasks down, arms across, a mark for every seed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from rlrep.launch.lines import Lines
from rlrep.launch.scheduler import Entry, View

from .plan import Run
from .state import Board

_SECONDS = 1.0
_FAILURES = 5
_FRAME = 8
"""Lines of a drawing that are neither tasks nor failures, with a header of two lines."""
MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "bold red"), "stopped": ("■", "yellow")}
MARKS |= {"elsewhere": ("↗", "cyan")}


class Table:
    """One table that is redrawn in place; a context manager."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board, self._console, self._last = board, console, 0.0
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "Table":
        self._live.start()
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.update(draw(self._board))
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
        self._live.update(draw(self._board, self._console.height), refresh=True)


def draw(board: Board, height: int | None = None) -> Group:
    """Return the table, below the counts and the last failures.

    height: lines there are; where the tasks do not fit, those of which nothing runs are left out. None: no limit.
    """
    failures = [entry for entry in board.entries if entry.state in ("failed", "stopped")][-_FAILURES:]
    lines = [_line(entry) for entry in failures]
    rows = _rows(board)
    shown = rows if height is None or len(rows) + len(lines) + _FRAME <= height else _busy(rows, board)
    if len(shown) < len(rows):
        lines.append(Text(f"{len(rows) - len(shown)} of {len(rows)} rows are not shown: nothing of them runs", "dim"))
    return Group(Text(board.summary()), *lines, _grid(board, shown))


Row = dict[str, list[tuple[Run, Entry]]]


def _rows(board: Board) -> dict[tuple[str, str], Row]:
    """Return the runs by task and agent, then arm."""
    rows: dict[tuple[str, str], Row] = {}
    for run, entry in board.pairs():
        rows.setdefault((run.task, run.agent), {}).setdefault(run.arm, []).append((run, entry))
    return rows


def _busy(rows: dict[tuple[str, str], Row], board: Board) -> dict[tuple[str, str], Row]:
    busy = {(run.task, run.agent) for run, entry in board.pairs() if entry.state == "running"}
    return {key: row for key, row in rows.items() if key in busy}


def _grid(board: Board, rows: dict[tuple[str, str], Row]) -> Grid:
    request, arms = board.plan.request, board.plan.arms
    several = len(request.agents) > 1
    grid = Grid(title=Text(f"{request.suite} in {request.root}", "italic"), title_justify="left")
    for name in ("task", *(("agent",) if several else ())):
        grid.add_column(name, no_wrap=True)
    for arm in arms:
        grid.add_column(arm)
    for (task, agent), row in rows.items():
        cells = [Text(" ").join(mark(board, *pair) for pair in row.get(arm, [])) for arm in arms]
        grid.add_row(Text(task), *((Text(agent),) if several else ()), *cells)
    return grid


def _line(entry: Entry) -> Text:
    name = entry.job.name
    return Text.assemble((entry.state, "red"), f" {name}: {entry.note}", no_wrap=True, overflow="ellipsis")


def mark(board: Board, run: Run, entry: Entry) -> Text:
    """Return a run's mark: how much of it is done while it runs."""
    if entry.state == "running":
        return Text(f"{100 * board.share(run, entry):.0f}%", "bold")
    return Text(*MARKS[entry.state])


@contextmanager
def make_view(board: Board) -> Iterator[View]:
    """Give the table on a terminal that can be drawn on, lines elsewhere."""
    console = Console(highlight=False)
    if not console.is_terminal or console.is_dumb_terminal or not console.encoding.startswith("utf"):
        yield Lines(board.entries, board.summary)
        return
    with Table(board, console) as table:
        yield table
