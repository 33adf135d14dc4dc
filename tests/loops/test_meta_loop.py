"""The meta-training loop on a fake agent and family: what follows what, how many updates are owed, exact resume."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlrep.config.config import LoggerConfig, TrainConfig, plan_length
from rlrep.contract.meta import Job, Stage
from rlrep.loops.loop import Loop, Outlets, Records
from rlrep.loops.meta.evaluation import MetaEvaluator
from rlrep.loops.meta.picture import Pictures
from rlrep.loops.meta.work import Meta
from rlrep.loops.playing import Parts
from rlrep.process.seeds import Seeds
from rlrep.process.signals import StopRequest
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.curve import Curve, read_points
from rlrep.record.logs import META_COLUMNS, RunLog
from rlrep.settings import Stopped

from .meta_fakes import TASKS, MetaFake, TaskEnvs
from .test_loop import Said, timeless

TRAIN = TrainConfig(
    agent_steps=70,
    init_steps=4,
    updates_per_step=0.3,
    eval_every=25,
    eval_episodes=1,
    log_every=10,
    checkpoint_every=20,
    adaptation_episodes=2,
)
FIRST = [Job(task, (Stage(4, informed=False, context=True),)) for task in range(4)]  # 6 + 4 + 5 + 6 agent steps
LATER = [
    Job(1, (Stage(5, informed=False, context=True), Stage(3, informed=True, context=False))),  # 8 + 4
    Job(3, (Stage(2, informed=False, context=True),)),  # 6
]
INITIAL, STEPS, UPDATES = 21, 18, 5  # of iteration 0, and of each other one: round(0.3 * 18)


class Rig:
    """A loop over fakes in a folder."""

    def __init__(self, folder: Path, train: TrainConfig = TRAIN, *, resumed: Any = None, drawn: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.said, self.folder, self.stop = Said(), folder, StopRequest()
        self.envs, self.agent = TaskEnvs(), MetaFake({0: FIRST, -1: LATER})
        log = RunLog(
            folder,
            LoggerConfig(tensorboard="false"),
            {},
            step=0,
            columns=META_COLUMNS,
            say=self.said.say,
        )
        log.begin(resumed)
        self.checkpoints = Checkpoints(folder / "checkpoints", say=self.said.say)
        self.evaluator = MetaEvaluator(
            lambda: TaskEnvs(3),
            self.agent,
            TASKS[1:],
            train,
            Seeds(0),
            pictures=Pictures(folder, "title", self.said.say) if drawn else None,
            say=self.said.say,
            check_stop=self.stop.check,
        )
        parts = Parts(
            envs=self.envs,
            agent=self.agent,
            evaluator=self.evaluator,
            curve=Curve(folder, "title", {}, self.said.say),
            check_every_update=True,
            video_path=lambda number, env_steps: None,
        )
        length = plan_length(train, num_envs=2, action_repeat=1)
        outlets = Outlets(folder, Records(log, self.checkpoints), self.said, lambda updates: self.stop.check())
        self.work = Meta(parts, train, length, outlets, tasks=TASKS, seed=1)
        self.loop = Loop(self.work, train, rings=self.agent.rings)

    def run(self) -> "Rig":
        self.work.start([1, 2])
        self.loop.run()
        return self

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def evaluations(self) -> list[dict[str, str]]:
        with open(self.folder / "eval.csv", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A run from beginning to end."""
    return Rig(tmp_path_factory.mktemp("runs") / "whole", drawn=True).run()


def order(agent: MetaFake) -> list[str]:
    """Return what happened in training, runs of the same thing as one."""
    names = [call if isinstance(call, str) else call[0] for call in agent.calls]
    kept = [name for name in names if name in ("plan", "observe", "update")]
    return [name for k, name in enumerate(kept) if k == 0 or name != kept[k - 1]]


def test_an_iteration_plans_collects_and_then_learns_and_the_first_only_collects(whole: Rig) -> None:
    assert order(whole.agent) == ["plan", "observe", *["plan", "observe", "update"] * 3]
    assert [call for call in whole.agent.calls if call[0] == "plan"] == [("plan", k, 4) for k in range(4)]


def test_updates_are_owed_for_what_the_iteration_collected(whole: Rig) -> None:
    assert whole.agent.updates == 3 * UPDATES
    assert whole.work.counters.agent_steps == INITIAL + 3 * STEPS == 75, "the last iteration is finished"
    trained = [len(episode) for _, episode, _ in whole.agent.seen]
    assert sum(trained) == INITIAL + 3 * STEPS


