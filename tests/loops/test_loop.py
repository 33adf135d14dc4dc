"""The training loop on a fake agent and environment: order, cadence, logs, evaluation, and failures."""

import csv
import errno
import json
import math
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from rlrep.config.config import Length, LoggerConfig, TrainConfig, plan_length
from rlrep.contract.env import Step
from rlrep.loops.counters import crossed
from rlrep.loops.evaluation import FINAL, Evaluator
from rlrep.loops.loop import Loop, Outlets, Records
from rlrep.loops.meter import EpisodeMeter
from rlrep.loops.online import Online
from rlrep.loops.perf import Stopwatch
from rlrep.loops.playing import Parts
from rlrep.process.progress import Bar, Lines, clock
from rlrep.process.seeds import Seeds, load_random_state, random_state
from rlrep.process.signals import StopRequest, catch_signals
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.curve import Curve, read_points
from rlrep.record.logs import EVAL_COLUMNS, RunLog
from rlrep.record.sinks import Csv
from rlrep.record.video import Video
from rlrep.settings import Stopped, UserError
from tests.fakes import EPISODE, FakeAgent, FakeConfig, FakeEnvs

TRAIN = TrainConfig(
    agent_steps=40, init_steps=10, eval_every=24, eval_episodes=3, log_every=8, checkpoint_every=16, eval_envs=2
)


class Said:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, env_steps: int, updates: int, note: str) -> None:
        pass

    def close(self) -> None:
        pass


class Rig:
    """A loop over fakes in a folder."""

    def __init__(
        self,
        folder: Path,
        train: TrainConfig = TRAIN,
        *,
        overlap: bool = False,
        agent: FakeConfig | None = None,
        resumed: Any = None,
        deaths: tuple[int, ...] = (),
        stop: StopRequest | None = None,
        eval_envs: Callable[[], FakeEnvs] = FakeEnvs,
        video: Path | None = None,
        keep_replay: bool = False,
        references: Mapping[str, float] | None = None,
    ) -> None:
        self.calls: list[str] = []
        self.said, self.folder, self.stop = Said(), folder, stop or StopRequest()
        self.envs, self.agent = FakeEnvs(calls=self.calls, deaths=deaths), FakeAgent(self.calls, agent)
        self.length: Length = plan_length(train, num_envs=2, action_repeat=2)
        logger = LoggerConfig(tensorboard="false")
        self.log = RunLog(folder, logger, {}, step=0, say=self.said.say)
        self.log.begin(resumed)
        self.checkpoints = Checkpoints(folder / "checkpoints", say=self.said.say)
        evaluator = Evaluator(eval_envs, self.agent, Seeds(0), say=self.said.say, check_stop=self.stop.check)
        parts = Parts(
            envs=self.envs,
            agent=self.agent,
            evaluator=evaluator,
            curve=Curve(folder, "title", references or {}, self.said.say),
            check_every_update=True,
            video_path=lambda number, env_steps: video,
        )
        outlets = Outlets(folder, Records(self.log, self.checkpoints), self.said, lambda updates: self.stop.check())
        self.work = Online(parts, train, self.length, outlets, overlap=overlap)
        self.loop = Loop(self.work, train, rings=self.agent.rings, keep_replay=keep_replay)

    def run(self) -> "Rig":
        self.work.start([1, 2])
        self.loop.run()
        return self

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def evaluations(self) -> list[dict[str, str]]:
        with open(self.folder / "eval.csv", newline="") as file:
            return list(csv.DictReader(file))


def steps_of(calls: list[str]) -> list[list[str]]:
    """Cut the calls of training into vector steps, evaluations (which act one by one) left out."""
    steps: list[list[str]] = []
    for call in calls:
        if call == "random" or call.startswith("explore"):
            steps.append([])
        if steps and not call.startswith("act"):
            steps[-1].append(call)
    return steps


def test_without_overlap_a_step_acts_waits_observes_and_learns(tmp_path: Path) -> None:
    steps = steps_of(Rig(tmp_path).run().calls)
    assert steps[0] == ["random", "async", "wait", "observe"]
    assert steps[5] == ["explore after 0 on 2", "async", "wait", "observe", "update", "update"]
    assert steps[6][0] == "explore after 2 on 2"


