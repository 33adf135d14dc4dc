"""Updates per second of Rainbow, SPR, SR-SPR, BBF and SAC-BBF as their files have them, compiled and eagerly.

    python -m benchmarks.rainbow_bases [--rounds 3] [--seconds 5] [--arms rainbow,spr] [--replay 5000]

A full update of batch 32 with the agent's own encoder, views and head, on a full replay of `--replay` transitions.
Every round times every arm in turn, each in a process of its own. Operations are matrix products and convolutions,
counted while an update runs. Writes results/rainbow_bases_DEVICE.json.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents.rainbow import Rainbow
from rlrep.config.compose import compose_run
from rlrep.contract.agent import AgentSpec, CompileMode
from rlrep.process.machine import keep_large_blocks, set_threads

from . import peers, result
from .rainbow_speed import fill
from .timing import UPDATES, Rounds, apart, operations, rate

AGENTS = ("rainbow", "spr", "sr_spr", "bbf", "sac_bbf")
EAGER = "_eager"
COUNTED = 600  # transitions behind the update whose operations are counted
COLUMNS = ("agent", "updates/s", "eagerly", "compiled / eager", "GFLOP an update", "trained parameters")


def make_agent(name: str, mode: CompileMode, device: str, replay: int, *words: str) -> Rainbow:
    """Build `agent=NAME` for a game, with a full replay."""
    config: Any = compose_run(["env=atari_pong", f"agent={name}", *words]).config
    agent: Rainbow = replace(config.agent, capacity=replay).make(
        AgentSpec(
            spaces.Box(0, 255, (4, 84, 84), np.uint8),
            spaces.Discrete(peers.ACTIONS),
            config.encoder,
            config.augment,
            config.aux,
            torch.device(device),
            compile=mode,
            frame_stack=4,
        )
    )
    fill(agent, replay)
    return agent


def measure(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """Time one arm in this process."""
    set_threads()
    keep_large_blocks()
    name, eager = arm.removesuffix(EAGER), arm.endswith(EAGER)
    compiled: CompileMode = "cudagraph" if options.device == "cuda" else "default"
    agent = make_agent(name, "off" if eager else compiled, options.device, options.replay)
    # Noise adds no product; without it layers hand on plain parameters, on which torch's counter fails.
    noisy = make_agent(name, "off", options.device, COUNTED, "agent.noisy=true") if eager else agent
    counts = {"gflop_per_update": operations(noisy.update)} if eager else {}
    started = time.perf_counter()
    for _ in range(3):  # compiles, or captures graphs
        agent.update()
    warm = time.perf_counter() - started
    parameters = sum(len(p.flatten()) for adam in agent.optimisers.adams.values() for p in adam.parameters)
    found = {UPDATES: rate(agent.update, options.device, options.seconds, stretch=1)}
    return {**counts, **found, "start_seconds": warm, "parameters": float(parameters)}


def table_row(name: str, arms: dict[str, Any]) -> list[str]:
    """Return an agent's line."""
    compiled, eager = arms[name], arms[name + EAGER]
    return [
        f"`agent={name}`",
        f"{compiled[UPDATES]:.3g}",
        f"{eager[UPDATES]:.3g}",
        f"{compiled['ratio']:.2f}",
        f"{eager['gflop_per_update']:.3g}",
        f"{compiled['parameters']:,.0f}",
    ]


def main() -> None:
    """Parse the command line and run."""
    parser = result.timing(__doc__, seconds=5.0)
    parser.add_argument("--replay", type=int, default=5000, help="transitions")
    parser.add_argument("--arms", default=",".join(AGENTS), help=f"of {', '.join(AGENTS)}")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    names = options.arms.split(",")
    arms = [arm for name in names for arm in (name, name + EAGER)]
    rounds = Rounds(arms, options.rounds, lambda arm: apart("rainbow_bases", arm, options, "replay"))
    found = {arm: {**rounds.median(arm), **rounds.ratio(arm, arm.removesuffix(EAGER) + EAGER)} for arm in arms}
    result.save(
        options.results / f"rainbow_bases_{options.device}.json",
        COLUMNS,
        [table_row(name, found) for name in names],
        limits=f"Medians of {options.rounds} rounds, each arm in a process of its own; {options.replay:,} transitions.",
        more={"replay": options.replay, "arms": found},
    )


if __name__ == "__main__":
    main()
