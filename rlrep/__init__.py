"""rlrep: contrastive representation learning in reinforcement learning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from rlrep.commands.python import Run, load, report, train
    from rlrep.config.make import make_agent, make_aux, make_env
    from rlrep.contract.callback import Callback

__all__ = ["Callback", "Run", "__version__", "load", "make_agent", "make_aux", "make_env", "report", "train"]

_PLACES = dict.fromkeys(("make_agent", "make_aux", "make_env"), "rlrep.config.make") | dict.fromkeys(
    ("Run", "load", "report", "train"), "rlrep.commands.python"
)
_PLACES["Callback"] = "rlrep.contract.callback"


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use, so that `import rlrep` stays free of torch and simulators."""
    if name not in _PLACES:
        raise AttributeError(f"module 'rlrep' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