def test_a_task_without_a_context_is_told_and_costs_the_updates(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "x")
    rig.agent.is_ready = False
    rig.run()
    told = [line for line in rig.said.lines if "no updates in iteration" in line]
    assert (
        rig.agent.updates == 0 and len(told) == 3 and "iteration 1: the replay holds episodes of fewer tasks" in told[0]
    )


def test_a_head_without_windows_is_told_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "x")
    metrics = rig.agent.metrics
    rig.agent.metrics = lambda: {**metrics(), "aux/ccm/valid": 0.5, "aux/focal/valid": 0.0}  # type: ignore[method-assign]
    rig.run()
    told = [line for line in rig.said.lines if "nothing to learn from" in line]
    assert len(told) == 1 and "aux.focal" in told[0]


def test_logs_and_evaluations_come_in_their_cadences(whole: Rig) -> None:
    plain = [row for row in whole.rows() if "loss/fake" in row]
    ends = [(INITIAL + k * STEPS, k * UPDATES) for k in (1, 2, 3)]
    told = [(row["agent_steps"], row["updates"]) for row in plain]
    assert set(ends) <= set(told) and told[-1] == ends[-1], "a row after each iteration's updates"
    assert [steps // 10 for steps, updates in told if (steps, updates) not in ends] == list(range(1, 8))
    assert all(row["train/episode_length"] >= 3 for row in plain if "train/episode_length" in row)
    rows = whole.evaluations()
    assert tuple(rows[0]) == META_COLUMNS
    per = 3 * 3  # three tasks, two episodes of adaptation and one of the test
    assert [row["kind"] for row in rows] == ["periodic"] * 2 * per + ["final"] * per
    assert [int(row["env_steps"]) // 25 for row in rows[::per]] == [1, 2, 3]
    health = [row for row in whole.rows() if "context/task_accuracy" in row]
    assert len(health) == 3 and health[-1]["context/task_accuracy"] == 1.0
    for name in ("adaptation.png", "latents.png", "learning_curve.png"):
        assert (whole.folder / name).stat().st_size > 10_000


def test_the_learning_curve_shows_the_last_adaptation_only(whole: Rig) -> None:
    points = read_points(whole.folder / "eval.csv")
    rows = [row for row in whole.evaluations() if row["adaptation"] == "2"]
    assert points is not None and len(points.returns) == 9
    assert points.returns.tolist() == [float(row["return"]) for row in rows]
    assert points.returns.min() > 5, "the latent tells how many episodes are known, and is the action"


@pytest.mark.parametrize("place", ["start", "first collection", "collection", "updates", "last updates"])
def test_a_stopped_loop_continues_exactly(tmp_path: Path, place: str, whole: Rig) -> None:
    first = Rig(tmp_path / "parts")
    counts = {"start": (1, 0), "first collection": (7, 0), "collection": (15, 0), "updates": (0, 7)}
    steps, updates = counts.get(place, (0, 3 * UPDATES - 1))
    step, update = first.envs.step_wait, first.agent.update

    def stop(now: bool) -> None:
        if now:
            first.stop.signal_number = signal.SIGTERM

    def stepped() -> Any:
        stop(first.envs._total + 1 == steps)
        return step()

    def updated() -> None:
        update()
        stop(first.agent.updates == updates)

    first.envs.step_wait, first.agent.update = stepped, updated  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        first.run()
    loaded = Checkpoints(tmp_path / "parts" / "checkpoints").load()
    assert loaded is not None
    second = Rig(tmp_path / "parts", resumed=loaded[1]["logs"])
    second.loop.load_state(loaded[1])
    second.loop.run()
    assert timeless(second.rows()) == timeless(whole.rows())
    assert timeless(second.evaluations()) == timeless(whole.evaluations())
    assert second.agent.updates == whole.agent.updates
    parts = first.agent.seen + second.agent.seen
    assert [(t, len(e), c) for t, e, c in parts] == [(t, len(e), c) for t, e, c in whole.agent.seen]


def test_no_adaptation_at_all_is_one_row_a_task(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "x", replace(TRAIN, adaptation_episodes=0, eval_every=0)).run()
    assert [row["adaptation"] for row in rig.evaluations()] == ["0"] * 3
    assert all(known == [] for _, known in rig.agent.known)
