"""The logs of a run folder: metrics.jsonl, metrics.csv, eval.csv, and the optional sinks."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rlrep.config.config import LoggerConfig
from rlrep.contract.callback import Row
from rlrep.contract.env import Tree

from .files import AppendFile
from .sinks import Csv, Guard, JsonLines, Sink, optional_sinks

EVAL_COLUMNS = ("agent_steps", "env_steps", "updates", "wall_seconds", "episode", "return", "length", "success", "kind")

META_COLUMNS = (*EVAL_COLUMNS, "task", "adaptation")


class EvalTable:
    """eval.csv: one row per episode, or score of a probe; all rows of an evaluation at once."""

    def __init__(self, path: Path, columns: Sequence[str] = EVAL_COLUMNS) -> None:
        self.file, self._columns = AppendFile(path), columns

    def write(self, rows: Sequence[Row]) -> None:
        """Append the rows of one evaluation. Raises OSError."""
        header = ",".join(self._columns) + "\n" if self.file.is_empty else ""
        self.file.append(header + "".join(",".join(_cell(row[c]) for c in self._columns) + "\n" for row in rows))


class RunLog:
    """All logs of one run. `begin` comes first.

    step: where the run stands, in what its rows count as `step_key`. columns: of eval.csv.
    """

    def __init__(
        self,
        folder: Path,
        config: LoggerConfig,
        tree: Mapping[str, Any],
        *,
        step: int,
        step_key: str = "env_steps",
        columns: Sequence[str] = EVAL_COLUMNS,
        say: Callable[[str], None],
    ) -> None:
        lines, self._table = JsonLines(folder / "metrics.jsonl"), EvalTable(folder / "eval.csv", columns)
        self._files = {"metrics.jsonl": lines.file, "eval.csv": self._table.file}
        self._csv = csv = Csv(folder / "metrics.csv")
        self._optional = optional_sinks(folder, config, tree, step_key=step_key, step=step, say=say)
        self._sinks: list[tuple[Guard, Sink]] = [(Guard("metrics.jsonl", say), lines), (Guard("metrics.csv", say), csv)]
        self._sinks += self._optional
        self._say = say
        self._table_guard = Guard("eval.csv", say)

    def begin(self, resumed: Tree | None) -> None:
        """Cut the logs back to what the checkpoint knew, to nothing in a fresh run.

        This loses rows, so that it waits until the checkpoint has been taken in. Raises UserError if rows are missing.
        """
        for name, file in self._files.items():
            if resumed:
                file.cut(resumed[name])
            elif aside := file.begin_again():
                self._say(f"no checkpoint is left to go on from, the run begins again; its {name} is now {aside.name}")
        self._sinks[1][0].run(lambda: self._csv.rewrite(read_rows(self._files["metrics.jsonl"].path)))

    def metrics(self, row: Row) -> None:
        """Write one row everywhere."""
        for guard, sink in self._sinks:
            guard.run(partial(sink.write, row))

    def evaluation(self, rows: Sequence[Row], summary: Row) -> None:
        """Write an evaluation's rows to eval.csv and its summary, where there is one, to the optional sinks."""
        self._table_guard.run(lambda: self._table.write(rows))
        for guard, sink in self._optional if summary else ():
            guard.run(partial(sink.write, summary))

    def state(self) -> Tree:
        """Make the logs durable and return their lengths in bytes. Raises OSError."""
        return {name: file.sync() for name, file in self._files.items()}

    def close(self) -> None:
        """Close every sink."""
        for guard, sink in self._sinks:
            guard.run(sink.close)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _cell(value: object) -> str:
    return "" if value is None else str(value)
