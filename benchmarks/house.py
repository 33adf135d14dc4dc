"""The shape of the code in figures: lines, rooms, functions, and what `rlrep/` asks by name.

    python -m benchmarks.house [CHECKOUT ...]

A column for each checkout (default: this one), so that two commits can be held side by side (`git worktree add`).
Lines of code are those of `rlrep/`, `agents/` and `envs/`; lines that are no tests are all of those, of `benchmarks/`
and `configs/`, blank ones and comments too. Rooms are the folders of `rlrep/`, and `agents/` and `envs/`.
"""

import argparse
import ast
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from . import machine

CODE = ("rlrep", "agents", "envs")
REST = {"benchmarks": "*.py", "configs": "*.yaml", "examples": "*.py", "scripts": "*"}
ABILITIES = (
    *("action_repeat", "augment", "auto", "compiles", "depends_on_length", "evaluation", "fitted", "for_length"),
    *("frame_stack", "gains_on_pixels", "gap", "gives_score", "horizon", "human_return", "in_workers", "is_family"),
    *(
        "labels",
        "learns_families",
        "load",
        "load_state",
        "make",
        "make_context",
        "make_meta",
        "make_on_model",
        "make_trunk",
        "num_envs",
    ),
    *("obs", "obs_shape", "optimal_return", "per_run", "per_transition", "positives", "prepare", "presets", "pull"),
    *("for_updates", "random_return", "remark", "restored", "scoring", "state", "tasks", "vector", "view", "weight"),
)
"""What components of ours or of a user's may have or not: all that the bases in `rlrep/` fill in, and what they were
asked for before."""
SHORT = 4
"""Names of environments and agents that are shorter are words of other meanings too."""

ALGORITHM = ("agents/sac/update.py", "agents/sac/networks.py", "agents/optimisers.py")
UPDATE = {
    "to follow a SAC update: the algorithm": ALGORITHM,
    "to follow a SAC update: all of it": (
        *ALGORITHM,
        *(f"agents/{name}.py" for name in ("learner", "online", "heads", "meeting", "balance", "metrics")),
        *(f"rlrep/replay/{name}.py" for name in ("store", "reader", "batch")),
        *("rlrep/views/base.py", "rlrep/contrast/targets.py", "rlrep/nn/encoders.py", "rlrep/nn/optim.py"),
    ),
}
"""Files that one reads, as far as a checkout has them: what is computed and how it is differentiated; and the batch's
way through replay, views, heads and encoder to the optimiser and the targets."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[machine.ROOT], metavar="CHECKOUT")
    columns = [figures(root) for root in parser.parse_args().checkouts]
    for name in dict.fromkeys(name for column in columns for name in column):
        print(f"{name:<42}" + "".join(f"{column.get(name, ''):>26}" for column in columns))


def figures(root: Path) -> dict[str, str]:
    """Return the figures of a checkout by name."""
    code = {path: path.read_text() for folder in CODE for path in files(root, folder, "*.py")}
    rest = [path.read_text() for folder, pattern in REST.items() for path in files(root, folder, pattern)]
    count = {path: text.count("\n") for path, text in code.items()}
    rooms = Counter[str]()
    for path, lines in count.items():
        rooms[room(path.relative_to(root))] += lines
    total, (largest, most) = sum(count.values()), rooms.most_common(1)[0]
    longest_file = max(count, key=lambda path: count[path])
    trees = {path: ast.parse(text) for path, text in code.items()}
    functions = sorted((length(node), f"{path.stem}.{node.name}") for path, node in all_functions(trees))
    lengths = [lines for lines, _ in functions]
    own = {path: tree for path, tree in trees.items() if path.relative_to(root).parts[0] == "rlrep"}
    named = Counter(name for tree in own.values() for name in named_components(tree, components(root)))
    abilities = Counter(name for tree in trees.values() for name in abilities_asked(tree))
    passed_on = Counter(name for tree in trees.values() for name in abilities_passed_on(tree))
    return {
        "lines that are no tests": f"{total + sum(text.count(chr(10)) for text in rest):,}",
        "lines of code": f"{total:,}",
        "files of code": str(len(code)),
        "rooms": str(len(rooms)),
        "largest room": f"{largest} {most / total:.1%}",
        "function length: median": f"{statistics.median(lengths):.0f}",
        "function length: p90": str(lengths[int(0.9 * len(lengths))]),
        "function length: longest": " ".join(map(str, functions[-1])),
        "largest file": f"{count[longest_file]} {longest_file.name}",
        "abilities asked by getattr or hasattr": str(abilities.total()),
        "abilities asked by a function that does so": str(passed_on.total()),
        "names of envs and agents in rlrep/": str(named.total()),
        **{name: followed(root, paths) for name, paths in UPDATE.items()},
        **{f"  room {name}": f"{lines:,} {lines / total:.1%}" for name, lines in sorted(rooms.items())},
        **{f"  ability {name}": str(times) for name, times in sorted(abilities.items())},
        **{f"  ability {name}, by a function": str(times) for name, times in sorted(passed_on.items())},
        **{f"  name {name}": str(times) for name, times in sorted(named.items())},
    }


def files(root: Path, folder: str, pattern: str) -> Iterator[Path]:
    """Yield the files below a folder, not through links."""
    for path in sorted((root / folder).rglob(pattern)):
        if (
            path.is_file()
            and not any(parent.is_symlink() for parent in path.parents)
            and "__pycache__" not in path.parts
        ):
            yield path


def followed(root: Path, paths: Sequence[str]) -> str:
    """Return how many of these files there are, and their lines."""
    there = [root / path for path in paths if (root / path).is_file()]
    return f"{len(there)} files {sum(path.read_text().count(chr(10)) for path in there):,} lines"


def room(path: Path) -> str:
    """Return the room of a file: `heads` for `rlrep/heads/base.py`, `rlrep` for an entry point, `agents`, `envs`."""
    return path.parts[1] if path.parts[0] == "rlrep" and len(path.parts) > 2 else path.parts[0]


def all_functions(trees: Mapping[Path, ast.Module]) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function and method, those inside of others too."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, with its signature and docstring."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def abilities_asked(tree: ast.Module) -> Iterator[str]:
    """Yield the abilities of components that code asks for where there may be none: `in dir()` and `in vars()` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in ("getattr", "hasattr"):
            yield from _abilities(node.args[1:2])
        elif isinstance(node, ast.Compare) and _called(node.comparators[0]) in ("dir", "vars"):
            yield from _abilities([node.left])


