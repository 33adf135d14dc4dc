"""The commands from Python, for notebooks: train, look at what came out, compare.

run = rlrep.train("dmc_cheetah", aux="curl", preset="debug")
run.metrics()["loss/critic"]
rlrep.report("runs")
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.agent import Agent, MetaAgent
from rlrep.contract.callback import Callback
from rlrep.contract.env import VectorEnv
from rlrep.nn import Encoder, load_encoder, read_encoder
from rlrep.process.cli import Arguments, config_folder
from rlrep.record.folder import check_plain, read_config
from rlrep.record.stored import Unreadable
from rlrep.record.trust import Trust
from rlrep.scores.files import read_csv
from rlrep.scores.runs import Evaluations, read_run
from rlrep.settings import UserError

from .probe import saved_config
from .report import ReportConfig
from .report import report as compare
from .train import train as train_words
from .trained import agent_of, encoder_of, simulators_of

T = TypeVar("T")
Options = Mapping[str, Any]
Columns = dict[str, NDArray[Any]]
"""By name, of equal length: what `pandas.DataFrame` takes."""
Metric = Literal["auto", "return", "success"]


@dataclass(frozen=True)
class Run:
    """A run folder, of training or pretraining. It is read, and nothing in it is executed."""

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """Every setting, as resolved. Raises UserError if the folder holds none that can be read."""
        return read_config(self.folder)

    def metrics(self) -> Columns:
        """Return the columns of metrics.csv `(rows,)`, NaN for no value. Raises UserError if it cannot be read."""
        return _columns(self.folder / "metrics.csv", _numbers)

    def episodes(self) -> Columns:
        """Return the columns of eval.csv `(rows,)`: a row per episode of evaluation, or per score of pretraining.

        Numbers as floats, NaN for no value; columns with words in them as texts. Raises UserError if it cannot be read.
        """
        return _columns(self.folder / "eval.csv", _numbers_or_texts)

    def evaluations(self) -> Evaluations:
        """Return the evaluations of an agent, means over episodes. Raises UserError if there is none yet."""
        return _readable(read_run, self.folder)[0].evaluations

    def agent(self) -> Agent | MetaAgent:
        """Return the agent of the newest checkpoint, on the CPU, its replay empty: `act(obs, explore=False)`.

        Raises UserError if there is none, or the folder names components that are not rlrep's or a package's.
        """
        return agent_of(self.folder, Trust())

    def envs(self, count: int = 1, *, seed: int = 0) -> VectorEnv:
        """Return `count` simulators as the run's evaluation has them: `reset()` comes first, `close()` last."""
        return simulators_of(self.folder, Trust(), count=count, seed=seed)

    def encoder(self) -> Encoder:
        """Return the encoder that pretraining saved, or else that of the agent, on the CPU.

        Raises UserError if there is none, or a damaged one.
        """
        if not (self.folder / "encoder.safetensors").exists() and (self.folder / "checkpoints").is_dir():
            return encoder_of(self.folder, Trust())
        try:
            config, shape = saved_config(str(self.folder), Trust()), tuple(read_encoder(self.folder).input["shape"])
            encoder = config.make(shape)
            load_encoder(self.folder, encoder, config, shape)
        except ValueError as error:
            raise UserError(str(error)) from error
        return encoder

    def video(self) -> Path | None:
        """Return the newest film, None if none was made."""
        films = [path for path in (self.folder / "videos").glob("*") if path.suffix in (".mp4", ".gif")]
        return max(films, key=lambda path: path.stat().st_mtime, default=None)


def train(
    env: str,
    *,
    agent: str | None = None,
    aux: str | Sequence[str] | None = None,
    augment: str | None = None,
    encoder: str | None = None,
    preset: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    callbacks: Sequence[type[Callback]] = (),
    config_dir: str | Path | None = None,
    options: Options | None = None,
) -> Run:
    """Train a run, or go on with it, as `python -m rlrep.train env=... aux=...` does, and return its folder.

    callbacks: classes that a module, or the script or notebook itself, holds by their name.
    config_dir: a folder of more group files (`aux/NAME.yaml`, ...) and their modules.
    options: by dotted name, `{"train.env_steps": 1000, "aux.curl.weight": 0.5}`.
    Raises ConfigError on what is unknown, UserError if it cannot run, Stopped (after saving) on a signal.
    """
    chosen = {"env": env, "agent": agent, "aux": aux, "augment": augment, "encoder": encoder, "preset": preset}
    asked = {**chosen, "seed": seed, "out": None if out is None else os.fspath(out)}
    words = [f"{name}={text(value)}" for name, value in asked.items() if value is not None]
    watching = [f"{each.__module__}.{each.__qualname__}" for each in callbacks]
    words += [f"train.callbacks={text(watching)}"] if watching else []
    words += [f"{name}={text(value)}" for name, value in (options or {}).items()]
    folders = [] if config_dir is None else [config_folder(os.fspath(config_dir))]
    return Run(Path(train_words(Arguments(words, folders=folders))))


def load(folder: str | Path) -> Run:
    """Return a run folder. Raises UserError if it is none, or holds links."""
    place = Path(folder)
    if not (place / "config.yaml").is_file():
        raise UserError(f"{place} is no run folder: it has no config.yaml")
    check_plain(place)
    return Run(place)


def report(*folders: str | Path, out: str | Path = "report", metric: Metric = "auto") -> Path:
    """Compare all runs below some folders, as `python -m rlrep.report`; return the page. Raises as it does."""
    compare([Path(folder) for folder in folders], ReportConfig(out=os.fspath(out), metric=metric))
    return Path(out) / "report.html"


def text(value: object) -> str:
    """Return a value as one types it on the command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(text, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _readable(read: Callable[[Path], T], place: Path) -> T:
    try:
        return read(place)
    except Unreadable as error:
        raise UserError(f"{place} {error}") from error


def _columns(path: Path, typed: Callable[[list[str]], NDArray[Any]]) -> Columns:
    table = _readable(read_csv, path)
    return {name: typed([row[place] for row in table.rows]) for place, name in enumerate(table.columns)}


def _numbers(cells: list[str]) -> NDArray[Any]:
    return np.array([_number(cell) for cell in cells])


def _numbers_or_texts(cells: list[str]) -> NDArray[Any]:
    words = [cell for cell in cells if cell and np.isnan(_number(cell)) and cell != "nan"]
    return np.array(cells) if words else _numbers(cells)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan
