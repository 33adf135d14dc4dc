"""What code of the user's own may do beside a run: watch it, and end it early."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .env import Tree

Value = float | int | str | None
Row = Mapping[str, Value]
"""Flat numbers and words, by the name of their column."""


class Callback:
    """Watches a run. Subclass it, override what is needed, and name the class: `train.callbacks=[module.Class]`.

    The class is made without arguments, once a session. `on_step`, `on_log` and `on_evaluation` return None, or why the
    run is to end here: it is then evaluated for the last time and finished, as one of that length. They are called in
    this order, each once for whatever it is of, also in a run that was stopped and goes on. What they draw, they draw
    from generators of their own. An exception ends the session in one line, with the run saved where it stood; the
    failed call is not repeated.
    """

    def on_start(self, folder: Path, learner: Any) -> None:
        """A session begins, or goes on from a checkpoint that has been taken in.

        folder: of the run. learner: the agent, or what pretrains; what is changed in it changes the run.
        """

    def on_log(self, row: Row) -> str | None:
        """A row of metrics.jsonl has been written."""
        return None

    def on_step(self, position: Mapping[str, float]) -> str | None:
        """The smallest step after which a run may stop is done.

        It is a step of the simulators with its updates; on a family of tasks a step, or an update; one update of
        pretraining; one round of parties. position: where the run stands (`agent_steps`, `env_steps`, `updates`, ...).
        """
        return None

    def on_evaluation(self, rows: Sequence[Row], summary: Row) -> str | None:
        """An evaluation has been written.

        rows: of eval.csv, `kind` among them. summary: its means (`eval/return_mean`, ...), and where the run stands.
        """
        return None

    def on_end(self) -> None:
        """The session is over, finished or not."""

    def state(self) -> Tree:
        """Return what a resumed run needs: numbers, texts, arrays, tensors, and lists and dicts of them."""
        return None

    def load_state(self, state: Tree) -> None:
        """Go on from what `state` returned."""
