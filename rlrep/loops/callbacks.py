"""The callbacks of a run: found by name, called in order, saved with it. A run folder's own are never imported."""

import traceback
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

from rlrep.contract.callback import Callback
from rlrep.contract.env import Tree
from rlrep.record.tree import check_savable
from rlrep.settings import ConfigError, UserError, find_object, one_line

Call = Callable[[Callback], str | None]


class CallbackFailed(UserError):
    """A callback raised something: the run is saved where it stands and ends."""


class Callbacks:
    """Callbacks by name, in their order. ended: why the run is to end here, "" if it goes on.

    names: dotted, from a command line or files of the user's, never from a run folder.
    Raises ConfigError if one cannot be found, or is no callback.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._named = [(name, _make(name)) for name in names]
        self.ended = ""

    def __bool__(self) -> bool:
        return bool(self._named)

    def begin(self, folder: Path, learner: Any) -> None:
        """Tell all that a session begins. Raises UserError if one fails, or has a state that cannot be saved."""
        self.tell(lambda callback: callback.on_start(folder, learner))
        self.state()

    def tell(self, *calls: Call) -> None:
        """Make each call of every callback. Raises CallbackFailed for the first that failed, after all were made."""
        failed = None
        for call, (name, callback) in product(calls, self._named):
            try:
                reason = call(callback)
            except Exception as error:  # whatever code of the user's own raises
                failed = failed or CallbackFailed(f"{_complaint(name, error)}; the run is saved where it stood")
                continue
            self.ended = self.ended or (f"{name}: {one_line(Exception(reason))}" if reason else "")
        if failed is not None:
            raise failed

    def end(self, say: Callable[[str], None]) -> None:
        """Tell all that the session is over; what they raise is said."""
        for name, callback in self._named:
            try:
                callback.on_end()
            except Exception as error:
                say(f"warning: {_complaint(name, error)}")

    def state(self) -> Tree:
        """Return what a checkpoint holds of them. Raises UserError if one's state cannot be saved."""
        states = {}
        for name, callback in self._named:
            try:
                states[name] = callback.state()
            except Exception as error:
                raise UserError(f"{_complaint(name, error)}; the last checkpoint is kept") from error
            check_savable(states[name], name)
        return {"ended": self.ended, "states": states}

    def load_state(self, state: Tree) -> None:
        """Go on from a checkpoint."""
        self.ended = str(state["ended"])
        for name, callback in self._named:
            callback.load_state(state["states"][name])


def _make(name: str) -> Callback:
    path = f"train.callbacks={name}"
    found = find_object(name, path)
    if not (isinstance(found, type) and issubclass(found, Callback)):
        raise ConfigError(f"{path}: it is no subclass of rlrep.Callback")
    try:
        return found()
    except Exception as error:
        raise ConfigError(f"{path}: it cannot be made without arguments ({one_line(error)})") from error


def _complaint(name: str, error: Exception) -> str:
    """Say what was raised, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"callback {name}: {type(error).__name__}: {one_line(error)} ({place}, in {frame.name})"
