"""`python -m rlrep.hub` against a small server of the Hub's API: a round trip, cards, hostile files, errors."""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, constants

from benchmarks.synthetic_runs import ARMS, Shape, write_run
from rlrep.commands import evaluate, hub
from rlrep.commands.card import write_card
from rlrep.config.compose import compose_run
from rlrep.nn import PixelEncoderConfig, read_encoder, save_encoder
from rlrep.record.checkpoint import Checkpoints
from rlrep.repository import HubError, Repository, most_bytes
from tests.commands.hub_server import READER, TOKEN, Hub, serving
from tests.record.hostile import complaint, listing
from tests.runs import run
from tests.scores.report_runs import grid

WORDS = ("env=toy_pixels", "encoder=curl_small", "encoder.strides=[2,1]", "encoder.channels=4", "encoder.latent_dim=6")
NAME = "me/agent"
Change = Callable[[dict[str, bytes]], Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "seed0"
    assert run(out, *WORDS, "aux=curl") == 0
    return out


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks the older of both protocols
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        yield found


@pytest.fixture
def pushed(server: Hub, trained: Path) -> Hub:
    assert hub.main(["push", str(trained), "--repo", NAME]) == 0
    return server


def scores(folder: Path) -> list[dict[str, str]]:
    assert evaluate.main([f"out={folder}", "episodes=2", "device=cpu"]) == 0
    with open(folder / "evaluate.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in csv.DictReader(file)]


def test_a_pulled_agent_scores_what_the_runs_evaluation_says(pushed: Hub, trained: Path, tmp_path: Path) -> None:
    assert hub.main(["pull", NAME, "--out", str(tmp_path / "pulled")]) == 0
    assert set(listing(tmp_path / "pulled")) == set(pushed.repositories[NAME]) - {".gitattributes"}
    assert scores(tmp_path / "pulled") == scores(trained)
    _, state = Checkpoints(trained / "checkpoints").peek()
    own = {key.removeprefix("encoder."): value for key, value in state["agent"]["nets"].items()}
    config: Any = compose_run([*WORDS, f"encoder.load=hub:{NAME}"]).config
    for found in (config.encoder.make((9, 16, 16)).state_dict(), read_encoder(tmp_path / "pulled").tensors):
        assert found and all(torch.equal(value, own[key]) for key, value in found.items())


def test_nothing_of_the_owners_machine_is_pushed(pushed: Hub, trained: Path) -> None:
    texts = [data for name, data in pushed.repositories[NAME].items() if not name.endswith((".safetensors", ".mp4"))]
    assert str(trained.parent).encode() not in b"".join(texts)
    assert b"replay" not in b"".join(name.encode() for name in pushed.repositories[NAME])


def test_pushing_again_leaves_no_old_checkpoint_and_what_is_the_owners(pushed: Hub, trained: Path) -> None:
    files = pushed.repositories[NAME]
    files["checkpoints/000009_step_7/state.json"] = files["LICENSE"] = b"{}"
    assert hub.main(["push", str(trained), f"repo={NAME}"]) == 0
    left = pushed.repositories[NAME]
    assert "LICENSE" in left and "checkpoints/000009_step_7/state.json" not in left


def test_a_commit_can_be_named_and_a_name_needs_no_owner(server: Hub, trained: Path, tmp_path: Path) -> None:
    assert hub.main(["push", str(trained), "--repo=mine", "--private"]) == 0
    assert "me/mine" in server.private and b"hub:me/mine" in server.repositories["me/mine"]["README.md"]
    assert hub.main(["pull", f"me/mine@{server.commit_of('me/mine')}", f"out={tmp_path / 'x'}"]) == 0
    assert any(server.commit_of("me/mine") in line for line in server.asked if "/resolve/" in line)


def test_an_encoder_of_pretraining(server: Hub, tmp_path: Path) -> None:
    config, folder = PixelEncoderConfig(strides=(2,), channels=4, latent_dim=3), tmp_path / "pre"
    save_encoder(folder, config.make((3, 16, 16)), config, (3, 16, 16), command="")
    (folder / "config.yaml").write_text("choices: {method: simclr, data: digits}\nseed: 1\n")
    head = "updates,features,variable,probe,metric,value,draw,kind\n"
    rows = [
        "0,random,digit,knn,accuracy,0.25,,initial",
        *(f"9,encoder,digit,knn,accuracy,{v},,final" for v in (0.5, 1)),
    ]
    (folder / "eval.csv").write_text(head + "\n".join(rows) + "\n")
    assert hub.main(["push", str(folder), "--repo", "me/pre"]) == 0
    card = ModelCard(server.repositories["me/pre"]["README.md"].decode())
    assert "| digit | knn | accuracy | 0.2500 | 0.7500 |" in card.text and "rlrep.evaluate" not in card.text
    assert read_encoder("hub:me/pre").tensors.keys() == read_encoder(folder).tensors.keys()


@pytest.mark.parametrize(("seeds", "words"), [(1, "It is one seed"), (2, "too few for an interval"), (5, "IQM")])
def test_the_card_has_an_interval_from_five_seeds_on(seeds: int, words: str, tmp_path: Path) -> None:
    grid(tmp_path / "runs", tasks=("cheetah-run",), seeds=seeds)
    folder = next((tmp_path / "runs").rglob("seed0/config.yaml")).parent
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    write_card(folder, tmp_path, NAME)
    card = ModelCard((tmp_path / "README.md").read_text())
    assert words in card.text and ("95 % interval" in card.text) == (seeds == 5)
    assert card.text.count("(seed ") == (seeds if seeds > 1 else 0)
    rows = list(csv.DictReader((folder / "eval.csv").read_text().splitlines()))
    final = [float(row["return"]) for row in rows if row["kind"] == "final"]
    data: Any = card.data
    (result,) = data.eval_results
    assert result.metric_value == pytest.approx(sum(final) / len(final)) and result.dataset_name == "cheetah-run"


def test_a_run_under_way_is_not_called_final(tmp_path: Path) -> None:
    write_run(tmp_path / "seed0", "cheetah-run", ARMS[0], 0, Shape(evaluations=3, episodes=2, finished=False))
    (tmp_path / "config.yaml").write_text((tmp_path / "seed0" / "config.yaml").read_text())
    write_card(tmp_path / "seed0", tmp_path, NAME)
    assert "not finished" in (tmp_path / "README.md").read_text()


def _more(files: dict[str, bytes]) -> None:
    hostile = ("../../evil", "/tmp/evil", "checkpoints/../evil.json", "checkpoints/000001_step_1/x.pkl", "hook.py")
    files.update(dict.fromkeys((*hostile, "videos/..mp4", "a\nb", "README.md\n"), b"evil"))


def test_names_that_are_not_rlreps_are_not_asked_for(pushed: Hub, tmp_path: Path, capsys: Any) -> None:
    _more(pushed.repositories[NAME])
    pushed.asked.clear()
    assert hub.main(["pull", NAME, "--out", str(tmp_path / "a" / "pulled")]) == 0
    assert "left there, as no files of rlrep's: " in capsys.readouterr().out
    assert not any("evil" in line or "hook" in line for line in pushed.asked)
    assert all(b"evil" not in path.read_bytes() for path in (tmp_path / "a" / "pulled").rglob("*") if path.is_file())
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and len(list((tmp_path / "a").iterdir())) == 1


def _tensors(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name.endswith("/tensors.safetensors"))
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])


