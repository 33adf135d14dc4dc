"""Callbacks of the tests of callbacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rlrep


class Counts(rlrep.Callback):
    """Counts its calls, and keeps the last row."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.last: dict[str, Any] = {}

    def count(self, name: str) -> str | None:
        self.calls[name] = self.calls.get(name, 0) + 1
        return None

    def on_log(self, row: Any) -> str | None:
        self.last = {key: value for key, value in row.items() if key == "agent_steps" or key.startswith("loss")}
        return self.count("log")

    def on_step(self, position: Any) -> str | None:
        return self.count("step")

    def on_evaluation(self, rows: Sequence[Any], summary: Any) -> str | None:
        return self.count("evaluation")

    def state(self) -> Any:
        return {"calls": self.calls, "last": self.last}

    def load_state(self, state: Any) -> None:
        self.calls, self.last = state["calls"], state["last"]


class Thirty(Counts):
    """Ends a run after 30 calls of `on_step`."""

    def on_step(self, position: Any) -> str | None:
        super().on_step(position)
        return "thirty steps\nare enough" if self.calls["step"] >= 30 else None


class Faulty(Counts):
    """Fails in one method, once, at 30 agent steps or later."""

    where = ""

    def count(self, name: str) -> str | None:
        super().count(name)
        if name == self.where and self.calls[name] == {"log": 6, "step": 31, "evaluation": 2}[name]:
            raise ZeroDivisionError("a\nfault")
        return None


class NeedsMore(rlrep.Callback):
    def __init__(self, more: int) -> None:
        self.more = more


class Unsavable(rlrep.Callback):
    def state(self) -> Any:
        return {"file": Path()}


class Parting(rlrep.Callback):
    def on_end(self) -> None:
        raise OSError("no way back")


class NoCallback:
    """Of another kind."""
