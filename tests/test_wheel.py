"""The sdist gives the wheel, the wheel runs alone, and no generic name lands in anyone's site-packages."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = ("rlrep", "agents", "envs", "configs", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return its output; on failure show what it said."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an sdist and of the wheel built from that sdist."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment: the wheel, and links to the other packages of this one."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", query, cwd=folder).strip())
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=folder)
    borrow(site)
    return python


def borrow(site: Path) -> None:
    """Link every package of this environment into `site`, an editable rlrep and start-up files aside."""
    for name in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(name).iterdir():
            own = entry.name.startswith(("rlrep", "__editable__")) or entry.suffix == ".pth"
            if not own and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)


def test_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=built).split())
    tops = {name.split("/")[0] for name in names if "/" in name}
    assert tops == {"rlrep", next(top for top in tops if top.endswith(".dist-info"))}
    for folder in ("agents", "envs", "configs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".txt"):
                assert f"rlrep/{path.relative_to(ROOT)}" in names
    assert "rlrep/py.typed" in names
    for path in (*(ROOT / "rlrep/scores/data").iterdir(), *(ROOT / "rlrep/scores/web").iterdir()):
        assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if "__pycache__" in name]


def test_wheel_trains_from_another_folder(python: Path, tmp_path: Path) -> None:
    run(python, "-m", "rlrep.train", "env=toy_state", "preset=debug", "device=cpu", "out=run", cwd=tmp_path)
    assert (tmp_path / "run" / "eval.csv").read_text().count("final") >= 1
    found = run(python, "-c", "import rlrep.agents, rlrep.envs; print(rlrep.agents.__file__)", cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(python.parent.parent)


@pytest.mark.parametrize("name", ["agents", "envs", "configs", "tests", "benchmarks"])
def test_generic_name_is_not_importable(python: Path, tmp_path: Path, name: str) -> None:
    done = subprocess.run([python, "-c", f"import {name}"], cwd=tmp_path, capture_output=True, text=True)
    assert f"No module named '{name}'" in done.stderr