def test_with_overlap_learning_happens_while_the_simulators_step_and_acting_sees_the_same_updates(
    tmp_path: Path,
) -> None:
    steps = steps_of(Rig(tmp_path, overlap=True).run().calls)
    assert steps[5] == ["explore after 0 on 2", "async", "update", "update", "wait", "observe"]
    assert steps[6][0] == "explore after 2 on 2"


def test_cadences_count_in_their_own_units(tmp_path: Path) -> None:
    rig = Rig(tmp_path).run()
    assert [row["agent_steps"] for row in rig.rows()] == [8, 16, 24, 32, 40]
    assert [row["env_steps"] for row in rig.rows()] == [16, 32, 48, 64, 80]
    assert [row["updates"] for row in rig.rows()] == [0, 6, 14, 22, 30]
    rows = rig.evaluations()
    assert tuple(rows[0]) == EVAL_COLUMNS
    assert [(row["env_steps"], row["kind"]) for row in rows[::3]] == [
        ("24", "periodic"),
        ("48", "periodic"),
        ("72", "periodic"),
        ("80", "final"),
    ]
    assert [row["episode"] for row in rows[:3]] == ["0", "1", "2"]
    assert {row["return"] for row in rows} == {str(float(EPISODE))} and {row["success"] for row in rows} == {"1.0"}


def test_a_fraction_of_an_update_per_step_is_spread_evenly(tmp_path: Path) -> None:
    train = TrainConfig(agent_steps=40, init_steps=0, updates_per_step=0.25, eval_every=0, log_every=4)
    assert [row["updates"] for row in Rig(tmp_path, train).run().rows()] == list(range(1, 11))


def test_metrics_are_flat_and_the_table_has_the_same_rows(tmp_path: Path) -> None:
    rig = Rig(tmp_path).run()
    for key in ("loss/fake", "wall_seconds", "perf/act_share", "perf/env_share", "perf/update_share", "perf/update_ms"):
        assert key in rig.rows()[-1]
    assert {"perf/updates_per_second", "perf/env_steps_per_second"} <= rig.rows()[-1].keys()
    with open(tmp_path / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["agent_steps"] for row in table] == ["8", "16", "24", "32", "40"]
    assert table[0]["train/episode_return"] == "" and table[1]["train/episode_return"] == "7.0"
    assert (tmp_path / "learning_curve.png").stat().st_size > 10_000


def test_the_curve_groups_episodes_by_step(tmp_path: Path) -> None:
    Rig(tmp_path).run()
    points = read_points(tmp_path / "eval.csv")
    assert points is not None
    assert points.steps.tolist() == [24, 48, 72, 80] and points.mean.tolist() == [EPISODE] * 4
    assert len(points.returns) == 12


def test_nan_stops_the_run_names_the_term_and_saves_the_batch(tmp_path: Path) -> None:
    rig = Rig(tmp_path, agent=FakeConfig(nan_at=9))
    with pytest.raises(UserError, match="update 9: loss/fake not finite; the batch is in") as error:
        rig.run()
    assert "\n" not in str(error.value)
    assert load_file(tmp_path / "nonfinite_batch.safetensors")["obs"].tolist() == [9.0, 9.0]
    assert rig.calls.count("update") == 9
    latest = rig.checkpoints.latest()
    assert latest is not None and latest.step == 16  # six updates in: from before


def test_parts_that_only_a_batch_shows_not_to_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def update(agent: Any) -> None:
        agent.updates += 1
        raise ValueError("queue_size=1 is below\nthe 8 keys of a batch: raise it")

    monkeypatch.setattr("tests.fakes.FakeAgent.update", update)
    with pytest.raises(UserError, match=r"^update 1: queue_size=1 is below the 8 keys of a batch: raise it$"):
        Rig(tmp_path).run()


