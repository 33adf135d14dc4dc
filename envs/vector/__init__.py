"""N environments stepped together: in this process or in worker processes, held against what they promise."""

from rlrep.contract.env import EnvMaker

from .checked import Checked
from .flicker import Flicker
from .inline import InlineVector
from .losses import FOR_EVER, Patience, raised
from .pool import Pool
from .workers import WorkerVector

__all__ = [
    "FOR_EVER",
    "Checked",
    "Flicker",
    "InlineVector",
    "Patience",
    "Pool",
    "WorkerVector",
    "make_vector",
    "raised",
]


def make_vector(
    config: EnvMaker, seeds: list[int], *, workers: bool, patience: Patience = FOR_EVER, pool: Pool | None = None
) -> InlineVector | WorkerVector:
    """Build `len(seeds)` environments. patience: for each step and reset. pool: of workers, see `WorkerVector`.

    Raises what `config.make` raises: ValueError for an unknown option, RuntimeError where the machine lacks something.
    """
    if not seeds:
        raise ValueError("env.num_envs must be at least 1")
    if workers:
        return WorkerVector(config, seeds, patience, pool)
    return InlineVector(config, seeds, patience)
