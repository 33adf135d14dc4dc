"""Whether two versions of the code behave alike: composed configs, and what short runs log and learn.

    python -m benchmarks.behaviour record FOLDER [--part configs|runs] [--only TEXT]
    python -m benchmarks.behaviour compare OLD NEW [--only TEXT]

`record` writes FOLDER/configs.json and FOLDER/runs.json. Configs are those of every environment x preset x agent, of
every head, and of every image method, or the error line of what does not go together; of a component the last part of
its name is kept, since modules move. Runs are logged rows, evaluation rows and the digests of all tensors of the last
checkpoint, whatever their names. `compare` prints what differs and exits with 1 if anything does.
"""

import argparse
import csv
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from rlrep.pretrain import main as pretrain
from rlrep.train import main as train

ROOT = Path(__file__).resolve().parent.parent
PRESETS = ("paper", "cpu", "debug")
QUICK = ("preset=debug", "device=cpu", "logger=none")
SHORT_META = (*QUICK, "compile=off", "video=false")
SHORT = (
    *SHORT_META,
    "train.agent_steps=60",
    "train.init_steps=20",
    "train.updates_per_step=1",
    "train.eval_every=25",
    "train.eval_episodes=1",
    "train.log_every=5",
    "agent.batch_size=8",
    "agent.capacity=50",
)
DATA = {
    **dict.fromkeys(("ascl", "comatch", "cross_entropy", "elr", "supcon", "suncet"), "digits"),
    "video_moco": "moving_digits",
}
"""What methods train on that need classes, or clips."""
FAMILY_HEADS = ("ccm", "focal")
HEADS = "aux=[curl,return_contrast]"
PONG = ("env=atari_pong", "env.max_frames=160", "train.eval_every=100")
AGENTS = {
    "sac on states": ("env=toy_state", HEADS),
    "sac on pixels": ("env=toy_pixels", HEADS),
    "sac, heads by balance": ("env=toy_state", HEADS, "agent.pull=balanced"),
    "mrq": ("env=toy_state", HEADS, "agent=mrq"),
    "rainbow": (*PONG, HEADS, "agent=rainbow"),
    "dqn": (*PONG, HEADS, "agent=dqn"),
    "drq_eps": (*PONG, HEADS, "agent=drq_eps"),
    "sb3_sac": ("env=toy_state", HEADS, "agent=sb3_sac"),
    "sb3_dqn": (*PONG, HEADS, "agent=sb3_dqn"),
}
META_AGENTS = ("pearl", "pearl_no_context", "pearl_oracle", "pearl_recurrent", "pearl_tcl")
VARYING = ("wall_seconds",)


def names(group: str) -> list[str]:
    """Return the choices of a config group that have a file."""
    return sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))


def say(entry: Callable[[], int], *words: str) -> tuple[int, str, str]:
    """Run an entry point in this process and return its exit code, output and complaints."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["rlrep", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            return entry(), out.getvalue(), err.getvalue()
    finally:
        sys.argv = before


def config_cases() -> Iterator[tuple[Callable[[], int], list[str]]]:
    """Yield entry point and words of every config to be composed."""
    agents, heads = [name for name in names("agent") if not name.endswith("_state")], names("aux")
    for env in names("env"):
        for preset in PRESETS:
            yield train, [f"env={env}", f"preset={preset}"]
            for agent in agents:
                yield train, [f"env={env}", f"preset={preset}", f"agent={agent}"]
    for env in ("toy_state", "toy_pixels", "atari_pong", "dmc_cheetah", "point_robot"):
        for preset in PRESETS:
            yield from ((train, [f"env={env}", f"preset={preset}", f"aux={head}"]) for head in heads)
    for method in names("method"):
        for preset in PRESETS:
            for data in names("data"):
                yield pretrain, [f"method={method}", f"data={data}", f"preset={preset}"]


def composed(entry: Callable[[], int], words: list[str]) -> Any:
    """Return the composed tree with components by the last part of their names, or the error line."""
    code, out, err = say(entry, "--cfg", "job", *words)
    return short(yaml.safe_load(out)) if code == 0 else err.strip()


def short(node: Any) -> Any:
    """Return a tree in which a component goes by its class alone."""
    if isinstance(node, dict):
        return {k: v.rpartition(".")[2] if k == "_target_" else short(v) for k, v in node.items()}
    return [short(value) for value in node] if isinstance(node, list) else node


def run_cases() -> Iterator[tuple[str, Callable[[], int], list[str]]]:
    """Yield name, entry point and words of every short run."""
    for name, words in AGENTS.items():
        yield name, train, [*SHORT, *words]
    for head in names("aux"):
        where = (*SHORT_META, "env=point_robot") if head in FAMILY_HEADS else (*SHORT, "env=toy_pixels")
        yield f"head {head}", train, [*where, f"aux={head}"]
    for agent in META_AGENTS:
        heads = ["aux=trajectory_contrast"] if agent == "pearl" else []
        yield agent, train, [*SHORT_META, "env=point_robot", f"agent={agent}", *heads]
    for method in names("method"):
        yield f"method {method}", pretrain, [*QUICK, f"data={DATA.get(method, 'toy_frames')}", f"method={method}"]


def played(entry: Callable[[], int], words: list[str]) -> Any:
    """Return what a run leaves that does not depend on the clock, or its error line."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        state = torch.get_rng_state()
        data = [f"data.path={place}/frames.safetensors"] if "data=toy_frames" in words else []
        code, _, err = say(entry, *words, *data, f"out={folder}")
        torch.set_rng_state(state)
        if code:
            return err.strip().replace(place, "")
        return {"rows": rows(folder), "evaluations": evaluations(folder), "tensors": digests(folder)}


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the logged rows without times; numbers as text, so that NaN equals NaN."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: repr(v) for k, v in line.items() if k not in VARYING and not k.startswith("perf/")} for line in lines]


