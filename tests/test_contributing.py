"""The examples of CONTRIBUTING.md run as they stand there."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlrep.loops.online import Online
from tests.loops.test_resume import assert_resumes, at_step

from .runs import final_state

ROOT = Path(__file__).resolve().parent.parent
NAMED_BLOCK = re.compile(r"^```\w+ (?P<file>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds every code block of CONTRIBUTING.md that has a file name."""
    folder = tmp_path_factory.mktemp("examples")
    for match in NAMED_BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text()):
        path = folder / match["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(match["text"])
    return folder


def train(folder: Path, *words: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `rlrep.train` in `folder`, where its modules are importable, and what is in `site`."""
    return start(folder, "rlrep.train", *words, "video=false", site=site)


def start(folder: Path, module: str, *words: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run an entry point in `folder`, where its modules are importable, and what is in `site`."""
    command = [sys.executable, "-m", module, *words, "preset=debug", "device=cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder, site or folder)))}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words",
    [
        ("env=toy_state", "aux=reward"),
        ("env=toy_pixels", "aux=opening"),
        ("env=toy_state", "aux=curl_margin"),
        ("env=point",),
        ("env=toy_state", "agent=td3", "aux=reward"),
    ],
    ids=["head", "pairs", "objective", "env", "agent"],
)
def test_example_from_a_config_dir_trains(folder: Path, words: tuple[str, ...]) -> None:
    out = "run-" + "-".join(words)
    done = train(folder, "--config-dir", str(folder), *words, f"out={out}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "final" in (folder / out / "eval.csv").read_text()
    shown = {
        "aux=reward": "aux/reward/absolute_error",
        "aux=opening": "aux/opening/known",
        "aux=curl_margin": "aux/curl_margin/accuracy",
    }.get(words[-1], "wall_seconds")
    assert f'"{shown}"' in (folder / out / "metrics.jsonl").read_text()


def test_an_environment_in_a_script_trains(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "line_env.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "final" in (folder / "line" / "eval.csv").read_text() and done.stdout.splitlines()[-1].endswith("]")


def test_the_example_objective_trains_an_image_method_too(folder: Path) -> None:
    words = ("--config-dir", str(folder), "method=simclr_margin", "data=digits", "out=images")
    done = start(folder, "rlrep.pretrain", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "margin.Margin" in (folder / "images" / "config.yaml").read_text()


def test_the_options_of_the_example_objective_are_options_of_its_head(folder: Path) -> None:
    words = ("--config-dir", str(folder), "--cfg", "job", "env=toy_state", "aux=curl_margin")
    shown = start(folder, "rlrep.train", *words).stdout
    assert "margin: 0.3" in shown
    done = start(folder, "rlrep.train", *words, "aux.curl_margin.objective.margin=0.7")
    assert done.returncode == 0 and "margin: 0.7" in done.stdout, done.stderr


def test_example_head_joins_by_entry_point(folder: Path, tmp_path: Path) -> None:
    """An installed package is its metadata on the path: `entry_points.txt` in a .dist-info folder."""
    metadata = tmp_path / "reward_head-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: reward-head\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rlrep.aux]\nreward_by_entry_point = reward_head:RewardPrediction\n")
    words = ("env=toy_state", "aux=reward_by_entry_point", "aux.reward_by_entry_point.weight=1", "out=entry")
    done = train(folder, *words, site=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"aux/reward_by_entry_point/absolute_error"' in (folder / "entry" / "metrics.jsonl").read_text()


def test_the_agent_resumes_exactly(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ("--config-dir", str(folder), "env=toy_state", "agent=td3", "aux=reward", "checkpoint.keep_replay=true")
    parts = assert_resumes(tmp_path, words, Online, at_step(9), at_step(31))
    assert final_state(parts)["agent"]["updates"] == 40


def test_the_agent_is_short_and_needs_few_names(folder: Path) -> None:
    text = (folder / "td3.py").read_text()
    assert sum(bool(line) for line in text.splitlines()) <= 80
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imported if str(node.module).startswith("rlrep") for alias in node.names]
    assert 0 < len(names) <= 12


def test_examples_pass_the_house_checks(folder: Path) -> None:
    files = sorted(map(str, folder.glob("*.py")))
    assert len(files) == 6
    settings = str(ROOT / "pyproject.toml")
    for tool in (
        ["ruff", "check", "--config", settings],
        ["ruff", "format", "--check", "--config", settings],
        ["mypy", "--config-file", settings],
    ):
        done = subprocess.run([sys.executable, "-m", *tool, *files], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
