"""rlrep: contrastive representation learning in reinforcement learning."""

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from rlrep.config.make import make_agent, make_aux, make_env

__all__ = ["__version__", "make_agent", "make_aux", "make_env"]


def __getattr__(name: str) -> Any:
    """Load the builders on first use, so that `import rlrep` stays free of torch and simulators."""
    if name not in ("make_agent", "make_aux", "make_env"):
        raise AttributeError(f"module 'rlrep' has no attribute {name!r}")
    from rlrep.config import make

    return getattr(make, name)
