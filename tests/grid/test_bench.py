"""`python -m rlrep.bench`: which runs a suite is, how they stand, a grid that is killed, stopped and taken up again."""

import fcntl
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from rlrep.commands.bench import main
from rlrep.commands.train import main as train
from rlrep.envs.metaworld.tasks import HIDDEN_GOALS
from rlrep.grid.plan import Plan, Run, is_finished, make_plan, standing
from rlrep.grid.speed import SpeedConfig, scripts
from rlrep.grid.state import Board
from rlrep.grid.suite import load_suite, name_tasks, read_request
from rlrep.grid.table import Table, draw, make_view
from rlrep.launch.base import Job
from rlrep.launch.scheduler import Entry
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.folder import is_locked, lock_folder, write_config
from rlrep.settings import ConfigError, groups
from tests.launch.test_launchers import children, wait_for
from tests.runs import ROOT, TINY

TOY = ("suite=toy", "tasks=toy_state")
FINAL = "agent_steps,env_steps,updates,wall_seconds,episode,return,length,success,kind\n60,60,1,1,0,1,20,,{kind}\n"


def plan_of(*words: str) -> Plan:
    """Plan a grid."""
    return make_plan(read_request(words, ()), ())


def arms_of(plan: Plan) -> list[tuple[str, str]]:
    """Return augment and aux of every run, in order."""
    return [(run.tree["choices"]["augment"], run.tree["choices"]["aux"]) for run in plan.runs]


def leave(run: Run, *, kind: str) -> Path:
    """Write what a run leaves that got to evaluations of a kind."""
    folder = Path(run.out)
    folder.mkdir(parents=True)
    write_config(folder, run.tree)
    (folder / "eval.csv").write_text(FINAL.format(kind=kind))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_is_tasks_agents_arms_and_seeds_with_the_augmentation_only_arm() -> None:
    plan = plan_of("suite=toy", "aux=none,curl", "seeds=2", "agent.lr=1e-3")
    arms = [
        ("none", "none"), ("amplitude_scale", "none"), ("none", "curl"),
        ("none", "none"), ("random_shift", "none"), ("none", "curl"),
    ]  # fmt: skip
    assert arms_of(plan) == 2 * arms
    assert [run.seed for run in plan.runs] == [0] * 6 + [1] * 6
    assert len({run.out for run in plan.runs}) == 12
    assert {run.arm for run in plan.runs} == {"base", "augmentation only", "curl"}
    assert all(run.tree["agent"]["lr"] == 1e-3 for run in plan.runs)


@pytest.mark.parametrize(
    ("words", "arms"),
    [
        (("aux=none",), [("none", "none"), ("amplitude_scale", "none")]),
        (("aux=return_contrast",), [("amplitude_scale", "none"), ("none", "return_contrast")]),
        (
            ("aux=[curl,return_contrast]", "augment=amplitude_scale"),
            [("amplitude_scale", "none"), ("amplitude_scale", "curl+return_contrast")],
        ),
        (("aux=curl", "aux.curl.view=none"), [("none", "none"), ("none", "curl")]),
    ],
)
def test_the_augmentation_is_the_heads_own(words: tuple[str, ...], arms: list[tuple[str, str]]) -> None:
    assert arms_of(plan_of(*TOY, "seeds=1", *words)) == arms


def test_frames_are_augmented_as_their_environment_says() -> None:
    assert arms_of(plan_of("suite=dmc100k", "tasks=dmc_cartpole", "seeds=1", "aux=none,curl")) == [
        ("none", "none"),
        ("random_crop", "none"),
        ("random_crop", "curl"),
    ]
    assert arms_of(plan_of("suite=atari100k", "tasks=atari_pong", "seeds=1", "aux=none,curl"))[1] == (
        "crop_pad_crop",
        "none",
    )


def test_sweeps_are_further_arms_and_options_of_a_head_are_its_arms_only() -> None:
    plan = plan_of(*TOY, "aux=none,curl", "seeds=1", "aux.curl.weight=0.5", "agent.lr=1e-3,1e-4")
    assert len(plan.runs) == 6 and len({run.arm for run in plan.runs}) == 6
    assert {run.tree["aux"].get("curl", {}).get("weight") for run in plan.runs} == {None, 0.5}


