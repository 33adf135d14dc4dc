"""The house rules of CONTRIBUTING.md, held over the source of rlrep/, agents/, envs/ and benchmarks/."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ENTRY_LINES = 60

HOUSE = (  # ground first; a room imports rooms of lower floors only
    ("rlrep.contract", "rlrep.files"),  # what rooms promise each other; reading and writing with distrust
    ("rlrep.repository",),  # a repository of the Hub
    ("rlrep.settings", "rlrep.contrast", "rlrep.views", "rlrep.nn", "rlrep.configs", "rlrep.version"),
    ("rlrep.process", "rlrep.images"),
    ("rlrep.replay", "rlrep.launch"),
    ("rlrep.heads", "rlrep.ssl"),
    ("rlrep.federated",),
    ("rlrep.agents", "rlrep.envs"),
    ("rlrep.config",),
    ("rlrep.record",),
    ("rlrep.loops",),
    ("rlrep.grid", "rlrep.scores"),
    ("rlrep.studies",),
    ("rlrep.commands",),
    ("rlrep",),  # entry points, and what `import rlrep` offers
)
FLOORS = {room: floor for floor, rooms in enumerate(HOUSE) for room in rooms}
SHARED = ("rlrep.settings", "rlrep.nn", "rlrep.views", "rlrep.contrast", "rlrep.ssl", "rlrep.federated")
BANNED_IN = {
    **{room: {"torch": "worker processes must start fast and small"} for room in ("rlrep.envs", "rlrep.images")},
    **{room: {"gymnasium": "it knows no RL", "stable_baselines3": "it knows no RL"} for room in SHARED},
}
PLUMBING = {"rlrep.envs.vector"}  # runs any environment, is none
CHOICES = {path.stem for group in ("env", "agent") for path in (ROOT / "configs" / group).glob("*.yaml")}
FORWARDING = {"rlrep.agents.sb3.mixin"}  # constructors of a class of another library, whichever it is
BANNED = {"pickle", "dill", "cloudpickle", "joblib", "shelve"}
DECLARED = {  # importable name: distribution
    "torch": "torch",
    "numpy": "numpy",
    "gymnasium": "gymnasium",
    "dm_control": "dm-control",
    "dm_env": "dm-control",
    "mujoco": "mujoco",
    "metaworld": "metaworld",
    "ale_py": "ale-py",
    "cv2": "opencv-python-headless",
    "stable_baselines3": "stable-baselines3",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "yaml": "PyYAML",
    "safetensors": "safetensors",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
    "imageio": "imageio",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "jinja2": "jinja2",
    "wandb": "wandb",
    "submitit": "submitit",
    "ray": "ray",
    "flwr": "flwr[simulation]",
    "huggingface_hub": "huggingface-hub",
    "optuna": "optuna",
    "timm": "timm",
}


@dataclass(frozen=True)
class Source:
    """One file: `module` is the name it is imported by, `package` the one its relative imports start from."""

    path: Path
    module: str
    text: str

    @property
    def package(self) -> str:
        return self.module if self.path.name == "__init__.py" else self.module.rpartition(".")[0]

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        return room_of(self.module)


def room_of(module: str) -> str:
    """Return the room a module stands in: `rlrep.heads` for `rlrep.heads.base`, `rlrep` for an entry point."""
    room = ".".join(module.split(".")[:2])
    return room if room in FLOORS else "rlrep"


def sources() -> Iterator[Source]:
    for path in sorted((ROOT / "rlrep").rglob("*.py")):
        if not any(parent.is_symlink() for parent in path.parents):
            yield read(path, "")
    for folder in ("agents", "envs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield read(path, "rlrep.")


def read(path: Path, prefix: str) -> Source:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(path, prefix + name, path.read_text())


def imports(source: Source) -> Iterator[str]:
    """Yield the full name of every module imported anywhere in the file, typing-only imports aside."""
    for node in walk_runtime(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(source, node)
            known = {base, *(f"{base}.{alias.name}" for alias in node.names)}
            yield from (known & set(FLOORS)) | {base}


def walk_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out the bodies of `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_runtime(child)


def absolute(source: Source, node: ast.ImportFrom) -> str:
    parts = source.package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def docstrings(tree: ast.Module) -> set[ast.expr]:
    """Return the constants that are documentation: every string that stands as a statement of its own."""
    return {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def broken_floors(source: Source) -> list[str]:
    """A room imports rooms below it and itself, nothing else of the house."""
    found = []
    for name in imports(source):
        if not f"{name}.".startswith(("rlrep.", "agents.", "envs.", "configs.", "benchmarks.", "tests.")):
            continue
        if name.split(".")[0] != "rlrep":
            found.append(f"{source.module} imports {name}: say rlrep.{name}")
        elif room_of(name) != source.room and FLOORS[room_of(name)] >= FLOORS[source.room]:
            found.append(f"{source.module} imports {name}, which is not below it")
    return found


def broken_bans(source: Source) -> list[str]:
    """No pickle anywhere, no torch in envs, no RL in floor 0, nothing that pyproject.toml does not ask for."""
    found = []
    for name in imports(source):
        top = name.split(".")[0]
        reason = BANNED_IN.get(source.room, {}).get(top)
        if top in BANNED:
            found.append(f"{source.module} imports {top}")
        elif reason:
            found.append(f"{source.module} imports {top}: {reason}")
        elif top not in sys.stdlib_module_names and top != "rlrep" and top not in DECLARED:
            found.append(f"{source.module} imports {top}, which pyproject.toml does not declare")
    return found


def named_plugins(source: Source) -> list[str]:
    """`rlrep` leaves agents and envs to the configs: neither imports nor strings name one (docstrings may).

    Neither a module of theirs nor a choice of `env=` or `agent=`, which configs, and texts beside them, wire.
    """
    if source.room in ("rlrep.agents", "rlrep.envs"):
        return []
    names = [name for name in imports(source) if re.match(r"(rlrep\.)?(agents|envs)\b", name)]
    tree = source.tree
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            names += re.findall(r"rlrep\.(?:agents|envs)\.\w+", node.value)
            names += [word for word in re.findall(r"\w+", node.value) if word in CHOICES]
    return [f"{source.module} names {name}" for name in names if name not in PLUMBING]


def oversized(source: Source) -> list[str]:
    """Files, functions and entry points stay short."""
    found = []
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        found.append(f"{source.module}: {lines} lines")
    if source.room == "rlrep" and lines > MAX_ENTRY_LINES:
        found.append(f"{source.module}: {lines} lines in an entry point")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{source.module}.{node.name}: {length} lines")
    return found


def loose_ends(source: Source) -> list[str]:
    """No catch-all modules, no arguments passed through blind, no setting checked by assert, nothing left for later."""
    found = [f"{source.path}"] if source.path.stem in ("utils", "util", "helpers", "misc") else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None and source.module not in FORWARDING:
            found.append(f"{source.module}.{node.name}: **{node.args.kwarg.arg}")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{source.module}:{node.lineno}: bare except")
        if isinstance(node, ast.FunctionDef) and node.name == "__post_init__":  # asserts vanish under python -O
            found += [
                f"{source.module}:{line.lineno}: assert" for line in ast.walk(node) if isinstance(line, ast.Assert)
            ]
    words = re.findall(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b", source.text)
    return found + [f"{source.module}: {word}" for word in words]


Rule = Callable[[Source], list[str]]
RULES: tuple[Rule, ...] = (broken_floors, broken_bans, named_plugins, oversized, loose_ends)


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_source_keeps_the_rule(rule: Rule) -> None:
    found = list(sources())
    assert len(found) > 20, "the walk over the source found too little to mean anything"
    assert [line for source in found for line in rule(source)] == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(list(sources())) == []
    twins = [Source(Path(f"{a}.py"), f"rlrep.nn.{a}", f"def f():\n    from .{b} import B") for a, b in ("ab", "ba")]
    assert circle(twins) == ["rlrep.nn.a", "rlrep.nn.b", "rlrep.nn.a"]


def circle(files: list[Source]) -> list[str]:
    """Return modules of which each imports the next, wherever in the file and for typing alone too; [] if none do."""
    known = {source.module for source in files}
    graph = {source.module: {name for name in named(source) if name in known} - {source.module} for source in files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def named(source: Source) -> Iterator[str]:
    """Yield the modules of the house that a file may mean by its imports."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(source, node)
            yield from {base, *(f"{base}.{alias.name}" for alias in node.names)}


