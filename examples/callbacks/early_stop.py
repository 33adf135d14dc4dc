"""End a run when its evaluations stop getting better.

python -m rlrep.train env=dmc_cartpole --config-dir examples/callbacks train.callbacks=[early_stop.Patience]
"""

from collections.abc import Sequence
from typing import Any

import rlrep


class Patience(rlrep.Callback):
    """Waits for a better mean return for `evaluations` evaluations. A subclass may be more patient."""

    evaluations = 3

    def __init__(self) -> None:
        self.best, self.waited = float("-inf"), 0

    def on_evaluation(self, rows: Sequence[Any], summary: Any) -> str | None:
        mean = summary["eval/return_mean"]
        self.best, self.waited = (mean, 0) if mean > self.best else (self.best, self.waited + 1)
        return f"{self.waited} evaluations without a better mean" if self.waited >= self.evaluations else None

    def state(self) -> Any:
        return {"best": self.best, "waited": self.waited}

    def load_state(self, state: Any) -> None:
        self.best, self.waited = state["best"], state["waited"]
