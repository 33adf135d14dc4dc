"""Anything at all in a run folder's files, an encoder's or a config: one line, no code, no write elsewhere, no hang."""

import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlrep.commands.evaluate import main as evaluate
from rlrep.commands.probe import main as probe
from rlrep.commands.report import main as report
from rlrep.commands.train import main as train
from rlrep.record.checkpoint import Checkpoints
from rlrep.record.chunks import Damaged
from rlrep.record.stored import Unreadable, read_yaml
from rlrep.record.trust import Trust
from rlrep.settings import TARGET, UserError
from tests.runs import TINY
from tests.ssl.ssl_rig import FEW

from .hostile import WORDS, forge, forge_manifest, listing, make_pretraining, make_run, newest

SECONDS = 20.0
"""More than any example takes on a busy machine; a hang takes for ever."""
STRANGERS = ("antigravity", "this", "turtledemo", "idlelib", "hostile_module", "lib2to3", "venv")
Main = Callable[[Sequence[str]], int]

targets = st.one_of(
    st.sampled_from([f"{name}.Toy" for name in STRANGERS]),
    st.sampled_from(["os.system", "subprocess.Popen", "rlrep.train.main", "rlrep.nn.load_encoder", "builtins.eval"]),
    st.sampled_from(["rlrep.envs.toy.ToyPixels", "rlrep.views.RandomCrop", "rlrep.heads.InstanceContrast"]),
    st.text(max_size=20),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**63, 10**30]),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["${oc.env:HOME}", "${seed}", "/dev/zero", "../../../etc/passwd", "\x1b[2J", "1e999", "x" * 5000]),
    st.builds(lambda target: {TARGET: target}, targets),
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
junk = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(str.encode),
    st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b"- " * 20_000, b"\x00" * 5000, b"&a [*a]", b"? ? ? ?", b""]),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a small run, a pretraining run, and a module that nobody may import."""
    place = tmp_path_factory.mktemp("fuzz")
    make_run(place / "run")
    make_pretraining(place / "pretraining")
    (place / "hostile_module.py").write_text("open('imported', 'w')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        yield place


@contextlib.contextmanager
def copy_of(folder: Path) -> Iterator[Path]:
    """Copy a run to beside itself; afterwards nothing else may have changed, and nobody been imported."""
    before = listing(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        copy = shutil.copytree(folder, Path(name) / "copy")
        yield copy
        shutil.rmtree(copy)
        assert listing(folder.parent) == before
    assert not set(STRANGERS) & set(sys.modules)


def check(main: Main, *words: str) -> None:
    """Run a command: it ends in time, well or with one line."""
    out, error, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main([*words])
    assert time.monotonic() - began < SECONDS
    lines = error.getvalue().splitlines()
    assert code == 0 or (code in (1, 2) and len(lines) == 1 and lines[0].startswith("error: ")), (code, lines)
    assert all(line.isprintable() for line in lines)


def changed(tree: Any, data: st.DataObject) -> Any:
    """Return a tree with one value at a drawn place replaced by a drawn one, or left out."""
    if not isinstance(tree, (dict, list)) or not tree or data.draw(st.integers(0, 4)) == 0:
        return data.draw(values)
    if isinstance(tree, list):
        index = data.draw(st.integers(0, min(len(tree), 30) - 1))
        return [*tree[:index], changed(tree[index], data), *tree[index + 1 :]]
    key = data.draw(st.sampled_from(sorted(tree)))
    if data.draw(st.integers(0, 9)) == 0:
        return {name: value for name, value in tree.items() if name != key}
    return {**tree, key: changed(tree[key], data)}


@settings(max_examples=12)
@given(data=st.data())
def test_any_value_in_a_stored_config(place: Path, data: st.DataObject) -> None:
    with copy_of(place / "run") as out:
        tree = changed(yaml.safe_load((out / "config.yaml").read_text()), data)
        (out / "config.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True))
        check(evaluate, f"out={out}", "episodes=1", "device=cpu")
        if (out / "evaluate.csv").exists() or data.draw(st.booleans()):
            check(train, *TINY, *WORDS, f"out={out}")


@settings(max_examples=12)
@given(data=st.data())
def test_any_value_in_a_pretraining_runs_files(place: Path, data: st.DataObject) -> None:
    with copy_of(place / "pretraining") as out:
        tree = yaml.safe_load((out / "config.yaml").read_text())
        part = data.draw(st.sampled_from(["data", "encoder", "method", "probe"]))
        tree[part] = changed(tree[part], data)
        (out / "config.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True))
        about = json.loads((out / "encoder.json").read_text())
        if data.draw(st.booleans()):
            (out / "encoder.json").write_text(json.dumps(changed(about, data)))
        check(probe, f"encoder={out}", "device=cpu", *FEW)


@settings(max_examples=12)
@given(data=st.data())
def test_any_value_in_a_checkpoint_whose_hashes_are_right(place: Path, data: st.DataObject) -> None:
    with copy_of(place / "run") as out:
        if data.draw(st.integers(0, 2)) == 0:
            key = data.draw(st.sampled_from(["step", "finished", "files", "rings", "format"]))
            forge_manifest(newest(out), lambda body: body.update({key: changed(body[key], data)}))
        else:
            part = data.draw(st.sampled_from(["counters", "meter", "logs", "random", "envs", "agent"]))
            forge(newest(out), lambda state, _: state.update({part: changed(state[part], data)}))
        check(evaluate, f"out={out}", "episodes=1", "device=cpu")


@settings(max_examples=12)
@given(
    name=st.sampled_from(["config.yaml", "metrics.jsonl", "eval.csv", "versions.json", "scoring.json", "state.json"]),
    command=st.sampled_from(["train", "evaluate", "report"]),
    content=junk,
)
@example(name="eval.csv", command="train", content=b"\xff\xfe")
def test_any_bytes_in_a_file(place: Path, name: str, command: str, content: bytes) -> None:
    with copy_of(place / "run") as out:
        (newest(out) / name if name == "state.json" else out / name).write_bytes(content)
        if command == "train":
            check(train, *TINY, *WORDS, f"out={out}")
        elif command == "evaluate":
            check(evaluate, f"out={out}", "episodes=1", "device=cpu")
        else:
            check(report, str(out), f"out={out / 'report'}", "resamples=10", "figures=false")


@settings(max_examples=100)
@given(tree=st.dictionaries(st.sampled_from(["env", "aux", "data", "train", "x"]), values))
def test_no_stored_tree_gets_a_stranger_past_the_list(place: Path, tree: dict[str, Any]) -> None:
    for group, node in tree.items():
        with contextlib.suppress(UserError):
            Trust().check(group, node, "run")
            assert not any(name in json.dumps(node) for name in (f"{stranger}.Toy" for stranger in STRANGERS))
    assert not set(STRANGERS) & set(sys.modules)


@settings(max_examples=100)
@given(content=junk)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "000001_step_1"
        path.mkdir()
        for file in ("manifest.json", "config.yaml"):
            (path / file).write_bytes(content)
        with contextlib.suppress(Unreadable):
            assert isinstance(read_yaml(path / "config.yaml", "values"), dict)
        with contextlib.suppress(Damaged):
            Checkpoints(Path(name), say=lambda _: None).load()
