"""Auxiliary heads inside an agent's losses, and the metrics that an update hands over."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rlrep.aux import AuxTask, Encoded, Encoders, Metrics
from rlrep.contrast import effective_rank, feature_std
from rlrep.replay.batch import Batch


@dataclass(frozen=True)
class Scalars:
    """Named metrics in one tensor `(len(names),)`, so that an update hands over and adds up one tensor instead of
    twenty."""

    names: tuple[str, ...]
    values: Tensor

    @staticmethod
    def stack(metrics: Metrics) -> "Scalars":
        """Join scalar tensors."""
        return Scalars(tuple(metrics), torch.stack([value.float() for value in metrics.values()]))

    def read(self) -> dict[str, float]:
        """Return the values by name (reads from the device)."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


@dataclass(frozen=True)
class Heads:
    """An agent's heads and the factors of their losses, by name."""

    tasks: Mapping[str, AuxTask]
    weights: Mapping[str, float]

    def add_to(self, loss: Tensor, batch: Batch, latent: Tensor, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the RL loss plus every head's weighted loss on the batch's encoding, and the heads' metrics."""
        metrics: Metrics = {}
        for name, task in self.tasks.items():
            head_loss, health = task.loss(batch, Encoded(latent), encoders)
            loss = loss + self.weights[name] * head_loss
            metrics[f"aux/{name}/loss"] = head_loss.detach()
            metrics |= {f"aux/{name}/{key}": value for key, value in health.items()}
        return loss, metrics

    def diagnose(self, rl_loss: Tensor, batch: Batch, latent: Tensor, encoders: Encoders) -> Metrics:
        """Return meters of a batch's encoding (a leaf): effective rank, spread, and each head's pull on it.

        `grad_ratio` is the norm of the head's weighted gradient there over the RL loss's: 1 means that both pull as
        hard.
        """
        reference = _gradient_norm(rl_loss, latent)
        found = {"rep/effective_rank": effective_rank(latent.detach()), "rep/feature_std": feature_std(latent.detach())}
        for name, task in self.tasks.items():
            loss, _ = task.loss(batch, Encoded(latent), encoders)
            norm = _gradient_norm(self.weights[name] * loss, latent)
            found[f"aux/{name}/grad_ratio"] = norm / reference.clamp(min=1e-12)
        return found


def _gradient_norm(loss: Tensor, latent: Tensor) -> Tensor:
    """Norm of d loss / d latent; 0 if the loss does not read this latent (a head with anchors of its own)."""
    (gradient,) = torch.autograd.grad(loss, latent, allow_unused=True)
    norm: Tensor = torch.zeros_like(loss) if gradient is None else torch.linalg.vector_norm(gradient)
    return norm
