"""Why a predictor without negatives does not collapse: the linear theory and real runs (Tian, Chen, Ganguli 2021)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget
from rlrep.contrast.parts import (
    Among,
    LearnedPredictor,
    Momentum,
    PredictorConfig,
    Projection,
    Regression,
    SetPredictor,
    SquaredDistance,
)
from rlrep.settings.ranges import at_least, positive
from rlrep.ssl import TargetEmbedding
from rlrep.ssl.evaluation import encode
from rlrep.ssl.optimiser import OptimiserConfig
from rlrep.ssl.probes import Fold, accuracy, nearest_neighbours
from rlrep.ssl.target import TargetEmbeddingMethod

from .dynamics import alignment, fixed_point, integrate, look
from .study import About, Claim, Line, Measured, Numbers, Panel, Study
from .training import DIGIT_VIEW, digit_learner, digits, moments, train

_BIFURCATION, _ALIGNMENT, _LENGTH = "fixed points", "alignment", "length of the encoder"
LEARNED, SET, ABSENT, THROUGH, UNDECAYED = "learned", "DirectPred", "no predictor", "no stop-gradient", "no decay"


@dataclass(frozen=True)
class DirectPredDynamics(Study):
    """Settings.

    variance, tau: of the linear theory, which is in the unit of the data's variance.
    dim, steps, batch_size, lr, decay: of the linear networks; decay is eta.
    per_class, updates, images: of the runs on digits, `images` in a batch.
    """

    variance: float = 1.0
    tau: float = 1.0
    dim: int = 16
    steps: int = 4000
    batch_size: int = 128
    lr: float = 0.05
    decay: float = 0.04
    updates: int = 250
    images: int = 64

    about = About(
        title="Dynamics of self-supervision without negatives",
        source="Tian, Chen, Ganguli 2021, Understanding SSL dynamics without contrastive pairs, arXiv 2102.06810",
        claim=(
            "With a linear predictor W_p and a stopped gradient, every mode has a stable fixed point p = (tau + "
            "sqrt(tau^2 - 4 eta (1 + sigma^2))) / (2 (1 + sigma^2)) until weight decay eta exceeds tau^2 / (4 (1 + "
            "sigma^2)), where all collapses; the eigenspaces of W_p and of the correlation of its input align "
            "(theorem 3), and weight decay balances them, W W^T = W_p^T W_p (theorem 1); without predictor or "
            "stop-gradient the network collapses (theorem 2); so the predictor can be set from that correlation "
            "(DirectPred) as well as learnt."
        ),
        setup=(
            "The flow of one mode by Runge-Kutta. Linear networks by SGD on `SquaredDistance` with `MomentumTarget`, "
            "data of variances from 0.5 to 2 under isotropic noise, the predictor symmetric with positive eigenvalues "
            "at first. "
            "`method=directpred` on scikit-learn's digits with its predictor set, learnt (linear) and left out; "
            "20 nearest neighbours on held-out images. The paper trains ResNet-18 on STL-10."
        ),
    )
    claims = (
        Claim("theory: fixed points of the flow, largest error", "theory/fixed point error", high=1e-3),
        Claim("theory: eta of collapse over tau^2 / (4 (1 + sigma^2))", "theory/threshold", low=0.99, high=1.01),
        Claim("theory: invariant s = p^2 + c e^(-2 eta t), largest error", "theory/invariant error", high=1e-3),
        Claim("linear network: eigenspaces align", f"linear/{LEARNED}/alignment", low=0.95),
        Claim(
            "linear network: balanced, norm of W W^T - W_p^T W_p over that of W W^T",
            f"linear/{LEARNED}/imbalance",
            high=0.1,
        ),
        Claim("linear network, no decay: not balanced, the same", f"linear/{UNDECAYED}/imbalance", low=0.3),
        Claim("linear network, no predictor: length of W over the start", f"linear/{ABSENT}/length", high=0.05),
        Claim("linear network, no stop-gradient: length of W over the start", f"linear/{THROUGH}/length", high=0.05),
        Claim("linear network, predictor: length of W over the start", f"linear/{LEARNED}/length", low=0.2),
        Claim("digits: eigenspaces of a learnt predictor align", f"digits/{LEARNED}/alignment", low=0.95),
        Claim("digits: DirectPred less learnt predictor, nearest neighbours", "digits/DirectPred - learned", low=-0.01),
        Claim("digits: DirectPred less no predictor, nearest neighbours", "digits/DirectPred - no predictor", low=0.01),
    )
    panels = (
        Panel(_BIFURCATION, "weight decay eta over its threshold", "p at the end of the flow"),
        Panel(_ALIGNMENT, "share of the linear network's steps", "mean cos(u, W_p u)"),
        Panel(_LENGTH, "share of the linear network's steps", "length of W over the start"),
    )

    def __post_init__(self) -> None:
        at_least(self, 1, ("dim", "steps", "batch_size", "updates"))
        at_least(self, 2, ("images",))
        positive(self, ("variance", "tau", "lr", "decay"))

    def measure(self) -> Measured:
        """Integrate the theory, train linear networks, train on digits."""
        numbers, bifurcation = self._theory()
        curves: dict[str, dict[str, Line]] = {_BIFURCATION: bifurcation, _ALIGNMENT: {}, _LENGTH: {}}
        for name in (LEARNED, UNDECAYED, ABSENT, THROUGH):
            found = self._linear(name)
            numbers |= {f"linear/{name}/{key}": history[-1] for key, history in found.items()}
            share = [(step + 1) / len(found["length"]) for step in range(len(found["length"]))]
            curves[_LENGTH][name] = share, found["length"]
            if "alignment" in found:
                curves[_ALIGNMENT][name] = share, found["alignment"]
        return Measured(numbers | self._digits(), curves)

    def _theory(self) -> tuple[Numbers, dict[str, Line]]:
        threshold = self.tau**2 / (4.0 * (1.0 + self.variance))
        share = torch.linspace(0.2, 1.3, 221, dtype=torch.float64)
        decay = share * threshold
        expected = fixed_point(decay, self.variance, self.tau)
        start = torch.full_like(decay, self.tau / (1.0 + self.variance))
        p, _ = integrate(start, start.square(), decay, self.variance, self.tau, time=2000.0, step=0.5)
        away = (share - 1.0).abs() > 0.01  # at the threshold itself the flow takes for ever
        survived = share[p > 0.1 * start].max()
        return {
            "theory/fixed point error": float((p - expected)[away].abs().max()),
            "theory/threshold": float(survived),
            "theory/invariant error": self._invariant_error(),
        }, {"flow": (share.tolist(), p.tolist()), "theory": (share.tolist(), expected.tolist())}

    def _invariant_error(self) -> float:
        """Return the largest error of s = p^2 + c e^(-2 eta t) along flows that start off the parabola (theorem 1)."""
        p, s = torch.tensor([0.6, 0.2, 0.4], dtype=torch.float64), torch.tensor([0.1, 0.5, 0.3], dtype=torch.float64)
        decay, left, worst = torch.full_like(p, self.decay), s - p.square(), 0.0
        for moment in range(1, 21):
            p, s = integrate(p, s, decay, self.variance, self.tau, time=2.0, step=0.05)
            expected = p.square() + left * math.exp(-2.0 * self.decay * 2.0 * moment)
            worst = max(worst, float((s - expected).abs().max()))
        return worst

    def _linear(self, name: str) -> dict[str, list[float]]:
        """Train a linear network and return its measures over time: see `look`."""
        width = self.dim
        encoder, predictor = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        basis = torch.linalg.qr(torch.randn(width, width)).Q
        predictor.weight.data = (basis * (0.2 + 0.8 * torch.rand(width))) @ basis.T
        target, objective = MomentumTarget(encoder, 0.4 * self.lr), SquaredDistance()
        scale, start = torch.linspace(0.5, 2.0, width).sqrt(), encoder.weight.norm().item()

        def loss() -> Tensor:
            x = scale * torch.randn(self.batch_size, width)
            first, second = (x + self.variance**0.5 * torch.randn_like(x) for _ in range(2))
            z = encoder(first) if name == ABSENT else predictor(encoder(first))
            return 0.5 * objective([z, encoder(second) if name == THROUGH else target(second)], Among())

        parameters = [*encoder.parameters(), *(predictor.parameters() if name != ABSENT else ())]
        decay = 0.0 if name == UNDECAYED else self.decay
        sgd = OptimiserConfig("sgd", self.lr, lr_scale="none", momentum=0.0, weight_decay=decay, schedule="constant")
        history, shown = list[Numbers](), moments(self.steps)
        for step in train(parameters, loss, sgd, self.steps):
            target.update()
            if step in shown:
                variances = scale.square() + self.variance
                history.append(look(encoder.weight.detach(), predictor.weight.detach(), variances))
        alive = ("length", "alignment", "imbalance") if name in (LEARNED, UNDECAYED) else ("length",)
        found = {key: [at[key] for at in history] for key in alive}
        return found | {"length": [length / start for length in found["length"]]}

    def _digits(self) -> Numbers:
        """Return nearest neighbours by predictor, and how a learnt one is aligned."""
        predictors: dict[str, PredictorConfig | None] = {
            LEARNED: LearnedPredictor(layers=1, norm="none"),
            SET: SetPredictor(),
            ABSENT: None,
        }
        found: Numbers = {}
        seed = int(torch.randint(2**31, ()))
        for name, predictor in predictors.items():
            torch.manual_seed(seed)
            found |= {f"digits/{name}/{key}": value for key, value in self._run(predictor, seed).items()}
        for other in (LEARNED, ABSENT):
            found[f"digits/{SET} - {other}"] = found[f"digits/{SET}/neighbours"] - found[f"digits/{other}/neighbours"]
        return found

    def _run(self, predictor: PredictorConfig | None, seed: int) -> Numbers:
        split = digits(16)
        method = TargetEmbedding(
            (DIGIT_VIEW, DIGIT_VIEW),
            Projection(256, 64, norm="plain"),
            Regression(),
            target=Momentum(0.03),
            predictor=predictor,
        )
        sgd = OptimiserConfig("sgd", 0.03, lr_scale="none", weight_decay=4e-4, schedule="constant")
        learner = digit_learner(
            method, split.train, updates=self.updates, batch_size=self.images, optimiser=sgd, seed=seed
        )
        for _ in range(self.updates):
            learner.update()
        encoder = learner.method.encoder
        labels = (side.labels["digit"] for side in (split.train, split.test))
        features = (encode(encoder, side.images) for side in (split.train, split.test))
        fold = Fold(*(part for both in zip(features, labels, strict=True) for part in both))
        votes = nearest_neighbours(fold, neighbours=20, temperature=0.1)
        found = {"neighbours": accuracy(votes, fold.test_y)}
        if predictor is not None:
            assert isinstance(learner.method, TargetEmbeddingMethod)
            z, origin = encode(learner.method.online, split.train.images), torch.zeros(1, 64)
            with torch.no_grad():
                weight = learner.method.predictor(torch.eye(64)) - learner.method.predictor(origin)
            found["alignment"] = alignment(z.T @ z / len(z), weight.T)
        return found
