"""Checkpoints and files that were made to deceive: hashes right, contents absurd. One line each, nothing changed."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.pretrain import main as pretrain
from rlrep.commands.probe import main as probe
from tests.runs import run
from tests.ssl.ssl_rig import FEW

from .hostile import (
    PRETRAIN,
    WORDS,
    Tensors,
    complaint,
    edit_yaml,
    forge,
    forge_manifest,
    listing,
    make_pretraining,
    make_run,
    newest,
    put,
    seal,
)

Forge = Callable[[Any, Tensors], None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("forged") / "run")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pretraining(tmp_path_factory.mktemp("forged") / "pretraining")


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Forge:
    """Change the first tensor whose name holds `name`."""

    def forged(_: Any, tensors: Tensors) -> None:
        key = next(key for key in sorted(tensors) if name in key)
        tensors[key] = change(tensors[key])

    return forged


def value(path: str, to: Any) -> Forge:
    """Put another value into the state, by dotted path."""
    return lambda state, _: put(state, path, to)


def values(name: str, path: str, *to: Any) -> dict[str, Forge]:
    return {f"{name} {each!r}": value(path, each) for each in to}


def without(path: str) -> Forge:
    def forged(state: Any, _: Tensors) -> None:
        *parents, leaf = path.split(".")
        for key in parents:
            state = state[key]
        del state[leaf]

    return forged


def lost(name: str) -> Forge:
    """Take away the first tensor whose name holds `name`."""
    return lambda _, tensors: tensors.__delitem__(next(key for key in sorted(tensors) if name in key))


FORGED: dict[str, Forge] = {
    **{f"{name} as float64": tensor(name, lambda t: t.double()) for name in ("agent.nets", "agent.optimisers")},
    **{f"{name} as integers": tensor(name, lambda t: t.long()) for name in ("agent.nets", "agent.optimisers")},
    **{f"{name} with an axis more": tensor(name, lambda t: t[None]) for name in ("agent.nets", "agent.optimisers")},
    **{f"{name} of one number": tensor(name, lambda t: t.flatten()[0]) for name in ("agent.nets", "agent.optimisers")},
    **{f"{name} twice as long": tensor(name, lambda t: torch.cat([t, t])) for name in ("agent.nets", "_generator")},
    **{f"{name} empty": tensor(name, lambda t: t[:0]) for name in ("agent.nets", "_generator", "random.torch")},
    **{f"without {name}": lost(name) for name in ("agent.nets", "agent.optimisers", "random", "meter", "replay")},
    **{f"without {path}": without(path) for path in ("counters", "logs", "random", "envs", "agent", "meter")},
    **{f"without {path}": without(path) for path in ("agent.nets", "agent.replay", "agent.updates", "agent.heads")},
    "without counters.agent_steps": without("counters.agent_steps"),
    **values("agent_steps", "counters.agent_steps", -5, "47", None, [], 1e999, 12, True),
    **values("evaluations", "counters.evaluations", -1, "1", None),
    **values("updates", "agent.updates", -1, "27", None, {}),
    **values("wall_seconds", "counters.wall_seconds", "0", None, []),
    **values("logs", "logs", None, [], {}, {"metrics.jsonl": -1, "eval.csv": 0}, "x"),
    **values("envs", "envs", None, [], {}, [{}], [{"env": {}}]),
    **values("agent", "agent", None, [], {}, "x", 5),
    **values("random", "random.python", None, [], [3, [1, 2], None], [3, ["x"] * 625, None]),
    **values("numpy", "random.numpy", None, ["MT19937", [], 0, 0, 0.0], ["x"]),
    **values("replay", "agent.replay", None, [], {}),
    **values("sums", "agent.sums", 5, [5], [[["a"], "x", 1]], [[["a"], None, "x"]]),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_checkpoint_is_refused_and_nothing_is_changed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    forge(newest(out), FORGED[name])
    before = listing(out)
    capsys.readouterr()
    code = run(out, *WORDS)
    captured = capsys.readouterr()
    if code == 1:
        assert len(captured.err.splitlines()) == 1 and newest(out).name in captured.err
        assert listing(out) == before
    else:
        assert code == 0 and "is damaged" in captured.out and "continuing at 40 env steps" in captured.out


def test_with_the_forged_one_away_the_run_goes_on_from_the_one_before(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    forge(newest(out), value("logs", {"metrics.jsonl": 0, "eval.csv": 0, "agent": {}}))
    forge(newest(out), value("agent.updates", -1))  # what comes before it in the state is sound
    assert run(out, *WORDS) == 1
    capsys.readouterr()
    shutil.move(newest(out), tmp_path / "away")  # as the line says
    assert run(out, *WORDS) == 0 and "continuing at 40 env steps" in capsys.readouterr().out


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [name for name in FORGED if "nets" in name or "agent " in name])
def test_evaluate_refuses_a_forged_agent(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    forge(newest(out), FORGED[name])
    before = listing(out)
    capsys.readouterr()
    if evaluate([f"out={out}", "episodes=1", "device=cpu"]) == 1:
        complaint(capsys)
        assert listing(out) == before
    else:  # what is no part of the agent, or a checkpoint that makes no sense: the one before it
        assert "agent_steps" in name or "is damaged" in capsys.readouterr().out


PRETRAINED: dict[str, Forge] = {
    "weights as float64": tensor("learner.method", lambda t: t.double()),
    "weights with an axis more": tensor("learner.method", lambda t: t[None]),
    "without weights": lost("learner.method"),
    **{f"without {path}": without(path) for path in ("counters", "logs", "random", "learner", "learner.updates")},
    **values("updates", "learner.updates", -1, "2", None),
    **values("learner", "learner", None, [], "x"),
    **values("agent_steps", "counters.agent_steps", -5, "2", None),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", PRETRAINED)
def test_a_forged_checkpoint_of_pretraining_is_refused_and_nothing_is_changed(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = shutil.copytree(pretrained, tmp_path / "run")
    forge_manifest(newest(out), lambda body: body.update(finished=False))
    forge(newest(out), PRETRAINED[name])
    before = listing(out)
    capsys.readouterr()
    checkpoint = newest(out).name
    assert pretrain([*PRETRAIN, f"out={out}"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    if name == "without weights":  # it makes no sense in itself, and there is none before it
        assert "no sound checkpoint is left" in error and (out / "checkpoints" / f"damaged_{checkpoint}").exists()
    else:
        assert checkpoint in error and listing(out) == before


MANIFESTS: dict[str, Callable[[Any], None]] = {
    "files elsewhere": lambda body: body["files"].update({"../../config.yaml": "0" * 64}),
    "a device for a file": lambda body: body.update(files={"/dev/zero": "0" * 64, "state.json": "0" * 64}),
    "a chunk elsewhere": lambda body: body["rings"]["steps"]["chunks"][0].update(file="../../config.yaml"),
    "a device for a chunk": lambda body: body["rings"]["steps"]["chunks"][0].update(file="/dev/zero"),
    "no files": lambda body: body.update(files={}),
    "files are a list": lambda body: body.update(files=[]),
    "rings are a list": lambda body: body.update(rings=[]),
    "no rings": lambda body: body.pop("rings"),
    "step is a text": lambda body: body.update(step="47"),
    "step is negative": lambda body: body.update(step=-1),
    "finished is a text": lambda body: body.update(finished="no"),
    "written is negative": lambda body: body["rings"]["steps"].update(written=-1),
    "written is larger": lambda body: body["rings"]["steps"].update(written=10**15),
    "capacity is a text": lambda body: body["rings"]["steps"].update(capacity="50"),
    "chunks overlap": lambda body: body["rings"]["steps"]["chunks"].extend(body["rings"]["steps"]["chunks"]),
    "no chunks": lambda body: body["rings"]["steps"].update(chunks=[]),
    "a chunk of unknown form": lambda body: body["rings"]["steps"]["chunks"][0].update(more=1),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_forged_manifest_costs_its_checkpoint_alone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    ring = next(iter(json.loads((newest(out) / "manifest.json").read_text())["body"]["rings"]))

    def change(body: Any) -> None:
        body["rings"] = {"steps" if key == ring else key: record for key, record in body["rings"].items()}
        MANIFESTS[name](body)
        if isinstance(body.get("rings"), dict):
            body["rings"] = {ring if key == "steps" else key: record for key, record in body["rings"].items()}

    forge_manifest(newest(out), change)
    assert run(out, *WORDS) == 0
    printed = capsys.readouterr().out
    assert "is damaged" in printed and "continuing at 40 env steps" in printed


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: {key: column.double() for key, column in rows.items()},
        lambda rows: {key: column[:1] for key, column in rows.items()},
        lambda rows: {key: column[None] for key, column in rows.items()},
        lambda rows: dict(list(rows.items())[1:]),
        lambda rows: {**rows, "more": torch.zeros(3)},
    ],
)
def test_a_forged_chunk_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Tensors], Tensors]
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    path = newest(out)
    body = json.loads((path / "manifest.json").read_text())["body"]
    name, record = next(iter(body["rings"].items()))
    chunk = record["chunks"][-1]
    old = out / "checkpoints" / "chunks" / chunk["file"]
    save_file(change(load_file(old)), tmp_path / "chunk")
    digest = hashlib.sha256((tmp_path / "chunk").read_bytes()).hexdigest()
    fresh = f"{name}-{chunk['start']}-{chunk['stop']}-{digest[:12]}.safetensors"
    shutil.move(tmp_path / "chunk", old.with_name(fresh))

    def forged(body: Any) -> None:
        body["rings"][name]["chunks"][-1].update(file=fresh, sha256=digest)

    forge_manifest(path, forged)
    before = listing(out)
    assert run(out, *WORDS) == 1
    assert "the replay's" in complaint(capsys)
    assert listing(out) == before


def test_files_beside_checkpoints_are_none(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    for name in ("evil_step_x", "0_step_", "٣٣٣٣٣٣_step_1", f"{'9' * 200}_step_1", "000099_step_99x"):
        (out / "checkpoints" / name).mkdir()
    (out / "checkpoints" / "000098_step_98").write_text("a file")
    assert run(out, *WORDS) == 0 and "continuing at 47 env steps" in capsys.readouterr().out


NESTED = '{"a":' * 100_000 + "1" + "}" * 100_000
BOMBS = {
    "deep JSON": NESTED.encode(),
    "deep list": b"[" * 100_000,
    "a number without end": b'{"a": 1' + b"0" * 100_000 + b"}",
    "not text": b"\xff" * 100,
    "nothing": b"",
    "another type": b"[1]",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("name", ["state.json", "manifest.json"])
def test_bombs_in_a_checkpoint_cost_it_alone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    path = newest(out)
    (path / name).write_bytes(content)
    if name == "state.json":
        seal(path)
    code = run(out, *WORDS)
    captured = capsys.readouterr()
    assert (code == 0 and "continuing at 40 env steps" in captured.out) or (
        code == 1 and len(captured.err.splitlines()) == 1
    )


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CONFIGS = {
    "aliases": LAUGHS,
    "an alias of itself": "env: &a {b: *a}",
    "deep": "a: " + "[" * 5000 + "]" * 5000,
    "deep blocks": "".join(" " * i + f"a{i}:\n" for i in range(2000)),
    "a million options": "".join(f"a{i}: 1\n" for i in range(90_000)),
    "a tag": "env: !!python/object/apply:os.system [touch x]",
    "a date": "seed: 2001-01-01",
    "a set": "seed: !!set {a, b}",
    "bytes": "seed: !!binary aGVsbG8=",
    "a name that is none": "1: 2",
    "a list for a name": "? [a, b]\n: 2",
    "a list": "[1, 2]",
    "nothing": "",
    "not text": "\x00\x01",
    "a merge": "<<: 5\n",
    "a number without end": "seed: 1" + "0" * 10_000,
    "requested is a list": "requested: [1, 2]\nenv: {}\n",
    "requested leads nowhere": "requested: {a.b.c: 1}\nenv: {}\n",
    "huge": "a: " + "x" * 2**21,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_bombs_for_a_config_are_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    (out / "config.yaml").write_text(text)
    before = listing(out)
    assert run(out, *WORDS) == 1
    assert str(out) in complaint(capsys)
    assert evaluate([f"out={out}", "device=cpu"]) in (1, 2)
    assert len(complaint(capsys)) < 2000
    assert listing(out) == before


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("env", None),
        ("env", {}),
        ("env.terminates", -1),
        ("env.num_envs", 10**12),
        ("train.eval_envs", 10**9),
        ("train.eval_batch", 10**12),
        ("agent.capacity", 10**18),
        ("agent.hidden_dim", 10**12),
        ("agent.hidden_dim", 100_000),
        ("agent.hidden_dim", 17),
        ("agent.batch_size", "8"),
        ("encoder", {"_target_": "rlrep.nn.PixelEncoderConfig"}),
        ("augment", {"_target_": "rlrep.views.RandomCrop", "size": 84}),
        ("aux", {"curl": {"_target_": "rlrep.heads.InstanceContrast"}}),
        ("choices", {}),
        ("choices", None),
    ],
)
def test_absurd_settings_of_a_stored_run_are_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, to: object
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    edit_yaml(out / "config.yaml", lambda tree: put(tree, path, to))
    code = evaluate([f"out={out}", "episodes=1", "device=cpu"])
    captured = capsys.readouterr()
    assert (code in (1, 2) and len(captured.err.splitlines()) == 1) or (code == 0 and path == "choices"), captured


@pytest.mark.parametrize(
    ("path", "to"), [("compile", "evil"), ("train.agent_steps", "60"), ("train.agent_steps", None)]
)
def test_what_the_first_session_settled_is_checked(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, to: object
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    edit_yaml(out / "config.yaml", lambda tree: put(tree, path, to))
    before = listing(out)
    assert run(out, *WORDS) == 1
    assert "damaged" in complaint(capsys) and listing(out) == before


def huge_header(size: int = 90_000_000) -> bytes:
    return struct.pack("<Q", size) + b" " * size


SIDECARS: dict[str, Callable[[Path], object]] = {
    "deep": lambda place: (place / "encoder.json").write_text(NESTED),
    "a list": lambda place: (place / "encoder.json").write_text("[]"),
    "no kind": lambda place: sidecar(place, lambda about: about["architecture"].pop("kind")),
    "architecture is a text": lambda place: sidecar(place, lambda about: about.update(architecture="x")),
    "input is a text": lambda place: sidecar(place, lambda about: about.update(input="x")),
    "a huge width": lambda place: sidecar(place, lambda about: about["architecture"].update(channels=10**12)),
    "a negative width": lambda place: sidecar(place, lambda about: about["architecture"].update(channels=-1)),
    "an unknown option": lambda place: sidecar(place, lambda about: about["architecture"].update(more=1)),
    "a huge header": lambda place: weights(place, huge_header()),
    "a header beyond the file": lambda place: weights(place, struct.pack("<Q", 2**62)),
    "no header": lambda place: weights(place, b"abc"),
}


def sidecar(place: Path, change: Callable[[Any], object]) -> None:
    about = json.loads((place / "encoder.json").read_text())
    change(about)
    (place / "encoder.json").write_text(json.dumps(about))


def weights(place: Path, data: bytes) -> None:
    (place / "encoder.safetensors").write_bytes(data)
    sidecar(place, lambda about: about.update(sha256=hashlib.sha256(data).hexdigest()))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", SIDECARS.values(), ids=SIDECARS)
def test_a_forged_encoder_is_one_line(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object]
) -> None:
    for name in ("encoder.json", "encoder.safetensors"):
        shutil.copy(pretrained / name, tmp_path / name)
    assert probe([f"encoder={tmp_path}", "data=digits", "data.size=16", "device=cpu", *FEW]) == 0
    capsys.readouterr()
    change(tmp_path)
    assert probe([f"encoder={tmp_path}", "data=digits", "data.size=16", "device=cpu", *FEW]) in (1, 2)
    complaint(capsys)
