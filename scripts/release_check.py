"""What a user gets from a release: sdist and wheel, by plain pip into clean environments, each agent trained, a report.

python scripts/release_check.py [PYTHON ...]     without any, every supported python3.X on PATH
Environment: TORCH_INDEX = a pip index for torch (its CPU-only one), as for `make setup`.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
ENVS = ("toy_state", "atari_pong", "point_robot")
"""One is for every agent: of continuous actions, of discrete ones on frames, a family of tasks."""
SHORT = ("preset=debug", "device=cpu", "video=false")
NAMES = "from rlrep.settings.groups import names; print(*names('agent'))"
VERSION = "import rlrep; print(rlrep.__version__)"


class Failed(Exception):
    """A step of the check failed."""


def main(asked: Sequence[str]) -> int:
    """Build, and check what was built under each Python. Returns the exit code."""
    pythons = asked or found(supported((ROOT / "pyproject.toml").read_text()))
    try:
        if not pythons:
            raise Failed("no supported Python is on PATH: name one, as in make release-check ARGS=/path/to/python3.11")
        with TemporaryDirectory(prefix="release-") as place:
            for artefact in build(Path(place) / "dist"):
                for python in pythons:
                    with TemporaryDirectory(prefix="venv-", dir=place) as folder:
                        check(python, artefact, Path(folder))
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def supported(project: str) -> list[str]:
    """Return the Pythons that a pyproject.toml names, as `python3.11`."""
    return [f"python{version}" for version in re.findall(r"Programming Language :: Python :: (3\.\d+)", project)]


def found(names: Sequence[str]) -> list[str]:
    """Return those that are there."""
    return [name for name in names if shutil.which(name)]


def build(folder: Path) -> list[Path]:
    """Build sdist and wheel, whose names bear the version, and return them."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)], ROOT)
    version = run([sys.executable, "-c", VERSION], ROOT).strip()
    built = [folder / f"rlrep-{version}.tar.gz", folder / f"rlrep-{version}-py3-none-any.whl"]
    if sorted(folder.iterdir()) != sorted(built):
        raise Failed(f"built {sorted(path.name for path in folder.iterdir())}, not version {version}")
    if f"## {version}" not in (ROOT / "CHANGELOG.md").read_text():
        print(f"note: CHANGELOG.md has no section of {version} yet")
    return built


def check(python: str, artefact: Path, place: Path) -> None:
    """Install one file under one Python, and train and report from another folder."""
    start = time.monotonic()
    run([python, "-m", "venv", "venv"], place)
    inside = str(place / "venv" / "bin" / "python")
    index = os.environ.get("TORCH_INDEX")
    torch = re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    run([inside, "-m", "pip", "install", "-q", *(["--index-url", index] if index else []), *torch], place)
    run([inside, "-m", "pip", "install", "-q", str(artefact)], place)
    run([inside, "-m", "pip", "check"], place)
    print(f"{artefact.name} installed under {python} ({time.monotonic() - start:.0f} s)", flush=True)
    agents = run([inside, "-c", NAMES], place).split()
    for agent in agents:
        train(inside, agent, place)
    run([inside, "-m", "rlrep.report", "runs", "out=report"], place)
    if not (place / "report" / "report.html").is_file():
        raise Failed("rlrep.report wrote no report.html")
    print(
        f"{artefact.name} under {python}: {len(agents)} agents, a report ({time.monotonic() - start:.0f} s)", flush=True
    )


def train(python: str, agent: str, place: Path) -> None:
    """Train an agent on the first environment that is for it."""
    said, start = [], time.monotonic()
    for env in ENVS:
        try:
            run([python, "-m", "rlrep.train", f"env={env}", f"agent={agent}", *SHORT], place)
            print(f"  {agent} trained on {env} ({time.monotonic() - start:.0f} s)", flush=True)
            return
        except Failed as error:
            said.append(str(error))
    raise Failed(f"agent={agent} trains on none of {', '.join(ENVS)}: {'; '.join(said)}")


def run(command: Sequence[str], folder: Path) -> str:
    """Run a command and return its output. Raises Failed with its last line."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"{' '.join(command[:5])} ... : {lines[-1] if lines else done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
