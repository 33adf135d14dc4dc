"""Meta-World: its benchmarks as families of tasks, and MT1 as an ordinary environment."""

from .families import ML1, ML10, ML45, MT10
from .single import MT1

__all__ = ["ML1", "ML10", "ML45", "MT1", "MT10"]