def test_a_checkpoint_is_never_taken_of_a_run_gone_wrong(tmp_path: Path) -> None:
    rig = Rig(tmp_path, agent=FakeConfig(nan_at=0))
    with pytest.raises(UserError, match="not finite"):
        rig.run()
    assert rig.checkpoints.latest() is None


def test_a_simulator_that_cannot_go_on_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)

    def fail() -> None:
        raise RuntimeError("worker 0 died 5 times\nwithout a step")

    monkeypatch.setattr(rig.envs, "step_wait", fail)
    with pytest.raises(UserError, match=r"the environment failed: worker 0 died 5 times.*repeat the command") as error:
        rig.run()
    assert "\n" not in str(error.value)


def full_disk(*args: object, **options: object) -> str:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_saving_warns_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    rig.work.start([1, 2])
    save, failures = rig.checkpoints.save, []

    def sometimes(*args: Any, **options: Any) -> None:
        if options["step"] == 32:
            failures.append(1)
            full_disk()
        save(*args, **options)

    monkeypatch.setattr(rig.checkpoints, "save", sometimes)
    rig.loop.run()
    assert failures and rig.rows()[-1]["agent_steps"] == 40
    assert [line for line in rig.said.lines if "No space left on device" in line and "training goes on" in line]


def test_a_full_disk_at_the_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    monkeypatch.setattr(rig.checkpoints, "save", full_disk)
    with pytest.raises(UserError, match=r"No space left on device.*make room and repeat the command"):
        rig.run()


def test_one_failing_sink_warns_once_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Csv, "write", full_disk)
    rig = Rig(tmp_path).run()
    assert len(rig.rows()) == 5 and len(rig.evaluations()) == 12
    assert len([line for line in rig.said.lines if "metrics.csv" in line]) == 1


def test_a_lost_simulators_episode_is_not_counted(tmp_path: Path) -> None:
    rows = Rig(tmp_path, deaths=(3,)).run().rows()
    lengths = [row["train/episode_length"] for row in rows if "train/episode_length" in row]
    assert lengths and set(lengths) == {7.0}
    assert "train/episode_length" not in rows[1]  # the first whole episode ends with step 10


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "wall_seconds" and "perf/" not in k} for row in rows]


