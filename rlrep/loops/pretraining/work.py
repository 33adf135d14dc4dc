"""Pretraining: one update after another, with probes of the encoder now and then."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlrep.config.pretrain_config import PretrainSettings
from rlrep.contract.env import Tree
from rlrep.nn import EncoderConfig, save_encoder
from rlrep.settings import UserError, one_line
from rlrep.ssl import Learner
from rlrep.ssl.classification import classifier_scores
from rlrep.ssl.evaluation import (
    SD,
    ProbeConfig,
    ProbeData,
    Score,
    alignment,
    collapse_meters,
    encode,
    pixel_features,
    score_features,
    summarise,
)

from ..evaluation import Evaluation
from ..loop import Outlets, Work
from .picture import Picture

COLUMNS = (
    "updates",
    "epoch",
    "images",
    "wall_seconds",
    "features",
    "variable",
    "probe",
    "metric",
    "value",
    "draw",
    "kind",
)


FIRST = 1
"""Number of the evaluation of the untrained encoder."""


@dataclass(frozen=True)
class Parts:
    """What pretraining works with. command: made the encoder file."""

    learner: Learner
    encoder: EncoderConfig
    data: ProbeData
    probe: ProbeConfig
    picture: Picture
    command: str


class Pretraining(Work):
    """A run of an image method. Evaluations are evenly spaced, the first before any update.

    total: steps of the run, None = the learner's updates.
    """

    lr = "optimiser.lr"

    def __init__(self, parts: Parts, train: PretrainSettings, outlets: Outlets, *, total: int | None = None) -> None:
        total = parts.learner.length.updates if total is None else total
        super().__init__(parts.learner, total, outlets)
        self.parts, self.learner = parts, parts.learner
        self._marks = {round(i * total / train.evaluations) for i in range(train.evaluations)}
        self._note = ""

    @property
    def progress(self) -> int:
        return self.updates

    @property
    def where(self) -> str:
        return f"update {self.learner.updates}"

    @property
    def note(self) -> str:
        return self._note

    def step(self) -> bool:
        learner = self.learner
        try:
            with self.watch.section("update"):
                learner.update()
        except ValueError as error:  # parts that only a batch shows not to fit
            raise UserError(f"update {learner.updates + 1}: {one_line(error)}") from error
        self.counters.agent_steps = learner.updates
        if learner.device.type == "cpu":
            self.check_finite()
        return False

    def position(self) -> dict[str, float]:
        return {
            "updates": self.learner.updates,
            "epoch": round(self.learner.epoch, 4),
            "images": self.learner.updates * self.learner.length.batch_size,
            "wall_seconds": round(self.counters.elapsed_seconds(), 3),
        }

    def metrics(self) -> dict[str, float]:
        perf = self.watch.report({"updates": 1, "images": self.learner.length.batch_size})
        return {**self.learner.metrics(), **perf}

    def due(self) -> int:
        return sum(mark <= self.updates for mark in self._marks)

    def kind(self, number: int) -> str:
        return "initial" if number == FIRST else super().kind(number)

    def evaluate(self, number: int) -> Evaluation:
        """Probe the encoder; before the first update, also what it is compared with."""
        parts, method, view = self.parts, self.learner.method, self.learner.views[0]
        data, config = parts.data, parts.probe
        train_x, test_x = (encode(method.encoder, split.images, view) for split in (data.train, data.test))
        own = score_features("encoder", train_x, test_x, data, config)
        classified = self._classified()
        scores = [*(self._references(own) if number == FIRST else ()), *own, *classified]
        meters = collapse_meters({"latent": test_x, "embedding": encode(method.online, data.test.images, view)})
        networks = {"latent": method.encoder, "embedding": method.online}
        summary = {**summarise(scores), **meters, **alignment(networks, data.test.images, self.learner.views, seed=0)}
        self._test_features = test_x
        self._note = shown(summarise([*own, *classified]))
        return Evaluation(
            [score._asdict() for score in scores], {}, len(scores), summary, self._note or "nothing to probe"
        )

    def evaluated(self, number: int) -> None:
        """Redraw the picture, and save the encoder as it is now, unless the disk is full: the run's end must save it,
        this need not."""
        self.parts.picture.refresh(self._test_features, self.parts.data.test)
        try:
            self.save_beside()
        except OSError as error:
            self.outlets.reporter.say(f"warning: encoder not saved ({error.strerror or error}), training goes on")

    def _classified(self) -> list[Score]:
        """Score what the method itself says of the classes, where it is a classifier."""
        learner, parts = self.learner, self.parts
        if learner.label is None:
            return []
        return classifier_scores(
            learner.method, learner.data, parts.data.test, learner.label, learner.views[0], parts.probe
        )

    def _references(self, untrained: Sequence[Score]) -> list[Score]:
        """Score what a trained encoder is compared with: itself before training, and the pixels."""
        data, config = self.parts.data, self.parts.probe
        train_x, test_x = (pixel_features(split.images, config.pixels) for split in (data.train, data.test))
        pixels = score_features("pixels", train_x, test_x, data, config)
        return [*(score._replace(features="random") for score in untrained), *pixels]

    def save_beside(self) -> None:
        learner, parts = self.learner, self.parts
        save_encoder(
            self.outlets.folder, learner.method.encoder, parts.encoder, learner.image_shape, command=parts.command
        )

    def shape(self) -> Tree:
        return {"learner": self.learner.state()}

    def load_state(self, state: Tree) -> None:
        self.learner.load_state(state["learner"])


def shown(summary: dict[str, float]) -> str:
    """Name the scores in a line: `knn 0.95  linear 0.97  linear_1_per_class 0.73 (sd 0.05)`."""
    return "  ".join(
        f"{key.rsplit('/', 1)[1].removesuffix('_accuracy')} {value:.3f}"
        + (f" (sd {summary[key + SD]:.3f})" if key + SD in summary else "")
        for key, value in summary.items()
        if not key.endswith(SD)
    )
