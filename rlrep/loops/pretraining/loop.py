"""The pretraining loop: update, log, evaluate, save, in a fixed order."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlrep.config.pretrain_config import PretrainSettings
from rlrep.contract.env import Tree
from rlrep.nn import EncoderConfig, save_encoder
from rlrep.process.progress import Reporter
from rlrep.process.seeds import load_random_state, random_state
from rlrep.process.signals import StopRequest
from rlrep.record.checkpoint import Checkpoints, check_state
from rlrep.record.logs import RunLog
from rlrep.settings import Stopped, UserError, one_line
from rlrep.ssl import Learner
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

from ..counters import Counters, crossed
from .distributed import check_stop, wait_for_all
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


@dataclass(frozen=True)
class Records:
    """What the first process writes into the run's folder; command: made the encoder file."""

    folder: Path
    log: RunLog
    checkpoints: Checkpoints
    picture: Picture
    command: str


@dataclass(frozen=True)
class Parts:
    """What a loop works with. records: None in all processes but the first."""

    learner: Learner
    encoder: EncoderConfig
    data: ProbeData
    probe: ProbeConfig
    reporter: Reporter
    stop: StopRequest
    records: Records | None


class PretrainLoop:
    """One run from its first (or resumed) update to its final evaluation."""

    def __init__(self, parts: Parts, train: PretrainSettings) -> None:
        self.parts, self.train, self.learner = parts, train, parts.learner
        self.counters = Counters()
        total = self.learner.length.updates
        self._marks = [round(i * total / train.evaluations) for i in range(train.evaluations + 1)]
        self._clock = (time.perf_counter(), 0)
        self._note = ""

    def run(self) -> None:
        """Train to the end. Raises Stopped after saving if a signal came, UserError on a loss that is not finite."""
        self._clock = (time.perf_counter(), self.learner.updates)
        try:
            while True:
                self._evaluate_if_due()
                if self.learner.updates >= self.learner.length.updates:
                    break
                self._step()
                check_stop(self.parts.stop, self.learner.updates, self.learner.device)
        except Stopped:
            self._save(must=True)
            raise
        self._save(must=True, finished=True)

    def state(self, records: Records) -> Tree:
        """Return everything a resumed run needs."""
        return {
            "counters": self.counters.state(),
            "logs": records.log.state(),
            "random": random_state(),
            "learner": self.learner.state(),
        }

    def check_state(self, state: Tree, step: int) -> None:
        """Raise ValueError, saying why, if this is no state of this run after `step` updates. Changes nothing."""
        own = {"counters": self.counters.state(), "random": random_state(), "learner": self.learner.state()}
        check_state(own, state, step)

    def load_state(self, state: Tree) -> None:
        """Continue from a checkpoint."""
        self.counters.load_state(state["counters"])
        self.learner.load_state(state["learner"])
        load_random_state(state["random"])

    def _step(self) -> None:
        learner = self.learner
        try:
            learner.update()
        except ValueError as error:  # parts that only a batch shows not to fit
            raise UserError(f"update {learner.updates + 1}: {one_line(error)}") from error
        self.counters.agent_steps = learner.updates
        if learner.device.type == "cpu":
            self._check_finite()
        self.parts.reporter.update(learner.updates, learner.updates, self._note)
        if crossed(learner.updates - 1, learner.updates, self.train.log_every):
            self._check_finite()
            self._log({**learner.metrics(), **self._perf()})
        if crossed(learner.updates - 1, learner.updates, self.train.checkpoint_every):
            self._save()

    def _log(self, metrics: dict[str, float]) -> None:
        if self.parts.records:
            self.parts.records.log.metrics({**self._position(), **metrics})

    def _perf(self) -> dict[str, float]:
        start, first = self._clock
        self._clock = (time.perf_counter(), self.learner.updates)
        rate = (self.learner.updates - first) / max(1e-9, self._clock[0] - start)
        return {"perf/updates_per_second": rate, "perf/images_per_second": rate * self.learner.length.batch_size}

    def _check_finite(self) -> None:
        terms = self.learner.nonfinite()
        if terms:
            raise UserError(
                f"update {self.learner.updates}: {', '.join(terms)} not finite; the last checkpoint before it is kept: "
                f"try a lower optimiser.lr"
            )

    def _evaluate_if_due(self) -> None:
        number = self.counters.evaluations
        if number < len(self._marks) and self.learner.updates >= self._marks[number]:
            kind = "initial" if number == 0 else "final" if number == len(self._marks) - 1 else "periodic"
            if self.parts.records:
                self._paused(lambda: self._evaluate(kind, self.parts.records))
            wait_for_all()
            self.counters.evaluations += 1

    def _evaluate(self, kind: str, records: Records | None) -> None:
        assert records is not None
        data, config, method = self.parts.data, self.parts.probe, self.learner.method
        view = self.learner.views[0]
        train_x, test_x = (encode(method.encoder, split.images, view) for split in (data.train, data.test))
        own = score_features("encoder", train_x, test_x, data, config)
        scores = [*self._references(own), *own] if kind == "initial" else own
        meters = collapse_meters({"latent": test_x, "embedding": encode(method.online, data.test.images, view)})
        networks = {"latent": method.encoder, "embedding": method.online}
        summary = {**summarise(scores), **meters, **alignment(networks, data.test.images, self.learner.views, seed=0)}
        position = self._position()
        records.log.table([{**position, **score._asdict(), "kind": kind} for score in scores])
        records.log.metrics({**position, **summary})
        records.picture.refresh(test_x, data.test)
        self._try_to_save_encoder(records)
        self._note = _shown(summarise([score for score in scores if score.features == "encoder"]))
        self.parts.reporter.say(
            f"{kind} evaluation at epoch {self.learner.epoch:.4g}: {self._note or 'nothing to probe'}"
        )

    def _references(self, untrained: Sequence[Score]) -> list[Score]:
        """Score what a trained encoder is compared with: itself before training, and the pixels."""
        data, config = self.parts.data, self.parts.probe
        train_x, test_x = (pixel_features(split.images, config.pixels) for split in (data.train, data.test))
        pixels = score_features("pixels", train_x, test_x, data, config)
        return [*(score._replace(features="random") for score in untrained), *pixels]

    def _save_encoder(self, records: Records) -> None:
        learner, config = self.learner, self.parts.encoder
        save_encoder(records.folder, learner.method.encoder, config, learner.image_shape, command=records.command)

    def _try_to_save_encoder(self, records: Records) -> None:
        """Save the encoder as it is now, unless the disk is full: the run's end must save it, this need not."""
        try:
            self._save_encoder(records)
        except OSError as error:
            self.parts.reporter.say(f"warning: encoder not saved ({error.strerror or error}), training goes on")

    def _save(self, *, must: bool = False, finished: bool = False) -> None:
        """Save a checkpoint. A full disk is survived if training goes on."""
        records = self.parts.records
        if records is None:
            return
        self._check_finite()
        try:
            self._save_encoder(records)
            state = self.state(records)
            self._paused(lambda: records.checkpoints.save(state, {}, step=self.learner.updates, finished=finished))
        except OSError as error:
            line = (
                f"no checkpoint at update {self.learner.updates} ({error.strerror or error}): "
                f"the one before it is intact"
            )
            if must:
                raise UserError(f"{line}; make room and repeat the command") from error
            self.parts.reporter.say(f"warning: {line}, training goes on")

    def _paused(self, action: Callable[[], None]) -> None:
        """Do what does not count into the speed of training."""
        start = time.perf_counter()
        action()
        self._clock = (self._clock[0] + time.perf_counter() - start, self._clock[1])

    def _position(self) -> dict[str, float]:
        updates = self.learner.updates
        return {
            "updates": updates,
            "epoch": round(self.learner.epoch, 4),
            "images": updates * self.learner.length.batch_size,
            "wall_seconds": round(self.counters.elapsed_seconds(), 3),
        }


def _shown(summary: dict[str, float]) -> str:
    """Name the scores in a line: `knn 0.95  linear 0.97  linear_1_per_class 0.73 (sd 0.05)`."""
    return "  ".join(
        f"{key.rsplit('/', 1)[1].removesuffix('_accuracy')} {value:.3f}"
        + (f" (sd {summary[key + SD]:.3f})" if key + SD in summary else "")
        for key, value in summary.items()
        if not key.endswith(SD)
    )