@pytest.mark.parametrize("updates_before", [1, 6, 11, 29])
def test_a_stopped_loop_continues_exactly(tmp_path: Path, updates_before: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    expected = Rig(whole).run()
    first = Rig(parts)
    update = first.agent.update

    def interrupted() -> None:
        update()
        if first.agent.updates == updates_before:
            first.stop.signal_number = signal.SIGTERM

    first.agent.update = interrupted  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        first.run()
    first.log.metrics({"agent_steps": 999, "env_steps": 999})  # a row that a killed run wrote after its checkpoint
    loaded = Checkpoints(parts / "checkpoints").load()
    assert loaded is not None
    second = Rig(parts, resumed=loaded[1]["logs"])
    second.checkpoints.restore_rings(loaded[0], second.agent.rings)
    second.loop.load_state(loaded[1])
    second.loop.run()
    assert timeless(second.rows()) == timeless(expected.rows())
    assert timeless(second.evaluations()) == timeless(expected.evaluations())
    assert second.agent.updates == expected.agent.updates
    walls = [row["wall_seconds"] for row in second.rows()]
    assert walls == sorted(walls)


def test_the_final_evaluation_is_told_beside_the_best_one(tmp_path: Path) -> None:
    fading = iter([3.0, 5.0, 4.0, 1.0])

    class Fading(FakeEnvs):
        def step_wait(self) -> Step:
            step = super().step_wait()
            return replace(step, reward=step.reward * np.float32(level[0] / EPISODE))

        def reset(self, seeds: list[int] | None = None) -> Any:
            level[:] = [next(fading)]
            return super().reset(seeds)

    level = [0.0]
    rig = Rig(
        tmp_path, replace(TRAIN, final_episodes=5), eval_envs=Fading, references={"random": 1.0, "human": 5.0}
    ).run()
    told = [line for line in rig.said.lines if "evaluation at" in line]
    assert [line.split(": ", 1)[1] for line in told] == [
        "return 3.0 (sd 0.0) over 3 episodes, human-normalised 0.500",
        "return 5.0 (sd 0.0) over 3 episodes, human-normalised 1.000",
        "return 4.0 (sd 0.0) over 3 episodes, human-normalised 0.750",
        "return 1.0 (sd 0.0) over 5 episodes, human-normalised 0.000 (best over training: 5.0 at 48 env steps)",
    ]
    assert [row["kind"] for row in rig.evaluations()] == ["periodic"] * 9 + ["final"] * 5


def test_a_signal_ends_an_evaluation_without_rows_and_it_is_made_up_for(tmp_path: Path) -> None:
    stop = StopRequest()

    class Interrupting(FakeEnvs):
        def step_wait(self) -> Step:
            stop.signal_number = signal.SIGINT
            return super().step_wait()

    rig = Rig(tmp_path, stop=stop, eval_envs=Interrupting)
    with pytest.raises(Stopped):
        rig.run()
    assert not (tmp_path / "eval.csv").exists()
    loaded = Checkpoints(tmp_path / "checkpoints").load()
    assert loaded is not None and loaded[1]["counters"]["evaluations"] == 0
    again = Rig(tmp_path, resumed=loaded[1]["logs"])
    again.loop.load_state(loaded[1])
    again.loop.run()
    assert [row["env_steps"] for row in again.evaluations()[::3]] == ["24", "48", "72", "80"]


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_the_first_evaluation_episode_is_filmed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "videos" / f"final.{suffix}"
    evaluator = Evaluator(FakeEnvs, FakeAgent([]), Seeds(0), say=pytest.fail)
    evaluator.run(FINAL, 3, video=path)
    assert path.stat().st_size > 500
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    if suffix == "mp4":
        from imageio_ffmpeg import count_frames_and_secs

        assert count_frames_and_secs(str(path))[0] == EPISODE


def test_a_failing_renderer_costs_the_video_only(tmp_path: Path) -> None:
    class Blind(FakeEnvs):
        def render(self, index: int) -> Any:
            raise RuntimeError("no GL\nhere")

    said: list[str] = []
    evaluator = Evaluator(Blind, FakeAgent([]), Seeds(0), say=said.append)
    assert len(evaluator.run(1, 3, video=tmp_path / "videos" / "x.mp4")) == 3
    assert said == ["warning: no video (no GL here)"]


def test_small_frames_are_enlarged_and_odd_sizes_fit(tmp_path: Path) -> None:
    video = Video(tmp_path / "x.mp4")
    for shade in range(3):
        video.add(np.full((17, 33, 3), shade, np.uint8))
    video.close()
    from imageio_ffmpeg import read_frames

    frames = read_frames(str(tmp_path / "x.mp4"))
    width, height = next(frames)["size"]
    frames.close()
    assert width % 2 == height % 2 == 0 and min(width, height) >= 256


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_the_first_signal_is_noted_and_ctrl_c_after_it_quits(number: signal.Signals) -> None:
    with catch_signals() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # a cluster says it more than once
        with pytest.raises(Stopped) as stopped:
            stop.check()
        assert stopped.value.exit_code == 128 + number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert Stopped(signal.SIGINT).exit_code == 130


def test_every_global_random_stream_comes_back() -> None:
    import random

    import torch

    Seeds(5).set_globals()
    state = random_state()

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = draw()
    load_random_state(state)
    assert draw() == first
    Seeds(5).set_globals()
    assert draw() == first


def test_a_column_that_appears_later_is_added_to_the_table(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    Csv(path).write({"a": 1})
    table = Csv(path)
    table.write({"a": 2, "b": 0.5})
    table.write({"b": math.nan, "a": 3})
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"a": "1", "b": ""}, {"a": "2", "b": "0.5"}, {"a": "3", "b": "nan"}]


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    log = RunLog(tmp_path, LoggerConfig(tensorboard="false"), {}, step=0, say=print)
    log.metrics({"env_steps": 1, "x": math.inf, "y": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"env_steps": 1, "x": None, "y": 0.5}


def test_an_optional_sink_that_is_asked_for_and_absent_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlrep.record.sinks.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'rlrep\[wandb\]'"):
        RunLog(tmp_path, LoggerConfig(wandb=True), {}, step=0, say=print)
    RunLog(tmp_path, LoggerConfig(), {}, step=0, say=print).close()


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    for resumed, steps in ((0, (10, 20, 30)), (20, (30, 40))):
        sizes = {"metrics.jsonl": 0, "eval.csv": 0} if resumed else None
        log = RunLog(tmp_path, LoggerConfig(), {}, step=resumed, say=print)
        log.begin(sizes)
        for step in steps:
            log.metrics({"env_steps": step, "loss/x": float(step + resumed)})
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/x")] == [(10, 10), (20, 20), (30, 50), (40, 60)]


def test_shares_add_up_and_pauses_do_not_count() -> None:
    import time

    watch = Stopwatch()
    with watch.section("update"):
        time.sleep(0.02)
    with watch.paused():
        time.sleep(0.2)
    with watch.section("env"):
        time.sleep(0.02)
    report = watch.report({"env_steps": 4})
    assert 0.3 < report["perf/update_share"] + report["perf/env_share"] <= 1.001
    assert report["perf/update_ms"] >= 20 and "perf/act_ms" not in report
    assert report["perf/env_steps_per_second"] > 20


def test_the_meter_reports_each_episode_once() -> None:
    meter, envs = EpisodeMeter(2), FakeEnvs()
    envs.reset([0, 1])
    for _ in range(EPISODE + 3):
        meter.add(envs.step_wait())
    state = meter.state()
    assert meter.metrics() == {"train/episode_return": 7.0, "train/episode_length": 7.0}
    assert meter.metrics() == {}
    again = EpisodeMeter(2)
    again.load_state(
        json.loads(json.dumps({k: v for k, v in state.items() if k not in ("returns", "lengths")})) | state
    )
    assert again.metrics() == {"train/episode_return": 7.0, "train/episode_length": 7.0}
    assert again.note == "return 7.0"


def test_where_there_are_scores_whole_games_are_metered() -> None:
    meter, never = EpisodeMeter(2, gives_score=True), np.zeros(2, bool)

    def step(*, lost_life: bool, score: float) -> Step:
        ended = np.array([lost_life or not math.isnan(score), False])
        scores = np.array([score, np.nan], np.float32)
        return Step(scores, scores, np.ones(2, np.float32), ended, never, never, scores, scores, scores)

    for _ in range(3):
        meter.add(step(lost_life=True, score=math.nan))
    assert meter.metrics() == {} and meter.note == ""
    meter.add(step(lost_life=False, score=250.0))
    assert meter.metrics() == {"train/episode_return": 250.0, "train/episode_length": 4.0}
    meter.add(step(lost_life=False, score=30.0))
    assert meter.metrics() == {"train/episode_return": 30.0, "train/episode_length": 1.0}


def test_plain_lines_say_where_the_run_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrep.process.progress._LINE_SECONDS", 0.0)
    lines = Lines(1000, 0)
    lines.update(250, 100, "return 3.0")
    out = capsys.readouterr().out
    assert out.startswith("250/1000 env steps  return 3.0") and "updates/s" in out and out.rstrip().endswith("left")
    assert clock(3725.4) == "1:02:05"
    lines.update(1100, 400, "")
    assert capsys.readouterr().out.rstrip().endswith("0:00:00 left")


def test_the_bar_shows_return_rate_and_lines_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(100, 0)
    bar.update(40, 10, "return 3.0")
    bar.say("an [evaluation]")
    bar.close()
    out = capsys.readouterr().out
    assert "40/100" in out and "return 3.0" in out and "updates/s" in out and "an [evaluation]" in out


def test_multiples_are_crossed_whatever_the_stride() -> None:
    assert [n for n in range(3, 31, 3) if crossed(n - 3, n, 10)] == [12, 21, 30]
    assert not crossed(0, 100, 0)
