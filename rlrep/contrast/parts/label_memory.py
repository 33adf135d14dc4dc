"""A running average of what a classifier said of every sample, which wrong labels cannot bend at once (ELR)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributed import gather_with_grad
from ..probabilities import early_learning

_FLOOR = 1e-4


@dataclass(frozen=True)
class EarlyLearning:
    """weight x mean log(1 - <average of earlier predictions, prediction>) (`early_learning`), beside cross entropy.

    beta: weight of the old average, in [0, 1).
    """

    beta: float = 0.7
    weight: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta < 1.0:
            raise ValueError(f"beta is the weight of the old average, in [0, 1), not {self.beta}")

    def make(self, count: int, classes: int) -> "LabelMemory":
        """Build the averages for `count` samples."""
        return LabelMemory(self, count, classes)


class LabelMemory(nn.Module):
    """targets: `(count, classes)`, the average of a sample's predictions; 0 before its first."""

    targets: Tensor

    def __init__(self, config: EarlyLearning, count: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("targets", torch.zeros(count, classes))
        self._moved: list[tuple[Tensor, Tensor]] = []

    def loss(self, logits: Tensor, index: Tensor) -> Tensor:
        """Return the weighted regulariser of samples `index` `(N,)` with logits `(N, classes)`.

        Their averages move first, and are kept by `write`: the loss changes no state.
        """
        probability = logits.float().softmax(1).clamp(_FLOOR, 1.0 - _FLOOR)
        with torch.no_grad():
            new = probability / probability.sum(1, keepdim=True)
            moved = self.targets[index].lerp(new.to(self.targets), 1.0 - self.config.beta)
        self._moved.append((index, moved))
        return self.config.weight * early_learning(probability, moved)

    @torch.no_grad()
    def write(self) -> None:
        """Keep the averages that the last losses moved, those of other processes too."""
        for index, moved in self._moved:
            self.targets[gather_with_grad(index)] = gather_with_grad(moved)
        self._moved = []

    def disagrees(self, labels: Tensor) -> Tensor:
        """Return bool `(count,)`: of which samples the average says another class than labels `(count,)`."""
        return (self.targets.argmax(1) != labels) & self.targets.any(1)
