"""Updates per second of all runs of a fleet, beside the same runs one after another.

    python -m benchmarks.fleet_speed [--device cuda] [--rounds 5] [--runs 2,8] [--cases state,rainbow,...]

Every round times both in turn, each in a process of its own: the fleet, whose updates are computed as one, and a single
run, whose updates per second are those of all runs together when they take turns on one device. Ratios are taken round
by round and their median is quoted. Writes results/fleet_speed_DEVICE.json.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents import OnlineAgent
from rlrep.agents.rainbow import RainbowConfig
from rlrep.agents.sac import SACConfig
from rlrep.contract.agent import AgentSpec
from rlrep.heads import HeadConfig, InstanceContrast, ReturnContrast
from rlrep.nn import IdentityConfig, PixelEncoderConfig
from rlrep.process.machine import keep_large_blocks, set_threads
from rlrep.views import NoAugment, NoChange

from . import result
from .random_play import one_step
from .timing import UPDATES, Rounds, apart, rate

STATES, ACTIONS, STORED = 17, 6, 600
HEADS: dict[str, HeadConfig] = {"curl": InstanceContrast(), "return_contrast": ReturnContrast()}
CASES = {
    "state": "SAC on states, batch 256, width 256",
    "rainbow": "data-efficient Rainbow, batch 32",
    "rainbow_heads": "data-efficient Rainbow + curl + return_contrast",
}
COLUMNS = ("what", "runs", "run-updates/s, fleet", "updates/s, in turn", "ratio")
Agent = OnlineAgent[Any]


def make_agent(case: str, device: str, seed: int) -> Agent:
    """Build an agent with random transitions in its replay."""
    pixels = case != "state"
    shape = (4, 84, 84) if pixels else (STATES,)
    space = spaces.Box(0, 255, shape, np.uint8) if pixels else spaces.Box(-np.inf, np.inf, shape, np.float32)
    encoder = PixelEncoderConfig(strides=(5, 5), channels=(32, 64), kernels=(5, 5), trunk="none", init="torch")
    actions = spaces.Discrete(ACTIONS) if pixels else spaces.Box(-1, 1, (ACTIONS,), np.float32)
    spec = AgentSpec(
        space,
        actions,
        frame_stack=4 if pixels else 1,
        encoder=encoder if pixels else IdentityConfig(),
        augment=NoAugment(84) if pixels else NoChange(),
        aux=HEADS if case == "rainbow_heads" else {},
        device=torch.device(device),
        seed=seed,
        compile="cudagraph" if device == "cuda" else "off",
    )
    config = RainbowConfig(capacity=1000) if pixels else SACConfig(hidden_dim=256, batch_size=256, capacity=1000)
    agent: Agent = config.make(spec)
    fill(agent, space, actions)
    return agent


def fill(agent: Agent, space: spaces.Box, actions: Any) -> None:
    """Store random transitions in episodes of 125 steps."""
    rng = np.random.default_rng(0)
    space.seed(0)
    actions.seed(0)
    agent.begin(space.sample()[None])
    for step in range(STORED):
        obs, following = space.sample()[None], space.sample()[None]
        outcome = one_step(obs, following, rng.random(dtype=np.float32), truncated=step % 125 == 124)
        agent.observe(np.asarray(actions.sample())[None], outcome)


def measure(case: str, runs: int, device: str, seconds: float) -> dict[str, float]:
    """Time a fleet of so many runs, or one run alone, in this process: updates of all its runs per second."""
    set_threads()
    keep_large_blocks()
    agents = [make_agent(case, device, seed) for seed in range(runs)]
    joint = agents[0].fleet()
    call: Callable[[], None] = agents[0].update if runs == 1 else lambda: joint(agents)
    for _ in range(10 if device == "cuda" else 4):  # captures graphs
        call()
    return {UPDATES: runs * rate(call, device, seconds)}


def compare(case: str, runs: int, options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways in turn, `rounds` times."""
    rounds = Rounds((str(runs), "1"), options.rounds, lambda n: apart("fleet_speed", f"{case}:{n}", options))
    found = {"fleet": rounds.median(str(runs)), "in_turn": rounds.median("1"), **rounds.ratio(str(runs), "1")}
    print(" | ".join(table_row(case, runs, found)), flush=True)
    return found


def table_row(case: str, runs: int, found: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    rates = [f"{found[way][UPDATES]:.1f}" for way in ("fleet", "in_turn")]
    return [CASES[case], str(runs), *rates, f"{found['ratio']:.2f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = result.timing(__doc__, seconds=5.0)
    parser.add_argument("--runs", default="2,8", help="of a fleet, several sizes joined by commas")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    options = parser.parse_args(argv)
    if options.measure:
        case, _, runs = options.measure.partition(":")
        print(json.dumps(measure(case, int(runs), options.device, options.seconds)))
        return
    sizes = [int(size) for size in options.runs.split(",")]
    found = {(case, runs): compare(case, runs, options) for case in options.cases.split(",") for runs in sizes}
    result.save(
        options.results / f"fleet_speed_{options.device}.json",
        COLUMNS,
        [table_row(*key, each) for key, each in found.items()],
        limits=f"Medians of {options.rounds} rounds; each round times both in turn, in processes of their own. Updates "
        f"alone, draws included, without simulators; on a CPU nothing is compiled, on a GPU both are CUDA graphs.",
        more={"rounds": options.rounds, "cases": {f"{case}x{runs}": each for (case, runs), each in found.items()}},
    )


if __name__ == "__main__":
    main()
