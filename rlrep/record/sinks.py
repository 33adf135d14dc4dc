"""Where metrics go. Each sink is independent: one that fails warns once and never stops training."""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rlrep.config.config import LoggerConfig
from rlrep.contract.callback import Row, Value
from rlrep.files import open_plain
from rlrep.settings import UserError, one_line

from .files import AppendFile, replace_file

T = TypeVar("T")


class Sink(Protocol):
    """Takes rows of flat metrics, each with the number that the run counts by, as `env_steps`."""

    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """metrics.jsonl: one object per row; numbers that are not finite become null."""

    def __init__(self, path: Path) -> None:
        self.file = AppendFile(path)

    def write(self, row: Row) -> None:
        """Append one row. Raises OSError."""
        self.file.append(json.dumps({key: _finite(value) for key, value in row.items()}) + "\n")

    def close(self) -> None:
        """Nothing to close."""


class Csv:
    """metrics.csv: the same rows as a table. A key that appears later gets its column by a rewrite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []  # unknown: the first row, or `rewrite`, tells

    def write(self, row: Row) -> None:
        """Append one row. Raises OSError."""
        if row.keys() <= set(self._columns):
            with open(open_plain(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", newline="") as file:
                file.write(_csv_lines([row], self._columns))
        else:
            self.rewrite([*_read_csv(self.path), row])

    def rewrite(self, rows: Iterable[Row]) -> None:
        """Replace the whole table."""
        listed = list(rows)
        self._columns = list(dict.fromkeys(key for row in listed for key in row))
        header = ",".join(self._columns) + "\n" if self._columns else ""
        replace_file(self.path, header + _csv_lines(listed, self._columns))

    def close(self) -> None:
        """Nothing to close."""


class TensorBoard:
    """Event files. After a resume, events past the checkpoint are hidden by `purge_step`."""

    def __init__(self, folder: Path, step_key: str, step: int) -> None:
        self._folder, self._step_key, self._purge_step = folder, step_key, step + 1 if step else 0
        self._writer: Any = None

    def write(self, row: Row) -> None:
        """Add every number of the row at its step."""
        if self._writer is None:  # the import takes a second, so only once there is something to write
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge_step)
        for key, value in row.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(key, value, row[self._step_key])

    def close(self) -> None:
        """Flush the event file."""
        if self._writer is not None:
            self._writer.close()


class WandB:
    """Weights & Biases; the run's folder is its id, so that a resumed run goes on in the same chart."""

    def __init__(self, folder: Path, config: LoggerConfig, tree: Mapping[str, Any], step_key: str) -> None:
        import wandb

        self._step_key = step_key
        self._run = wandb.init(
            project=config.wandb_project,
            entity=config.wandb_entity,
            name=str(folder),
            dir=str(folder),
            id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
            resume="allow",
            config=dict(tree),
        )

    def write(self, row: Row) -> None:
        """Log one row."""
        self._run.log({key: value for key, value in row.items() if value is not None}, step=row[self._step_key])

    def close(self) -> None:
        """End the session."""
        self._run.finish()


class Guard:
    """Keeps one sink's failures from training: the first is reported, later ones are not."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name, self._say, self._warned = name, say, False

    def run(self, action: Callable[[], T]) -> T | None:
        """Return what `action` returns, or None if it fails."""
        try:
            return action()
        except Exception as error:  # whatever a third-party logger raises: the run matters more
            if not self._warned:
                self._say(f"warning: {self._name}: {one_line(error)} (training goes on; this is said once)")
            self._warned = True
            return None


def optional_sinks(
    folder: Path, config: LoggerConfig, tree: Mapping[str, Any], *, step_key: str, step: int, say: Callable[[str], None]
) -> list[tuple[Guard, Sink]]:
    """Open the sinks that a run may go without. Raises UserError if one is asked for and not installed."""
    wanted: dict[str, Callable[[], Sink]] = {}
    if config.tensorboard != "false" and _installed("tensorboard", needed=config.tensorboard == "true"):
        wanted["tensorboard"] = lambda: TensorBoard(folder / "tensorboard", step_key, step)
    if config.wandb and _installed("wandb", needed=True):
        wanted["wandb"] = lambda: WandB(folder, config, tree, step_key)
    sinks = []
    for name, make in wanted.items():
        guard = Guard(name, say)
        sink = guard.run(make)
        sinks += [(guard, sink)] if sink is not None else []
    return sinks


def _installed(package: str, *, needed: bool) -> bool:
    if find_spec(package) is not None:
        return True
    if needed:
        raise UserError(
            f"logger.{package}=true needs {package}, which is not installed: pip install 'rlrep[{package}]'"
        )
    return False


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _csv_lines(rows: Iterable[Row], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()
