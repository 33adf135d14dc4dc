"""The commands from Python do what the command line does."""

from pathlib import Path

import numpy as np
import pytest
import torch

import rlrep
from rlrep.commands.python import text
from rlrep.config.compose import compose_run
from rlrep.nn import PixelEncoderConfig, save_encoder
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.folder import read_config
from rlrep.settings import ConfigError, UserError
from tests.runs import differences

SHORT = {"train.agent_steps": 300, "train.log_every": 100, "aux.curl.weight": 0.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> rlrep.Run:
    out = tmp_path_factory.mktemp("api") / "a, b"
    return rlrep.train("toy_state", aux=["curl"], preset="debug", seed=3, out=out, options=SHORT)


def test_train_is_the_command(run: rlrep.Run) -> None:
    words = ["env=toy_state", "aux=[curl]", "preset=debug", "seed=3", f"out={run.folder}"]
    expected = compose_run([*words, *(f"{name}={value}" for name, value in SHORT.items())]).tree
    found = read_config(run.folder)
    assert found["aux"]["curl"] == {**expected["aux"]["curl"], "weight": 0.5} and found["seed"] == 3
    assert found["train"]["agent_steps"] == expected["train"]["agent_steps"] == 300
    assert run.config == found


def test_the_same_call_again_finds_it_finished(run: rlrep.Run, capsys: pytest.CaptureFixture[str]) -> None:
    again = rlrep.train("toy_state", aux=["curl"], preset="debug", seed=3, out=run.folder, options=SHORT)
    assert again == run and "this run is finished" in capsys.readouterr().out


def test_load_reads_what_the_run_wrote(run: rlrep.Run) -> None:
    found = rlrep.load(str(run.folder))
    metrics, evaluations = found.metrics(), found.evaluations()
    assert found == run and metrics["agent_steps"][-1] == evaluations.agent_steps[-1] == 300
    assert np.isfinite(metrics["loss/critic"]).any() and evaluations.final
    film = found.video()
    assert film is not None and film.parent == run.folder / "videos"


def test_episodes_are_those_of_the_evaluations(run: rlrep.Run) -> None:
    found, means = run.episodes(), run.evaluations()
    last = found["kind"] == "final"
    assert found["return"].dtype == np.float64 and found["return"][last].mean() == means.returns[-1]
    assert {len(column) for column in found.values()} == {len(found["return"])} and np.isnan(found["success"]).all()


def test_the_agent_and_its_encoder_are_those_of_the_checkpoint(run: rlrep.Run) -> None:
    agent, envs = run.agent(), run.envs(2, seed=1)
    obs = envs.reset()
    envs.close()
    _, state = Checkpoints(run.folder / "checkpoints").peek()
    assert differences(state["agent"], agent.state()) == []
    acted = agent.act(obs, explore=False)  # type: ignore[call-arg]
    assert acted.shape == (2, 1) and np.array_equal(acted, run.agent().act(obs, explore=False))  # type: ignore[call-arg]
    own = {name: value for name, value in state["agent"]["nets"].items() if name.startswith("encoder.")}
    assert differences({f"encoder.{n}": v for n, v in run.encoder().state_dict().items()}, own) == []


def test_report_writes_the_page(run: rlrep.Run, tmp_path: Path) -> None:
    page = rlrep.report(run.folder.parent, out=tmp_path / "report")
    assert page == tmp_path / "report" / "report.html" and page.is_file()


def test_encoder_is_the_saved_one(tmp_path: Path) -> None:
    config, shape = PixelEncoderConfig(strides=(2,), channels=4, latent_dim=3), (3, 16, 16)
    encoder = config.make(shape)
    save_encoder(tmp_path, encoder, config, shape, command="")
    frames = torch.randint(256, (2, *shape), dtype=torch.uint8)
    assert torch.equal(rlrep.Run(tmp_path).encoder()(frames), encoder(frames))


def test_what_is_missing_is_one_line(run: rlrep.Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run folder: it has no config\.yaml"):
        rlrep.load(tmp_path)
    with pytest.raises(UserError, match=r"there is no .*encoder\.safetensors"):
        rlrep.Run(tmp_path).encoder()
    with pytest.raises(UserError, match=r"is not a run folder: its config\.yaml is missing"):
        rlrep.Run(tmp_path).agent()
    with pytest.raises(UserError, match=r"metrics\.csv is missing"):
        rlrep.Run(tmp_path).metrics()
    with pytest.raises(ConfigError, match="env=toy_stat is not known"):
        rlrep.train("toy_stat")


@pytest.mark.parametrize(
    "value, typed",
    [(None, "null"), (True, "true"), (1, "1"), (1e-3, "0.001"), ("a", "a"), ([1, "b"], "[1,b]"), ((), "[]")],
)
def test_values_are_typed_as_on_the_command_line(value: object, typed: str) -> None:
    assert text(value) == typed
