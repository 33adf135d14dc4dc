"""The linear theory of self-supervision without negatives (Tian, Chen, Ganguli 2021), as functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .study import Numbers


def fixed_point(decay: Tensor, variance: float, tau: float) -> Tensor:
    """Return the stable eigenvalue p of the predictor (section 3.2, p*+), 0 where weight decay leaves none.

    decay: weight decay, any shape. variance: of the augmentation. tau: of the target, W_a = tau W.
    """
    root = tau**2 - 4.0 * decay * (1.0 + variance)
    return torch.where(root >= 0, (tau + root.clamp_min(0.0).sqrt()) / (2.0 * (1.0 + variance)), 0.0)


def integrate(p: Tensor, s: Tensor, decay: Tensor, variance: float, tau: float, *, time: float, step: float) -> Tensor:
    """Return p and s `(2, ...)` after `time` of the flow of a mode (equations 12 and 13), by Runge-Kutta.

    p: eigenvalue of the predictor. s: of the correlation of its input. The rates of predictor and encoder are equal.
    """

    def flow(state: Tensor) -> Tensor:
        p, s = state
        pull = s * (tau - (1.0 + variance) * p)
        return torch.stack([pull - decay * p, 2.0 * p * pull - 2.0 * decay * s])

    state = torch.stack([p, s])
    for _ in range(round(time / step)):
        a = flow(state)
        b = flow(state + step / 2.0 * a)
        c = flow(state + step / 2.0 * b)
        state = state + step / 6.0 * (a + 2.0 * b + 2.0 * c + flow(state + step * c))
    return state


def alignment(correlation: Tensor, weight: Tensor) -> float:
    """Return the mean of cos(u, weight u) over eigenvectors u of a correlation `(D, D)`, weighted by its eigenvalues.

    1 where the predictor's weight `(D, D)` has the same eigenvectors and positive eigenvalues.
    """
    values, vectors = torch.linalg.eigh(correlation)
    cosines = F.cosine_similarity(vectors, weight @ vectors, dim=0)
    share = values.clamp_min(0.0) / values.clamp_min(0.0).sum()
    return float((share * cosines).sum())


def look(w: Tensor, predictor: Tensor, variances: Tensor) -> Numbers:
    """Return the length of W, how W_p is aligned with W diag(variances) W^T, and how far W W^T is from W_p^T W_p."""
    gram = w @ w.T
    imbalance = (gram - predictor.T @ predictor).norm() / gram.norm()
    return {
        "length": w.norm().item(),
        "alignment": alignment((w * variances) @ w.T, predictor),
        "imbalance": imbalance.item(),
    }
