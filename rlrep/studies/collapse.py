"""Complete and dimensional collapse, and the decorrelation that prevents both (Hua et al. 2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlrep.contrast.parts import Projection, SquaredDistance, Whitening
from rlrep.contrast.projectors import Norm
from rlrep.settings.ranges import at_least, positive
from rlrep.ssl import JointEmbedding
from rlrep.ssl.data import ImageData
from rlrep.ssl.evaluation import collapse_meters, encode
from rlrep.ssl.optimiser import OptimiserConfig

from .study import About, Applied, Claim, Line, Measured, OfEncoder, Panel, Study, Subject
from .training import DIGIT_VIEW, balanced_digits, digit_learner, moments

NONE, NORM, PLAIN, SHUFFLED = "no normalisation", "batch norm", "decorrelated", "shuffled"
METERS = ("spread", "correlation", "effective_rank")
_PANELS = {
    "spread": "sd of features (1: all over)",
    "correlation": "mean |correlation|",
    "effective_rank": "effective rank",
}


@dataclass(frozen=True)
class Collapse(Applied):
    """Settings.

    per_class: images of each of the ten digits.
    size: side of the images in pixels.
    updates, batch_size, lr: of Adam, whose rate falls by half a cosine.
    hidden_dim, out_dim: of the projector.
    groups: of features that are whitened together.
    """

    per_class: int = 100
    size: int = 16
    updates: int = 400
    batch_size: int = 64
    lr: float = 1e-3
    hidden_dim: int = 256
    out_dim: int = 64
    groups: int = 4

    about = About(
        title="Complete and dimensional collapse",
        source="Hua et al. 2021, On feature decorrelation in self-supervised learning, arXiv 2105.00470",
        claim=(
            "Without negatives, predictor or target network the distance of two views collapses completely: all "
            "embeddings become one point. Batch norm of the projections leaves dimensional collapse: they spread, but "
            "all features are one. Whitening them removes both, and shuffling which features are whitened together "
            "decorrelates further."
        ),
        setup=(
            "Two views of scikit-learn's digits, a small convolutional network with the parts of "
            "`method=shuffled_dbn`: `SquaredDistance` of projections without normalisation, after batch norm without "
            "affine part, after whitening in groups, and in shuffled groups. Measured on the projections before the "
            "whitening, which has no correlation by construction. The paper trains ResNet-18 on CIFAR."
        ),
    )
    claims = (
        Claim("no normalisation: complete collapse, spread", f"{NONE}/spread", high=0.15),
        Claim("batch norm: no complete collapse, spread", f"{NORM}/spread", low=0.7),
        Claim("batch norm: dimensional collapse, correlation", f"{NORM}/correlation", low=0.9),
        Claim("decorrelated: no complete collapse, spread", f"{PLAIN}/spread", low=0.7),
        Claim("decorrelated: no dimensional collapse, correlation", f"{PLAIN}/correlation", high=0.3),
        Claim("shuffled against decorrelated: difference of the correlations", "shuffled - decorrelated", high=0.0),
    )
    panels = tuple(Panel(meter.replace("_", " "), "updates", label) for meter, label in _PANELS.items())

    def __post_init__(self) -> None:
        at_least(self, 1, ("per_class", "updates", "hidden_dim", "out_dim"))
        at_least(self, 2, ("batch_size",))
        positive(self, ("lr",))

    def of(self, subject: Subject) -> Study:
        """Return whether an encoder has collapsed, and how its logged meters went."""
        return CollapseOfEncoder(subject)

    def measure(self) -> Measured:
        """Train a network per normalisation, from the same weights, and meter its projections."""
        data = balanced_digits(self.per_class, size=self.size)
        seed = int(torch.randint(2**31, ()))
        numbers: dict[str, float] = {}
        curves: dict[str, dict[str, Line]] = {panel.title: {} for panel in self.panels}
        for name, (last_norm, whitening) in self._arms.items():
            torch.manual_seed(seed)
            projector = Projection(self.hidden_dim, self.out_dim, last_norm=last_norm)
            steps, history = self._train(data, projector, whitening, seed)
            numbers |= {f"{name}/{meter}": history[-1][meter] for meter in METERS}
            for meter, panel in zip(METERS, self.panels, strict=True):
                curves[panel.title][name] = steps, [at[meter] for at in history]
        numbers["shuffled - decorrelated"] = numbers[f"{SHUFFLED}/correlation"] - numbers[f"{PLAIN}/correlation"]
        return Measured(numbers, curves)

    @property
    def _arms(self) -> dict[str, tuple[Norm, Whitening | None]]:
        """By name: the last norm of the projector, and its whitening."""
        return {
            NONE: ("none", None),
            NORM: ("plain", None),
            PLAIN: ("none", Whitening(self.groups, shuffle=False)),
            SHUFFLED: ("none", Whitening(self.groups, shuffle=True)),
        }

    def _train(
        self, data: ImageData, projector: Projection, whitening: Whitening | None, seed: int
    ) -> tuple[list[int], list[dict[str, float]]]:
        """Return the updates after which the projections were metered, and the meters."""
        method = JointEmbedding((DIGIT_VIEW, DIGIT_VIEW), projector, SquaredDistance(), whitening)
        adam = OptimiserConfig("adamw", self.lr, lr_scale="none")
        learner = digit_learner(
            method, data, updates=self.updates, batch_size=self.batch_size, optimiser=adam, seed=seed
        )
        steps, history = sorted(moments(self.updates)), list[dict[str, float]]()
        for update in range(1, self.updates + 1):
            learner.update()
            if update in steps:
                history.append(meters(encode(learner.method.online, data.images)))
        return steps, history


def meters(z: Tensor) -> dict[str, float]:
    """Return spread, correlation and effective rank of embeddings `(N, D)`."""
    return {key.rpartition("/")[2]: value for key, value in collapse_meters({"z": z}).items()}


class CollapseOfEncoder(OfEncoder):
    """Whether an agent's encoder has collapsed, completely or in its dimensions, and when."""

    about = About(
        title="Has an agent's encoder collapsed?",
        source="After Hua et al. 2021, On feature decorrelation in self-supervised learning, arXiv 2105.00470",
        claim="Complete collapse shows in the spread of latents, dimensional collapse in their correlation and rank.",
        setup=(
            "An agent acts on its environment; latents of what it sees are metered, and so are those of an encoder of "
            "random weights. The curves are what the run logged of its batches. Of a pretraining run: images that it "
            "held out."
        ),
    )
    claims = (
        Claim("no complete collapse, spread over that of random weights", "spread over random weights", low=0.5),
        Claim("no dimensional collapse, correlation", "encoder/correlation", high=0.9),
        Claim("no loss of rank against random weights, ratio", "rank over random weights", low=0.5),
    )
    panels = (
        Panel("effective rank", "agent steps, or updates of pretraining", "effective rank of latents"),
        Panel("feature std", "agent steps, or updates of pretraining", "sd of features, or spread of latents"),
    )

    def measure(self) -> Measured:
        """Meter both encoders' latents."""
        subject = self.subject
        found = {"encoder": meters(subject.latents), "random weights": meters(subject.untrained)}
        numbers = {f"{name}/{key}": value for name, metered in found.items() for key, value in metered.items()}
        for key, said in (("spread", "spread"), ("effective_rank", "rank")):
            ratio = numbers[f"encoder/{key}"] / max(numbers[f"random weights/{key}"], 1e-12)
            numbers[f"{said} over random weights"] = ratio
        return Measured(numbers, {panel.title: {"run": subject.logged[panel.title]} for panel in self.panels})
