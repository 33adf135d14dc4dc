"""Group files and modules that somebody wrote, found by --config-dir: what is wrong with them is one line."""

from pathlib import Path

import pytest

from rlrep.commands.bench import main as bench
from rlrep.commands.pretrain import main as pretrain
from rlrep.commands.train import main as train

ENV = b"# @package _global_\nenv:\n  _target_: %s\n"
MODULES = {"broken_import": "import no_such_thing", "broken_syntax": "def (:", "broken_code": "1 / 0", "empty_one": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\n", "mine.yaml"),
        (b"a: {b: ${c}}\n", "mine.yaml"),
        (b"\xff\xfe\x00", "cannot compose env=mine"),
        (b"", "its file gives env no _target_"),
        (b"- a\n- b\n", "its file gives env no _target_"),
        (b"# @package _global_\nenv: 3\n", "its file gives env no _target_"),
        (b"num_envs: 2\n", "its file gives env no _target_"),
        (b"# @package _global_\ndefaults: [nothing]\n", "nothing"),
        (ENV % b"no_such_module.X", "cannot load no_such_module.X (No module named 'no_such_module')"),
        (ENV % b"broken_import.X", "cannot load broken_import.X (No module named 'no_such_thing')"),
        (ENV % b"broken_syntax.X", "cannot load broken_syntax.X (SyntaxError: invalid syntax"),
        (ENV % b"broken_code.X", "cannot load broken_code.X (ZeroDivisionError: division by zero)"),
        (ENV % b"empty_one.X", "cannot load empty_one.X"),
    ],
)
def test_a_broken_file_is_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_bytes(content)
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert train(["env=mine", "--config-dir", str(tmp_path), "--cfg"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


def test_a_folder_is_no_group_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "env" / "mine.yaml").mkdir(parents=True)
    assert train(["env=mine", "--config-dir", str(tmp_path)]) == 2
    assert "env=mine is not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no _target_"), (b"a: [1\n", "mine.yaml"), (b"\xff", "method=")]
)
def test_a_broken_method_is_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_bytes(content)
    assert pretrain(["method=mine", "data=digits", "--config-dir", str(tmp_path), "--cfg"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


@pytest.mark.parametrize("content", [b"a: [1\n", b"\xff", b"3\n", b""])
@pytest.mark.parametrize("group", ["aux", "augment", "agent", "suite", "encoder"])
def test_every_group_of_files_is_read_so(
    group: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_bytes(content)
    words = ["suite=mine", "--dry-run"] if group == "suite" else ["env=toy_state", f"{group}=mine"]
    assert (bench if group == "suite" else train)([*words, "--config-dir", str(tmp_path), "--cfg"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