def evaluations(folder: Path) -> list[dict[str, str]]:
    """Return the rows of eval.csv without times."""
    with open(folder / "eval.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in VARYING} for row in csv.DictReader(file)]


def digests(folder: Path) -> list[str]:
    """Return the sorted hashes of the tensors in the newest checkpoint, and of the exported encoder if there is one."""
    newest = max((folder / "checkpoints").glob("*/tensors.safetensors"), key=lambda path: path.parent.name)
    found = [tensor for path in (newest, *folder.glob("encoder.safetensors")) for tensor in load_file(path).values()]
    return sorted(hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16] for tensor in found)


def record(folder: Path, part: str, only: str) -> None:
    """Write what is to be compared later."""
    folder.mkdir(parents=True, exist_ok=True)
    if part != "runs":
        configs = {f"{e.__module__}: {' '.join(w)}": (e, w) for e, w in config_cases()}
        write(folder / "configs.json", {key: composed(*case) for key, case in configs.items() if only in key})
    if part != "configs":
        runs = {name: (entry, words) for name, entry, words in run_cases() if only in name}
        write(folder / "runs.json", {name: played(*case) for name, case in runs.items()})


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Add results to a recording and say how many there are, and how many of them are error lines."""
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **found}, indent=0, sort_keys=True))
    refused = sum(isinstance(value, str) for value in found.values())
    print(f"{path}: {len(found)}, of which {refused} are refused", flush=True)


def compare(old: Path, new: Path, only: str) -> int:
    """Print what differs between two recordings, as far as both go; return 1 if anything does."""
    count = differing = 0
    for name in ("configs.json", "runs.json"):
        if not ((old / name).exists() and (new / name).exists()):
            continue
        left, right = (json.loads((folder / name).read_text()) for folder in (old, new))
        for key in sorted(key for key in left.keys() & right.keys() if only in key):
            lines = list(differences(left[key], right[key]))
            count, differing = count + 1, differing + bool(lines)
            for line in lines[:5]:
                print(f"{key}: {line}")
    print(f"{count} compared, {differing} differ")
    return 1 if differing else 0


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield where two trees differ; of tensors' digests, how many are in one alone."""
    if path == "tensors" and isinstance(old, list):
        gone, come = set(old) - set(new), set(new) - set(old)
        if gone or come:
            yield f"{len(gone)} of {len(old)} tensors are gone, {len(come)} of {len(new)} are new"
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}".strip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif old != new:
        yield f"{path} was {str(old)[:100]}, is {str(new)[:100]}"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--part", choices=("configs", "runs", "both"), default="both")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    given = parser.parse_args()
    if given.what == "compare":
        old, new = given.folders
        return compare(old, new, given.only)
    record(given.folders[0], given.part, given.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
