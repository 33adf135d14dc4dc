"""N environments stepped together: in this process or in worker processes, held against what they promise."""

from rlrep.contract.env import EnvMaker

from .checked import Checked
from .flicker import Flicker
from .inline import InlineVector
from .losses import FOR_EVER, Patience, raised
from .workers import WorkerVector

__all__ = ["FOR_EVER", "Checked", "Flicker", "InlineVector", "Patience", "WorkerVector", "make_vector", "raised"]


def make_vector(
    config: EnvMaker, seeds: list[int], *, workers: bool, patience: Patience = FOR_EVER
) -> InlineVector | WorkerVector:
    """Build `len(seeds)` environments. patience: for each step and reset.

    Raises what `config.make` raises: ValueError for an unknown option, RuntimeError where the machine lacks something.
    """
    if not seeds:
        raise ValueError("env.num_envs must be at least 1")
    return WorkerVector(config, seeds, patience) if workers else InlineVector(config, seeds, patience)