@pytest.mark.parametrize(
    ("rule", "module", "text"),
    [
        (broken_floors, "rlrep.replay.store", "from rlrep.heads import base"),
        (broken_floors, "rlrep.replay.store", "from ..heads.base import Head"),
        (broken_floors, "rlrep.replay.store", "from .. import heads"),
        (broken_floors, "rlrep.nn.encoders", "import rlrep.views.image"),
        (broken_floors, "rlrep.agents.sac", "def f():\n    from rlrep.envs import dmc"),
        (broken_floors, "rlrep.envs.dmc", "from rlrep import agents"),
        (broken_floors, "rlrep.envs.dmc", "import agents.sac"),
        (broken_floors, "rlrep.heads.base", "from rlrep.loops.online import Loop"),
        (broken_floors, "rlrep.config.make", "from rlrep import train"),
        (broken_bans, "rlrep.envs.dmc", "import torch.nn as nn"),
        (broken_bans, "rlrep.nn.encoders", "from gymnasium import spaces"),
        (broken_bans, "rlrep.record.checkpoint", "import pickle"),
        (broken_bans, "rlrep.record.checkpoint", "import pandas"),
        (named_plugins, "rlrep.config.make", "target = 'rlrep.agents.sac.SACConfig'"),
        (named_plugins, "rlrep.config.make", "from rlrep.envs.dmc import DMC"),
        (named_plugins, "rlrep.train", "from .agents import sac"),
        (named_plugins, "rlrep.scores.arms", "if kind == 'toy_state':\n    pass"),
        (named_plugins, "rlrep.config.help", "text = f'try {x} agent=sac'"),
        (oversized, "rlrep.nn.encoders", "x = 1\n" * (MAX_FILE_LINES + 1)),
        (oversized, "rlrep.train", "x = 1\n" * (MAX_ENTRY_LINES + 1)),
        (oversized, "rlrep.nn.encoders", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
        (loose_ends, "rlrep.nn.utils", "x = 1"),
        (loose_ends, "rlrep.nn.encoders", "def f(**options): ..."),
        (loose_ends, "rlrep.nn.encoders", "try:\n    f()\nexcept:\n    pass"),
        (loose_ends, "rlrep.nn.encoders", "raise NotImplementedError"),
        (loose_ends, "rlrep.nn.encoders", "class A:\n    def __post_init__(self):\n        assert self.x > 0"),
    ],
)
def test_violation_is_found(rule: Rule, module: str, text: str) -> None:
    path = ROOT / (module.replace(".", "/") + ".py")
    assert rule(Source(path, module, text)) != []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("rlrep.heads.base", "from rlrep.replay.batch import Batch\nfrom .health import x\nimport torch, json"),
        ("rlrep.settings.groups", "GROUPS = ('rlrep.agents', 'rlrep.envs')"),
        ("rlrep.contract.agent", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rlrep.train"),
        ("rlrep.train", "from rlrep.loops import online\n'''`rlrep.envs.dmc` or `env=dmc` in a docstring'''"),
        ("rlrep.record.versions", "packages = ('gymnasium', 'dm_control')"),
    ],
)
def test_lawful_source_passes(module: str, text: str) -> None:
    source = Source(ROOT / (module.replace(".", "/") + ".py"), module, text)
    assert [line for rule in RULES for line in rule(source)] == []


