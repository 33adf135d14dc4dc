"""Augmentation decorrelates dense features of a positive pair and leaves sparse ones (Wen, Li 2021)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast import nt_xent
from rlrep.settings.ranges import at_least, positive, share
from rlrep.ssl.optimiser import OptimiserConfig

from .study import About, Claim, Line, Measured, Panel, Study
from .training import moments, train

NONE, JITTER, INDEPENDENT, COMPLEMENTARY = "none", "jitter", "independent masks", "complementary masks"
CONDITIONS = (NONE, JITTER, INDEPENDENT, COMPLEMENTARY)
_RECOVERY, _LOSS = "recovery of the sparse features", "contrastive loss"
_JITTER = 0.1


@dataclass(frozen=True)
class SparseCoding:
    """Data x = M z + xi (Wen & Li, section 2): M `(p, d)` with orthonormal columns, z sparse in {-1, 0, 1}, xi dense.

    sparsity: probability that a coordinate of z is not 0. noise: variance of a coordinate of xi.
    """

    dictionary: Tensor
    sparsity: float
    noise: float

    def draw(self, rows: int) -> Tensor:
        """Return x `(rows, p)` of torch's global generator."""
        p, d = self.dictionary.shape
        sign = torch.randint(2, (rows, d)) * 2.0 - 1.0
        z = sign * (torch.rand(rows, d) < self.sparsity)
        x: Tensor = z @ self.dictionary.T + math.sqrt(self.noise) * torch.randn(rows, p)
        return x


def two_views(x: Tensor, condition: str) -> tuple[Tensor, Tensor]:
    """Return the two views of x `(N, p)`: as it is, with noise, or masked by halves, which are doubled to keep E[x]."""
    if condition == NONE:
        return x, x
    if condition == JITTER:
        return x + _JITTER * torch.randn_like(x), x + _JITTER * torch.randn_like(x)
    first = (torch.rand_like(x) < 0.5).float()
    second = 1.0 - first if condition == COMPLEMENTARY else (torch.rand_like(x) < 0.5).float()
    return 2.0 * first * x, 2.0 * second * x


def recovery(weight: Tensor, dictionary: Tensor) -> float:
    """Return the median over columns of a dictionary `(p, d)` of the largest |cos| with a row of a weight `(m, p)`."""
    cosines = (F.normalize(weight, dim=1) @ F.normalize(dictionary, dim=0)).abs()
    return float(cosines.max(0).values.median())


class SymmetricReLU(nn.Module):
    """h = ReLU(Wx - b) - ReLU(-Wx - b): neurons with a threshold on either side (Wen & Li, section 3)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        scale = 1.0 / math.sqrt(in_dim * out_dim)
        self.weight = nn.Parameter(scale * torch.randn(out_dim, in_dim))
        self.threshold = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, in_dim)` to `(N, out_dim)`."""
        u = x @ self.weight.T
        return F.relu(u - self.threshold) - F.relu(-u - self.threshold)


@dataclass(frozen=True)
class FeatureDecoupling(Study):
    """Settings.

    latents, dim, neurons: d, p and m of the data and the network. sparsity: of a latent.
    steps, batch_size, lr: of Adam, a fresh batch every step. temperature: of NT-Xent.
    """

    latents: int = 20
    dim: int = 200
    neurons: int = 40
    sparsity: float = 0.1
    steps: int = 1500
    batch_size: int = 256
    lr: float = 2e-3
    temperature: float = 0.2

    about = About(
        title="Augmentation decouples features",
        source="Wen, Li 2021, Toward understanding the feature learning process of contrastive learning, 2105.15134",
        claim=(
            "Data are sparse signals under dense spurious noise. Without augmentation contrastive learning learns the "
            "dense noise; the stronger an augmentation decorrelates the noise of a positive pair while it keeps the "
            "signal, the better neurons recover the sparse features, although the loss ends higher."
        ),
        setup=(
            "Synthetic data x = M z + xi with 20 sparse latents in 200 dimensions, noise of variance sqrt(log d)/d in "
            "each, so that its norm is three times the signal's; one layer of symmetric ReLU neurons with learnt "
            "thresholds, `nt_xent`, fresh batches. Recovery is the median over latents of the best neuron's |cos| with "
            "the latent's direction. Thresholds are trained, where the paper raises them by a schedule."
        ),
    )
    claims = (
        Claim("recovery: jitter less none", "jitter - none", low=0.0),
        Claim("recovery: independent masks less jitter", "independent masks - jitter", low=0.0),
        Claim("recovery: complementary less independent masks", "complementary masks - independent masks", low=0.0),
        Claim("recovery without augmentation", f"{NONE}/recovery", high=0.2),
        Claim("recovery with complementary masks", f"{COMPLEMENTARY}/recovery", low=0.75),
        Claim("loss rises with recovery: smallest step between conditions", "least rise of the loss", low=0.0),
    )
    panels = (
        Panel(_RECOVERY, "steps", "median over latents of max |cos|"),
        Panel(_LOSS, "steps", "NT-Xent"),
    )

    def __post_init__(self) -> None:
        at_least(self, 2, ("latents", "dim", "neurons", "batch_size"))
        at_least(self, 1, ("steps",))
        positive(self, ("lr", "temperature"))
        share(self, ("sparsity",))
        if self.latents > self.dim:
            raise ValueError(f"latents={self.latents} directions are not orthogonal in dim={self.dim}")

    def measure(self) -> Measured:
        """Train a network per condition on the same dictionary, from the same weights."""
        noise = math.sqrt(math.log(self.latents)) / self.latents
        data = SparseCoding(torch.linalg.qr(torch.randn(self.dim, self.latents)).Q, self.sparsity, noise)
        seed = int(torch.randint(2**31, ()))
        numbers: dict[str, float] = {}
        curves: dict[str, dict[str, Line]] = {_RECOVERY: {}, _LOSS: {}}
        for condition in CONDITIONS:
            torch.manual_seed(seed)
            steps, recovered, losses = self._train(data, condition)
            numbers |= {f"{condition}/recovery": recovered[-1], f"{condition}/loss": losses[-1]}
            curves[_RECOVERY][condition], curves[_LOSS][condition] = (steps, recovered), (steps, losses)
        pairs = list(zip(CONDITIONS[1:], CONDITIONS[:-1], strict=True))
        numbers |= {f"{a} - {b}": numbers[f"{a}/recovery"] - numbers[f"{b}/recovery"] for a, b in pairs}
        numbers["least rise of the loss"] = min(numbers[f"{a}/loss"] - numbers[f"{b}/loss"] for a, b in pairs)
        return Measured(numbers, curves)

    def _train(self, data: SparseCoding, condition: str) -> tuple[list[int], list[float], list[float]]:
        """Return the steps looked at, the recovery and the loss of the last batches there."""
        network, last = SymmetricReLU(self.dim, self.neurons), list[float]()

        def loss() -> Tensor:
            first, second = two_views(data.draw(self.batch_size), condition)
            value = nt_xent(network(first), network(second), temperature=self.temperature)
            last.append(float(value.detach()))
            return value

        steps, recovered, losses = sorted(moments(self.steps)), list[float](), list[float]()
        adam = OptimiserConfig("adamw", self.lr, lr_scale="none", weight_decay=0.0, schedule="constant")
        for step in train(list(network.parameters()), loss, adam, self.steps):
            if step in steps:
                recovered.append(recovery(network.weight.detach(), data.dictionary))
                losses.append(sum(last[-20:]) / len(last[-20:]))
        return steps, recovered, losses
