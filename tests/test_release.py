"""The check of a release and the Dockerfile say what is there: supported Pythons, targets of make, files, variables."""

import re
import sys
from pathlib import Path

import pytest

from scripts import release_check

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
LINES = re.sub(r"\\\n *", "", (ROOT / "Dockerfile").read_text()).splitlines()
STEPS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]


def words(instruction: str) -> list[str]:
    """Return what stands behind an instruction of the Dockerfile, line by line."""
    return [rest for name, rest in STEPS if name == instruction]


def test_every_supported_python_is_looked_for() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    lowest, above = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', project)[0]
    assert release_check.supported(project) == [f"python3.{minor}" for minor in range(int(lowest), int(above))]
    assert release_check.found(["python0.1", sys.executable]) == [sys.executable]


def test_what_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(release_check.Failed, match=r": ValueError: the last line$"):
        release_check.run([sys.executable, "-c", "raise ValueError('the last line')"], tmp_path)
    with pytest.raises(release_check.Failed, match=r"^agent=x trains on none of toy_state, .*No such file"):
        release_check.train("./absent", "x", tmp_path)
    monkeypatch.setattr(release_check, "found", lambda names: [])
    assert release_check.main([]) == 1 and len(capsys.readouterr().err.splitlines()) == 1


def test_the_dockerfile_runs_what_make_does() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    commands = [part.strip().split() for line in words("RUN") for part in line.split("&&")]
    asked = {command[1] for command in commands if command[0] == "make"}
    asked |= set(re.findall(r'"make", "([a-z-]+)"', "".join(words("CMD"))))
    assert {"setup", "help"} <= asked <= targets
    assert {command[0] for command in commands} == {"make", "apt-get", "rm"}


def test_the_dockerfile_is_sound() -> None:
    assert [name for name, _ in STEPS[:2]] == ["ARG", "FROM"] and words("FROM") == ["${BASE}"]
    known = {name for name, _ in STEPS}
    assert known <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
    arguments = dict(line.split("=", 1) for line in words("ARG"))
    read = MAKEFILE + (ROOT / "scripts" / "setup").read_text()
    assert set(arguments) - {"BASE"} <= set(re.findall(r"[A-Z_]{4,}", read))
    assert ":" in arguments["BASE"] and not arguments["BASE"].endswith(":latest")
    for line in words("RUN"):
        assert "apt-get install" not in line or ("--no-install-recommends" in line and "rm -rf /var/lib/apt" in line)
    for source in words("COPY"):
        assert (ROOT / source.split()[0]).exists()