@pytest.mark.parametrize("room", ["rlrep.envs", "rlrep.images"])
def test_importing_what_workers_run_loads_no_torch(room: str) -> None:
    """A lower room could bring torch in by the back door: ask the interpreter."""
    names = [source.module for source in sources() if source.room == room]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {names}]; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_links_and_declarations() -> None:
    for name in ("agents", "envs", "configs"):
        link = ROOT / "rlrep" / name
        assert link.is_symlink() and link.readlink() == Path("..", name)
    declared = (ROOT / "pyproject.toml").read_text()
    missing = [name for name in set(DECLARED.values()) if not re.search(rf'"{re.escape(name)}[><="]', declared)]
    assert missing == []


def test_every_declared_package_is_locked() -> None:
    locked = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {name.lower() for name in DECLARED.values()} - {"wandb", "flwr[simulation]"} <= locked


def test_no_lock_needs_a_late_release_of_python() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    first = f"{sys.version_info.major}.{sys.version_info.minor}.0"
    asked = {found.metadata["Name"]: found.metadata["Requires-Python"] or "" for found in distributions()}
    here = {name: asked_of for name, asked_of in asked.items() if re.sub(r"[_.]", "-", name).lower() in locked}
    assert len(here) > 50 and {name: spec for name, spec in here.items() if first not in SpecifierSet(spec)} == {}


def test_the_drawing_of_the_house_is_of_this_house() -> None:
    assert drawing() in (ROOT / "CONTRIBUTING.md").read_text(), f"draw it again in CONTRIBUTING.md:\n{drawing()}"


def drawing() -> str:
    """Return the house from its roof down: the rooms of each floor, and which rooms below each one leans on."""
    leans: dict[str, set[str]] = {room: set() for floor in HOUSE for room in floor}
    for source in sources():
        leans[source.room] |= {room_of(name) for name in imports(source) if f"{name}.".startswith("rlrep.")}
    lines = []
    for number, floor in reversed(list(enumerate(HOUSE))):
        for room in floor:
            below = sorted((leans[room] - {room, "rlrep"}), key=lambda name: (-FLOORS[name], name))
            names = " ".join(name.removeprefix("rlrep.") for name in below)
            lines.append(f"{number:>2}  {room.removeprefix('rlrep.'):<9} {names}".rstrip())
        lines.append("")
    return "\n".join(["```text", *lines[:-1], "```"])
