"""The examples run: a script for Stable-Baselines3, and an installed package with a head and an environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEARN = """
from rlrep.agents.sb3 import AuxSAC
from rlrep_custom import Pendulum
model = AuxSAC("MlpPolicy", Pendulum().make(0), aux={"inverse_model": {"weight": 0.5}}, batch_size=8, seed=0)
model.learn(110)
assert model.logger.name_to_value["aux/inverse_model/loss"] > 0
"""


def python(*words: str | Path, cwd: Path, site: Path | None = None) -> str:
    paths = [str(ROOT), *([str(site)] if site else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the package is really installed into."""
    source, site = tmp_path_factory.mktemp("source") / "custom", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "examples" / "custom", source)
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    python("-m", "pip", "install", *flags, "--target", site, source, cwd=source)
    return site


def test_installed_head_and_environment_train(site: Path, tmp_path: Path) -> None:
    words = ["env=pendulum", "aux=inverse_model", "aux.inverse_model.weight=0.5", "train.agent_steps=220"]
    python("-m", "rlrep.train", *words, "preset=debug", "device=cpu", "video=false", "out=run", cwd=tmp_path, site=site)
    assert "final" in (tmp_path / "run" / "eval.csv").read_text()
    assert '"aux/inverse_model/loss"' in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_installed_view_pretrains(site: Path, tmp_path: Path) -> None:
    words = [
        "augment=rotation",
        "augment.most=2",
        "method=barlow_twins",
        "data=digits",
        "data.size=16",
        "train.updates=2",
    ]
    python("-m", "rlrep.pretrain", *words, "preset=debug", "device=cpu", "out=run", cwd=tmp_path, site=site)
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert config.count("_target_: rlrep_custom.Rotation") >= 2 and "most: 2" in config


def test_installed_head_and_environment_join_stable_baselines3(site: Path, tmp_path: Path) -> None:
    python("-W", "ignore", "-c", LEARN, cwd=tmp_path, site=site)


def test_the_installed_environment_resumes_and_passes_sb3s_check(site: Path, tmp_path: Path) -> None:
    code = """
import numpy as np
from stable_baselines3.common.env_checker import check_env
from rlrep_custom import Pendulum
check_env(Pendulum().make(0))
env, other = Pendulum().make(0), Pendulum().make(1)
env.reset(); env.step(env.action_space.sample())
assert np.array_equal(other.load_state(env.state()), env.unwrapped._get_obs())
action = env.action_space.sample()
assert all(np.array_equal(a, b) for a, b in zip(env.step(action)[:4], other.step(action)[:4]))
assert np.array_equal(env.reset()[0], other.reset()[0])
"""
    python("-c", code, cwd=tmp_path, site=site)


TRACKIO = """
import json
def init(**words):
    print("init", words["project"], words["resume"], words["config"]["seed"])
    return Run()
class Run:
    def log(self, metrics, step):
        print("log", step, len(metrics), metrics.get("eval/return_mean") is not None)
        json.dumps(metrics)
    def finish(self):
        print("finish")
"""


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("early_stop.Patience", ["train.eval_every=10"], r"3 evaluations without a better mean: the run ends here"),
        ("trackio_sink.Trackio", [], r"(?s)init rlrep allow 0\n.*log \d+ \d+ False\n.*log 220 \d+ True\n.*finish"),
    ],
)
def test_callback_is_called(name: str, words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "trackio.py").write_text(TRACKIO)
    flags = ["--config-dir", str(ROOT / "examples" / "callbacks"), f"train.callbacks=[{name}]"]
    words = [*words, "env=toy_state", "out=run", "preset=debug", "device=cpu", "video=false", "train.agent_steps=220"]
    assert re.search(said, python("-m", "rlrep.train", *flags, *words, cwd=tmp_path, site=tmp_path))


def test_pixels_in_stable_baselines3(tmp_path: Path) -> None:
    said = python(ROOT / "examples" / "sb3_pixels.py", "120", cwd=tmp_path)
    assert (
        "the other view, one of 64" in said
        and "mean return" in said
        and (tmp_path / "runs" / "sb3_pixels" / "model.zip").exists()
    )
    assert list(tmp_path.glob("runs/sb3_pixels/SAC_1/events*"))