def _many(files: dict[str, bytes]) -> None:
    files.update({f"checkpoints/{number:06}_step_1/state.json": b"{}" for number in range(30)})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_tensors, "damaged"),
        (_many, "files of rlrep's"),
        (lambda files: files.update({"config.yaml": b"a: !!python/object/apply:os.system [x]"}), "not YAML"),
        (lambda files: files.update({"config.yaml": b"[" * 1000}), "nested more than"),
        (lambda files: files.update({"encoder.safetensors": b"\xff" * 64}), "is not the file that"),
        (lambda files: files.update({"encoder.json": b"[]"}), "encoder.load"),
        (lambda files: files.pop("encoder.json"), "there is no encoder.json"),
        (lambda files: files.pop("config.yaml"), "no config.yaml"),
        (lambda files: files.update({"versions.json": b"0" * (2**20 + 1)}), "larger than such a file can be"),
    ],
)
def test_hostile_files_leave_one_line_and_no_folder(
    change: Change, expected: str, pushed: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(pushed.repositories[NAME])
    capsys.readouterr()
    assert hub.main(["pull", NAME, "--out", str(tmp_path / "pulled")]) == 1
    assert expected in complaint(capsys) and list(tmp_path.iterdir()) == []


def test_a_file_without_end_is_cut_off(pushed: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pushed.endless.add("encoder.json")
    capsys.readouterr()
    assert hub.main(["pull", NAME, "--out", str(tmp_path / "pulled")]) == 1
    assert "encoder.json is larger" in complaint(capsys) and list(tmp_path.iterdir()) == []


def test_a_pulled_config_does_not_choose_code(pushed: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = pushed.repositories[NAME]
    files["config.yaml"] = files["config.yaml"].replace(b"_target_: rlrep.agents.sac", b"_target_: os.system #")
    assert hub.main(["pull", NAME, "--out", str(tmp_path / "pulled")]) == 0
    capsys.readouterr()
    assert evaluate.main([f"out={tmp_path / 'pulled'}"]) == 1
    assert "a run folder is data, never code" in complaint(capsys)


def test_no_encoder_to_load(pushed: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    del pushed.repositories[NAME]["encoder.safetensors"]
    capsys.readouterr()
    assert run(tmp_path / "x", *WORDS, f"encoder.load=hub:{NAME}") == 1
    assert f"hub:{NAME}: the repository holds no encoder" in complaint(capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "say push RUN"),
        (["push", "RUN"], "push needs --repo"),
        (["push", "RUN", "--repo"], "push needs --repo"),
        (["pull", NAME], "pull needs --out"),
        (["pull", NAME, "--out", "RUN"], "is there already"),
        (["pull", NAME, "--out", "new", "--repo", "x"], "repo"),
        (["pull", "../x", "--out", "new"], "names no repository"),
        (["pull", "a/b/c", "--out", "new"], "names no repository"),
        (["pull", "me/nothing", "--out", "new"], "shows no such repository"),
        (["push", "EMPTY", "--repo", NAME], "is not a run folder"),
        (["push", "RUN", "--repo", NAME, "--force"], "unknown flag --force"),
        (["fetch", NAME], "say push RUN"),
    ],
)
def test_errors_are_one_line(
    words: list[str], expected: str, server: Hub, trained: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"RUN": str(trained), "EMPTY": str(tmp_path)}
    assert hub.main([named.get(word, word) for word in words]) > 0
    assert expected in complaint(capsys) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_TOKEN": "", "HF_TOKEN_PATH": "/nowhere"}, "no token of the Hub is set"),
        ({"HF_TOKEN": READER}, "does not allow that"),
        ({"HF_TOKEN": "hf_unknown"}, "(401)"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "see to the network"),
    ],
)
def test_no_token_no_right_no_network(
    variables: dict[str, str], expected: str, server: Hub, trained: Path, capsys: Any, monkeypatch: Any
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    assert hub.main(["push", str(trained), "--repo", NAME]) == 1
    assert expected in complaint(capsys) and server.repositories == {}


def test_without_the_extra(trained: Path, capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (["push", str(trained), "--repo", NAME], ["pull", NAME, "--out", str(tmp_path / "x")]):
        assert hub.main(words) == 1
        assert "pip install 'rlrep[hub]'" in complaint(capsys)
    with pytest.raises(ValueError, match="rlrep\\[hub\\]"):
        read_encoder(f"hub:{NAME}")


def test_a_server_that_is_no_hub(server: Hub, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/lfs")
    with pytest.raises(HubError):
        Repository(NAME).look()


def test_help_names_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.main(["--help"]) == 0
    assert "push RUN --repo" in (said := capsys.readouterr().out) and "--out DIR" in said


def test_only_names_of_rlrep_have_a_size() -> None:
    assert most_bytes("encoder.safetensors") == 2**33 and most_bytes("README.md") == 2**20
    assert [most_bytes(name) for name in ("x.py", "a/README.md", "README.md\n", "", "videos/agent.py")] == [None] * 5