def test_a_multirun_reaches_the_same_folders(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preset=debug", "root=elsewhere", "seed=0,1", "train.agent_steps=60"]
    assert train(["-m", "--cfg", "env=toy_state", "aux=none,curl", *words]) == 0
    assert train(["-m", "--cfg", "env=toy_state", "aux=none", "augment=amplitude_scale", *words]) == 0
    grid = plan_of(*TOY, "aux=none,curl", "seeds=2", "out=elsewhere", "train.agent_steps=60")
    assert sorted(capsys.readouterr().out.split()) == sorted(run.out for run in grid.runs)


def test_seeds_are_a_number_or_a_list() -> None:
    assert read_request((*TOY, "seeds=3"), ()).seeds == (0, 1, 2)
    assert read_request((*TOY, "seeds=[4,1]"), ()).seeds == (4, 1)
    assert read_request((*TOY, "seeds=4,1"), ()).seeds == (4, 1)
    assert read_request((*TOY, "seeds=range(0,3)"), ()).seeds == (0, 1, 2)
    assert read_request((*TOY, "seeds=range(1)"), ()).seeds == (0,)


def test_a_folder_is_read_as_rlrep_train_reads_it() -> None:
    plan = plan_of(*TOY, "seeds=1", "aux=none", "out=a b/x=1, é")
    assert plan.request.root == "a b/x=1, é" and plan.settings.root == "a b/x=1, é"
    assert {Path(run.out).parts[:2] for run in plan.runs} == {("a b", "x=1, é")}
    assert plan_of(*TOY, "seeds=1", "aux=none", "out=5").runs[0].out.startswith("5/")


def test_a_length_replaces_the_suites_in_either_unit() -> None:
    assert read_request(("suite=dmc100k",), ()).words == ("train.env_steps=100000",)
    assert read_request(("suite=dmc100k", "train.agent_steps=7"), ()).words == ("train.agent_steps=7",)
    assert read_request(("suite=dmc500k",), ()).words == ("train.env_steps=500000",)


@pytest.mark.parametrize("name", groups.names("suite"))
def test_every_suite_composes(name: str) -> None:
    for preset in {load_suite(name, None)[1].replace("debug", "paper"), "cpu"}:
        suite, _ = load_suite(name, preset)
        (*others, last) = name_tasks([tuple(line.split()) for line in suite.tasks])
        plan = plan_of(f"suite={name}", f"preset={preset}", f"tasks={last}", "seeds=1")
        assert len(plan.runs) == len(plan.arms) >= (len(suite.arms) or 1 + len(suite.aux)) and last not in others
        assert {line.split()[0].removeprefix("env=") for line in suite.tasks} <= set(groups.names("env"))


def test_suites_are_the_protocols_tasks() -> None:
    hidden = {line.split("env.task=")[1] for line in load_suite("ml1_hidden", None)[0].tasks}
    assert hidden == set(HIDDEN_GOALS)
    assert len(load_suite("atari100k", None)[0].tasks) == 26 and len(load_suite("dmc500k", None)[0].tasks) == 6


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.yaml").write_text("tasks: [env=toy_state]\nagents: [sac]\naux: [none]\nseeds: 1\n")
    assert read_request(("suite=mine", "preset=debug"), (tmp_path,)).tasks == (("env=toy_state",),)
    (tmp_path / "suite" / "mine.yaml").write_text("task: [env=toy_state]\n")
    with pytest.raises(ConfigError, match=r"unknown option suite mine\.task: did you mean tasks\?"):
        read_request(("suite=mine",), (tmp_path,))


NAMED = """\
tasks: [env=toy_state train.agent_steps=500]
arms:
  plain: agent=sac aux=none
  peer: agent=sb3_sac agent.lr=1e-2
  head: agent.lr=1e-4 aux=curl aux.curl.weight=0.1,1
words: [augment=none]
seeds: 1
preset: debug
"""


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Return a folder with a suite `mine` that names its arms."""
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.yaml").write_text(NAMED)
    return tmp_path


def test_a_suite_names_arms_that_differ_in_anything(named: Path) -> None:
    runs = make_plan(read_request(("suite=mine",), (named,)), (named,)).runs
    found = {run.arm: (run.tree["choices"]["agent"], run.tree["agent"]["lr"], run.tree["aux"]) for run in runs}
    assert list(found) == ["plain", "peer", "head aux.curl.weight=0.1", "head aux.curl.weight=1"]
    assert [agent for agent, *_ in found.values()] == ["sac", "sb3_sac", "sac", "sac"]
    assert [lr for _, lr, _ in found.values()][1:] == [1e-2, 1e-4, 1e-4] and not found["plain"][2]
    assert found["head aux.curl.weight=0.1"][2]["curl"]["weight"] == 0.1
    assert {(run.agent, run.tree["choices"]["augment"]) for run in runs} == {("", "none")}
    assert runs[1].name == "toy_state peer, seed 0" and len({run.out for run in runs}) == 4


def test_what_is_typed_replaces_a_suites_words_wherever_they_stand(named: Path) -> None:
    typed = ("suite=mine", "arms=peer,head", "agent.lr=0.5", "train.env_steps=60", "aux.curl.temperature=2.0")
    runs = make_plan(read_request(typed, (named,)), (named,)).runs
    assert {run.tree["agent"]["lr"] for run in runs} == {0.5} and len(runs) == 3
    assert not any("train.agent_steps" in word for run in runs for word in run.words)
    assert [run.tree["aux"].get("curl", {}).get("temperature") for run in runs] == [None, 2.0, 2.0]


def test_the_augmentation_of_a_suites_words_is_that_of_its_heads_arms(tmp_path: Path) -> None:
    folder = suite_of(tmp_path, "env=toy_state")
    with open(folder / "suite" / "mine.yaml", "a") as file:
        file.write("words: [augment=amplitude_scale]\n")
    plan = make_plan(read_request(("suite=mine", "aux=none,curl"), (folder,)), (folder,))
    assert arms_of(plan) == [("none", "none"), ("amplitude_scale", "none"), ("amplitude_scale", "curl")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("aux=curl",), "aux=curl: this suite names its arms, pick some by arms=plain,peer,head"),
        (("agents=sac",), "agents=sac: this suite names its arms"),
        (("arms=haed",), "arms=haed is not in this suite: did you mean head?"),
        (("suite=toy", "arms=head"), "arms=head: this suite crosses agents= and aux="),
        (("aux.byol.weight=1",), "aux.byol.weight=1: no arm has that head"),
        (("suite=both",), "suite both: give agents and aux, or arms in their place"),
    ],
)
def test_arms_are_named_or_crossed(
    named: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    (named / "suite" / "both.yaml").write_text(NAMED + "agents: [sac]\naux: [none]\n")
    assert main(["suite=mine", "--config-dir", str(named), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_a_named_grid_says_what_it_is(named: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite=mine", "--config-dir", str(named), "arms=plain,peer", "--dry-run"]) == 0
    head, before, *commands = capsys.readouterr().out.splitlines()
    assert head == "mine (preset=debug): 1 task x 2 arms x 1 seed = 2 runs in runs"
    assert before == "before: 2 waiting" and len(commands) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a suite: suite=NAME"),
        (("suite=dmc100",), "suite=dmc100 is not known: did you mean dmc100k?"),
        (("suite=toy", "env=toy_state"), "tasks=A,B picks some of them"),
        (("suite=toy", "seed=3"), "say seeds=5"),
        (("suite=toy", "agent=sac"), "say agents="),
        (("suite=toy", "tasks=toy"), "tasks=toy is not in this suite: did you mean toy_state?"),
        (("suite=toy", "seeds=0"), "give how many seeds"),
        (("suite=toy", "seeds=99999999"), "seeds=99999999: at most 1,000 seeds"),
        (("suite=toy", "seeds=[1,1]"), "give how many seeds"),
        (("suite=toy", "seeds=few"), "give how many seeds"),
        (("suite=toy", "aux=crul"), "aux=crul is not known: did you mean curl?"),
        (("suite=toy", "agents=rainbo"), "agent=rainbo is not known: did you mean rainbow?"),
        (("suite=toy", "agent.lrr=1"), "unknown option agent.lrr"),
        (("suite=toy", "aux.byol.weight=1"), "no arm has that head"),
        (("suite=toy", "preset=fast"), "preset=fast is not known"),
        (("suite=toy", "launcher=flock"), "launcher=flock is not known"),
        (("suite=toy", "launcher=local,ray"), "launcher=local,ray: give one"),
        (("suite=toy", "out="), "out= names no folder"),
        (("suite=toy", "-m"), "-m is rlrep.train's"),
        (("speed", "curl=/no/such"), "curl=/no/such: there is no such folder"),
        (("speed", "rond=3"), "unknown option rond: did you mean rounds?"),
    ],
)
def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and error.startswith("error: ")


def suite_of(folder: Path, *tasks: str) -> Path:
    """Write a suite `mine` and return the folder for `--config-dir`."""
    (folder / "suite").mkdir(exist_ok=True)
    listed = "".join(f"- {task}\n" for task in tasks)
    (folder / "suite" / "mine.yaml").write_text(f"tasks:\n{listed}agents: [sac]\naux: [none]\nseeds: 1\n")
    return folder


def test_tasks_of_one_environment_are_told_apart_by_their_other_words(tmp_path: Path) -> None:
    same = "env=dmc_cheetah train.env_steps=9000"
    folder = suite_of(tmp_path, f"{same} env.obs=state", f"{same} env.obs=pixels", same, "env=toy_state", same)
    request = read_request(("suite=mine", "seeds=1"), (folder,))
    assert len(request.tasks) == 4
    runs = make_plan(request, (folder,)).runs
    assert {run.task for run in runs} == {"dmc_cheetah/state", "dmc_cheetah/pixels", "dmc_cheetah", "toy_state"}
    assert len({run.out for run in runs}) == len(runs) == 8
    (only,) = read_request(("suite=mine", "tasks=dmc_cheetah/state"), (folder,)).tasks
    assert "env.obs=state" in only


def test_tasks_that_no_name_tells_apart_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = suite_of(tmp_path, "env=toy_state env.num_envs=2", "env=toy_state env.terminates=2")
    assert main(["suite=mine", "--config-dir", str(folder)]) == 2
    assert "two tasks of the suite would be called toy_state/2" in capsys.readouterr().err


def test_a_finished_run_is_finished_whoever_holds_its_lock(here: Path) -> None:
    (run, _) = plan_of(*TOY, "seeds=1", "aux=none").runs
    with lock_folder(leave(run, kind="final")):
        assert standing(run)[0] == "finished"


def test_two_grids_that_ask_do_not_take_each_other_for_training(here: Path) -> None:
    folder = here / "x"
    with lock_folder(folder):
        assert is_locked(folder)
    with open(folder / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as a grid does that asks at the same moment
        assert not is_locked(folder)


def test_how_runs_stand(here: Path) -> None:
    new, periodic, final, other, locked = plan_of(*TOY, "seeds=5", "aux=return_contrast").runs[1::2]
    leave(periodic, kind="periodic")
    leave(final, kind="final")
    folder = leave(other, kind="final")
    write_config(folder, {**other.tree, "precision": "bf16"})
    with lock_folder(leave(locked, kind="periodic")):
        assert [standing(run)[0] for run in (new, periodic, final, locked)] == [
            "new",
            "goes on",
            "finished",
            "elsewhere",
        ]
    kind, reason = standing(other)
    assert kind == "refused" and "precision was bf16, now float32" in reason
    (Path(final.out) / "eval.csv").write_bytes(b"\xff\x00,\n1")
    assert not is_finished(Path(final.out))
    (Path(final.out) / "eval.csv").write_bytes(b"kind\n" + b"x" * 200_000)
    assert not is_finished(Path(final.out))
    (Path(final.out) / "config.yaml").write_bytes(b"\xff\xfe\x00")
    assert standing(final)[0] == "refused"


def test_a_run_whose_last_checkpoint_is_not_its_end_goes_on(here: Path) -> None:
    """A full disk, or a kill, amid the final evaluation leaves some of its rows."""
    (run, _) = plan_of(*TOY, "seeds=1", "aux=none").runs
    folder = leave(run, kind="final")
    for step, finished in ((30, False), (60, True)):
        assert standing(run)[0] == ("finished" if step == 30 else "goes on")
        Checkpoints(folder / "checkpoints").save({}, {}, step=step, finished=finished)
    assert standing(run)[0] == "finished"


def test_a_dry_run_lists_what_would_be_typed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(plan_of(*TOY, "seeds=1", "aux=none", "video=false").runs[0], kind="final")
    assert main([*TOY, "seeds=1", "aux=none", "video=false", "--dry-run"]) == 0
    head, told, before, *commands = capsys.readouterr().out.splitlines()
    assert head == "toy (preset=debug): 1 task x 1 agent x 2 arms x 1 seed = 2 runs in runs"
    assert told == "with the augmentation-only arm: augment=amplitude_scale aux=none"
    assert before == "before: 1 done, 1 waiting"
    assert commands[0].endswith("seed=0  # finished") and commands[1].startswith("python -m rlrep.train env=toy_state")
    assert train([*shlex.split(commands[1])[3:], "--cfg"]) == 0


def test_cfg_prints_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY, "seeds=2", "launcher=slurm", "--cfg"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["runs"], shown["seeds"], shown["launcher"]) == (8, [0, 1], "slurm")
    assert shown["arms"] == ["base", "augmentation only", "curl", "return_contrast"]


def test_help_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from rlrep.commands.bench import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "False" and "atari100k" in done.stdout
    assert main(["speed", "--help"]) == 0 and "curl=CHECKOUT" in capsys.readouterr().out


def test_the_table_shows_every_run(here: Path) -> None:
    plan = plan_of(*TOY, "seeds=3", "aux=none", "train.agent_steps=60")
    entries = [Entry(Job(run.name, (), None)) for run in plan.runs]
    board = Board(plan, entries)
    assert board.summary() == "6 waiting; time left not known yet"
    folder = leave(plan.runs[1], kind="periodic")
    (folder / "metrics.jsonl").write_text(json.dumps({"agent_steps": 15, "env_steps": 15}) + "\n")
    for entry, state in zip(entries, ("done", "running", "failed", "stopped", "elsewhere"), strict=False):
        entry.state = state  # type: ignore[assignment]
    entries[2].note = "loss not [finite]"
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(draw(board))
    shown = capture.get()
    assert "25%" in shown and all(mark in shown for mark in "✓✗■↗·")
    assert "failed toy_state sac base, seed 1: loss not [finite]" in shown
    assert shown.index("1 done") < shown.index("failed toy_state") < shown.index("augmentation only")
    assert "1 done, 1 running, 1 failed, 1 stopped, 1 elsewhere, 1 waiting; 0:00:0" in shown


def test_a_low_terminal_shows_what_runs(here: Path) -> None:
    words = ("aux=none", "agents=sac,sb3_sac", "seeds=1", "train.agent_steps=60", "out=[b]")
    plan = plan_of("suite=toy", *words)
    entries = [Entry(Job(run.name, (), None)) for run in plan.runs]
    entries[0].state = "failed"
    entries[1].state = "running"
    console = Console(width=60, file=io.StringIO())
    for height, rows in ((13, 4), (12, 1)):
        with console.capture() as capture:
            console.print(draw(Board(plan, entries), height))
        shown = capture.get()
        assert len(shown.splitlines()) <= height and "toy in [b]" in shown
        assert sum(line.startswith("│ toy") for line in shown.splitlines()) == rows
        assert ("3 of 4 rows are not shown" in shown) == (rows == 1)


@pytest.mark.parametrize(
    ("encoding", "term", "table"), [("utf-8", "xterm", True), ("ascii", "xterm", False), ("utf-8", "dumb", False)]
)
def test_a_terminal_that_cannot_be_drawn_on_gets_lines(
    here: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, term: str, table: bool
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", term)
    plan = plan_of(*TOY, "seeds=1", "aux=none")
    entries = [Entry(Job(run.name, (), None)) for run in plan.runs]
    with make_view(Board(plan, entries)) as view:
        assert isinstance(view, Table) == table
        view.changed(entries[0])


def bench(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a grid of two runs, one at a time, each of some seconds."""
    length = ("train.agent_steps=1500", "train.eval_every=0", "train.log_every=100", "train.checkpoint_every=100")
    words = (*TOY, "seeds=1", "aux=none", "launcher.jobs=1", *TINY[1:], *length, *words)
    return subprocess.Popen(
        [sys.executable, "-m", "rlrep.bench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def has_checkpoint(folder: Path, runs: int = 1) -> Callable[[], bool]:
    """Return whether so many runs have come as far as a checkpoint."""
    return lambda: len({path.parent for path in folder.glob("runs/*/*/*/seed0/checkpoints/[0-9]*")}) >= runs


@pytest.mark.timeout(600)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_grid_survives_a_killed_run_and_ctrl_c(tmp_path: Path) -> None:
    process = bench(tmp_path)
    wait_for(has_checkpoint(tmp_path), 120)
    (child,) = children(process.pid)
    os.kill(child, signal.SIGKILL)
    wait_for(has_checkpoint(tmp_path, runs=2), 240)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "killed by SIGKILL: once more" in said and "the same command goes on" in said
    logs = {path.parent.name: path.read_text() for path in tmp_path.rglob("seed0.log")}
    first, second = (next(log for name, log in logs.items() if arm in name) for arm in ("sac-none", "amplitude"))
    assert "continuing at" in first and "done: " in first
    assert "stopped, saved in " in second
    again = bench(tmp_path)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "before: 1 done, 1 waiting" in said and "2 of 2 runs are finished" in said
    log = next(path for path in tmp_path.rglob("seed0.log") if "amplitude" in path.parent.name).read_text()
    assert "continuing at" in log


def test_a_failed_run_is_reported_and_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*TOY, "seeds=1", "aux=none", *TINY[1:], "agent.lr=1e30")
    leave(plan_of(*words).runs[0], kind="final")
    assert main(words) == 1
    said = capsys.readouterr()
    assert "[2/2] failed: toy_state sac augmentation only, seed 0: error: update" in said.out
    assert said.out.splitlines()[-1] == "1 of 2 runs are finished; report: python -m rlrep.report runs"
    (line,) = said.err.splitlines()
    assert line.startswith("failed: toy_state sac augmentation only") and "not finite" in line
    assert line.endswith("seed0.log)")


def test_speed_runs_the_scripts_that_write_the_tables() -> None:
    assert [words[0] for words in scripts(SpeedConfig())] == ["benchmarks.update_speed", "benchmarks.tables"]
    (first, second, last) = scripts(SpeedConfig(curl="a", rainbow="b", device="cuda", rounds=2))
    assert first[first.index("--curl") + 1] == str(Path("a").resolve()) and "--rainbow" in second
    assert last == ["benchmarks.tables"]
    for words in (first, second):
        shared = (ROOT / "benchmarks" / "result.py").read_text()
        source = (ROOT / f"{words[0].replace('.', '/')}.py").read_text() + shared
        assert all(f'"{flag}"' in source for flag in words[1:] if flag.startswith("--"))


def test_speed_says_what_it_would_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "cases=state256", "rounds=1", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "left out: what curl=CHECKOUT would be compared with" in said
    assert "python -m benchmarks.update_speed --device cpu --rounds 1 --seconds 5.0 --cases state256" in said


def test_speed_needs_a_checkout(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlrep.grid.speed._ROOT", here)
    assert main(["speed"]) == 1
    assert "in a checkout of it, not in an installed rlrep" in capsys.readouterr().err
