"""What every run on environments does alike, whether it learns one task or a family of them."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from safetensors.torch import save

from rlrep.config.config import Length, TrainConfig
from rlrep.contract.agent import Trainee
from rlrep.contract.env import Array, Tree, VectorEnv
from rlrep.record.curve import Curve
from rlrep.record.files import replace_file
from rlrep.settings import UserError, one_line

from .evaluation import FINAL, Evaluates, Evaluation
from .loop import Outlets, Work
from .meter import EpisodeMeter

A = TypeVar("A", bound=Trainee, covariant=True)


@dataclass(frozen=True)
class Parts(Generic[A]):
    """What a run on environments works with.

    check_every_update: look for NaN after each update, not only when logging (a GPU would wait each time).
    video_path: from (evaluation, env_steps) to a file; None = not filmed.
    """

    envs: VectorEnv
    agent: A
    evaluator: Evaluates
    curve: Curve
    check_every_update: bool
    video_path: Callable[[int, int], Path | None]


class Playing(Work, Generic[A]):
    """A run on environments. A subclass says what one step is."""

    lr = "agent.lr"

    def __init__(self, parts: Parts[A], train: TrainConfig, length: Length, outlets: Outlets) -> None:
        super().__init__(parts.agent, length.agent_steps, outlets)
        self.parts, self.train, self.length = parts, train, length
        self._meter = EpisodeMeter(length.num_envs, gives_score=parts.envs.gives_score)
        self._idle: set[str] = set()  # heads that were warned of

    @abstractmethod
    def start(self, env_seeds: list[int]) -> None:
        """Begin a fresh run."""

    @property
    def progress(self) -> int:
        return self.counters.agent_steps * self.length.action_repeat

    @property
    def where(self) -> str:
        return f"{self.progress} env steps"

    @property
    def note(self) -> str:
        return self._meter.note

    def position(self) -> dict[str, float]:
        return {
            "agent_steps": self.counters.agent_steps,
            "env_steps": self.progress,
            "updates": self.updates,
            "wall_seconds": round(self.counters.elapsed_seconds(), 3),
        }

    def metrics(self) -> dict[str, float]:
        perf = self.watch.report({"updates": 1, "env_steps": self.length.num_envs * self.length.action_repeat})
        learnt = self.parts.agent.metrics()
        self._warn_of_idle_heads(learnt)
        return {**self._meter.metrics(), **learnt, **perf}

    def due(self) -> int:
        return self.progress // self.train.eval_every if self.train.eval_every else 0

    def evaluate(self, number: int) -> Evaluation:
        """Play; beside the final result, never in its place, the best periodic one's is told."""
        curve, final = self.parts.curve, number == FINAL
        episodes = (self.train.final_episodes if final else None) or self.train.eval_episodes
        video = self.parts.video_path(number, self.progress)
        found = self.parts.evaluator.evaluate(number, episodes, references=curve.references, video=video)
        best = curve.best() if final else None
        if best:
            summary = {**found.summary, "eval/best_return_mean": max(best[1], found.summary["eval/return_mean"])}
            found = replace(found, summary=summary)
        return replace(found, told=_told(found, best))

    def evaluated(self, number: int) -> None:
        self.parts.curve.refresh(force=number == FINAL)

    def shape(self) -> Tree:
        return {"meter": self._meter.state(), "agent": self.parts.agent.state()}

    def state(self) -> Tree:
        return {**self.shape(), "envs": self.parts.envs.state()}

    def check(self, state: Tree) -> None:
        """Raise ValueError if the environments of a state are not as many as ours."""
        envs = state.get("envs")
        if not isinstance(envs, list) or len(envs) != self.length.num_envs:
            raise ValueError(f"state.envs is not of {self.length.num_envs} environments")

    def load_state(self, state: Tree) -> None:
        self._meter.load_state(state["meter"])
        self.parts.agent.load_state(state["agent"])
        self._go_on(self.parts.envs.load_state(state["envs"]), state)

    @abstractmethod
    def _go_on(self, obs: Array, state: Tree) -> None:
        """Continue with what the restored environments show."""

    def _update(self) -> None:
        agent = self.parts.agent
        try:
            with self.watch.section("update"):
                agent.update()
        except ValueError as error:  # parts that only a batch shows not to fit
            raise UserError(f"update {agent.updates}: {one_line(error)}") from error
        self.check_update()

    def check_update(self) -> None:
        """Look at what came of an update, where that is cheap. Raises UserError on a loss that is not finite."""
        if self.parts.check_every_update:
            self.check_finite()

    def _keep_batch(self) -> str:
        path = self.outlets.folder / "nonfinite_batch.safetensors"
        batch = {name: tensor.cpu().contiguous() for name, tensor in self.parts.agent.last_batch().items()}
        replace_file(path, save(batch))
        return f"the batch is in {path}, "

    def _warn_of_idle_heads(self, metrics: Mapping[str, float]) -> None:
        """Say once of each head that found no valid sample: its loss is zero, and the run one without it."""
        idle = {key.split("/")[1] for key, value in metrics.items() if key.endswith("/valid") and value == 0}
        for name in sorted(idle - self._idle):
            self.outlets.reporter.say(
                f"warning: aux.{name} had nothing to learn from since the last log: episodes are too short for its "
                f"windows (aux.{name}.window); it learns as soon as there are longer ones"
            )
        self._idle |= idle


def _told(found: Evaluation, best: tuple[float, float] | None) -> str:
    summary = found.summary
    mean, deviation = summary["eval/return_mean"], summary["eval/return_std"]
    line = f"return {mean:.1f} (sd {deviation:.1f}) over {found.episodes} episodes"
    if "eval/human_normalised" in summary:
        line += f", human-normalised {summary['eval/human_normalised']:.3f}"
    if best and best[1] > mean:
        line += f" (best over training: {best[1]:.1f} at {best[0]:.0f} env steps)"
    return line
