"""Objectives against pytorch-metric-learning, values and gradients, where it has them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlrep.contrast import nt_xent, suncet, sup_con

losses = pytest.importorskip("pytorch_metric_learning.losses")
distances = pytest.importorskip("pytorch_metric_learning.distances")

LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 2, 2])
Z = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
VIEW = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


CASES: dict[str, tuple[Callable[[Tensor, float], Tensor], Callable[[Tensor, float], Tensor]]] = {
    "nt_xent": (
        lambda z, t: nt_xent(z, VIEW, temperature=t),
        lambda z, t: losses.SelfSupervisedLoss(losses.NTXentLoss(temperature=t))(z, VIEW),
    ),
    "sup_con_without_labels": (
        lambda z, t: sup_con(torch.stack([z, VIEW], 1), temperature=t),
        lambda z, t: losses.SelfSupervisedLoss(losses.SupConLoss(temperature=t))(z, VIEW),
    ),
    "sup_con": (
        lambda z, t: sup_con(z[:, None], LABELS, temperature=t),
        lambda z, t: losses.SupConLoss(temperature=t)(z, LABELS),
    ),
    "suncet": (
        lambda z, t: suncet(z, LABELS, temperature=t),
        lambda z, t: losses.NCALoss(softmax_scale=1 / t, distance=distances.CosineSimilarity())(z, LABELS),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_agrees_with_pytorch_metric_learning(name: str, temperature: float) -> None:
    values, gradients = [], []
    for objective in CASES[name]:
        z = Z.clone().requires_grad_()
        values.append(objective(z, temperature))
        gradients.append(torch.autograd.grad(values[-1], z)[0])
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])
