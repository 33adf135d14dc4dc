"""Minutes that a whole game of Atari-100k takes: acting, stepping and learning through the command line, on all cores.

    python -m benchmarks.atari_game [--game krull] [--agent-steps 8000] [--device cuda]

The rate is that of a shorter run, between two of its log rows after everything is compiled; 100,000 agent steps are
extrapolated from it. Evaluations are aside. Writes results/atari_game_DEVICE.json.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from . import machine, result

ARMS = {"no head": "none", "curl + return_contrast": "[curl,return_contrast]"}
LENGTH, SKIPPED = 100_000, 3_000
COLUMNS = ("heads", "agent steps/s", "updates/s", "update", "acting", "minutes for 100,000 agent steps")


def timed(game: str, aux: str, agent_steps: int, device: str, out: Path) -> dict[str, float]:
    """Train and return rates between agent step SKIPPED and the end."""
    words = [f"env=atari_{game}", f"aux={aux}", f"train.agent_steps={agent_steps}", f"device={device}", f"out={out}"]
    words += ["train.eval_every=0", "train.final_episodes=1", "train.log_every=1000", "video=false", "logger=none"]
    # As a run of full length is compiled, by the rule for its updates.
    words += ["compile=cudagraph" if device == "cuda" else "compile=default"]
    subprocess.run([sys.executable, "-m", "rlrep.train", *words], cwd=machine.ROOT, check=True)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["agent_steps"] >= SKIPPED]
    seconds = rows[-1]["wall_seconds"] - rows[0]["wall_seconds"]
    steps = rows[-1]["agent_steps"] - rows[0]["agent_steps"]
    updates = rows[-1]["updates"] - rows[0]["updates"]
    share = {name: sum(row[f"perf/{name}_share"] for row in rows) / len(rows) for name in ("update", "act")}
    return {"agent_steps_per_second": steps / seconds, "updates_per_second": updates / seconds, **share}


def main() -> None:
    """Time the arms and write the result."""
    parser = result.command_line(__doc__)
    parser.add_argument("--game", default="krull")
    parser.add_argument("--agent-steps", type=int, default=8_000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, aux) in enumerate(ARMS.items()):
            out = Path(folder) / str(index)
            found[name] = timed(options.game, aux, options.agent_steps, options.device, out)
    result.save(
        options.results / f"atari_game_{options.device}.json",
        COLUMNS,
        [cells(name, rates) for name, rates in found.items()],
        limits=f"{options.game}, one run of {options.agent_steps:,} agent steps each; evaluations aside.",
        more={"arms": found},
    )


def cells(name: str, rates: dict[str, float]) -> list[str]:
    """Return one row of the table."""
    speed = rates["agent_steps_per_second"]
    shares = [f"{rates['update']:.0%}", f"{rates['act']:.0%}"]
    return [name, f"{speed:.0f}", f"{rates['updates_per_second']:.0f}", *shares, f"{LENGTH / speed / 60:.0f}"]


if __name__ == "__main__":
    main()