def abilities_passed_on(tree: ast.Module) -> Iterator[str]:
    """Yield the abilities that code hands to functions of its own file that ask for what they are told."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    asking: set[str] = set()
    for _ in functions:  # those that hand on what they are told, too
        asking |= {
            function.name for function in functions if any(_asks(node, function, asking) for node in ast.walk(function))
        }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in asking:
            yield from _abilities(node.args)


def _asks(node: ast.AST, function: ast.FunctionDef, asking: Set[str]) -> bool:
    """Whether a node is a call that asks for what a parameter of the function names."""
    if not isinstance(node, ast.Call):
        return False
    with_default = _called(node) == "hasattr" or (_called(node) == "getattr" and len(node.args) == 3)
    names = {given.id for given in node.args[1:] if isinstance(given, ast.Name)}
    return (with_default or _called(node) in asking) and not names.isdisjoint(each.arg for each in function.args.args)


def _called(node: ast.AST) -> str | None:
    """Return the name of the function or method that is called, if something is."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "id", getattr(function, "attr", None))


def _abilities(values: Sequence[ast.expr]) -> Iterator[str]:
    return (value.value for value in values if isinstance(value, ast.Constant) and value.value in ABILITIES)


def components(root: Path) -> list[str]:
    """Return the names of environments and agents: what is before the first `_`, and whole names, of their files."""
    stems = [path.stem for group in ("env", "agent") for path in files(root / "configs", group, "*.yaml")]
    heads = Counter(stem.partition("_")[0] for stem in stems)
    words = {*stems, *(head for head, times in heads.items() if times > 2)} - {"auto"}
    return sorted((word for word in words if len(word) >= SHORT or "_" in word or word in ("dmc", "sac")), key=len)


def named_components(tree: ast.Module, names: list[str]) -> Iterator[str]:
    """Yield names of environments and agents in strings, docstrings aside."""
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, reversed(names)))})(?:\b|(?=_))", re.IGNORECASE)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            yield from (found.lower() for found in pattern.findall(node.value))


if __name__ == "__main__":
    main()
