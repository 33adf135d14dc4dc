"""Full Rainbow updates per second at batch 32, and milliseconds per action, beside Kaixhin/Rainbow's own code.

    python -m benchmarks.rainbow_speed --rainbow CHECKOUT [--device cuda] [--replay 100000] [--rounds 5] [--arms none]

A full update samples by priority, augments, differentiates, steps and hands the priorities back; data-efficient sizes,
a replay of `--replay` transitions that is full. Every round times every arm in turn, each in a process of its own;
ratios are taken round by round. Writes results/rainbow_speed_DEVICE.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents.rainbow import Rainbow, RainbowConfig
from rlrep.config.make import load_component
from rlrep.contract.agent import AgentSpec, CompileMode
from rlrep.process.machine import keep_large_blocks, set_threads

from . import peers, result
from .random_play import one_step
from .timing import UPDATES, Rounds, apart, rate

PEER = "kaixhin"
ARMS: dict[str, tuple[str, ...]] = {
    "none": (),
    "curl": ("curl",),
    "curl+return_contrast": ("curl", "return_contrast"),
    "none_bf16": (),
    "none_eager": (),
}
"""What is timed beside the peer: heads, by name. Compiled as `compile=auto` does, but for the last."""
COLUMNS = ("Rainbow, batch 32", "updates/s", "against Kaixhin's", "ms per action", "start and compile, s")
FRAMES = 64  # different observations in the synthetic replay


def make_agent(arm: str, device: str, replay: int) -> Rainbow:
    """Build our agent with a full replay of synthetic transitions in episodes of 300 steps."""
    mode: CompileMode = "off" if arm.endswith("_eager") else "cudagraph" if device == "cuda" else "default"
    precision: Literal["float32", "bf16"] = "bf16" if arm.endswith("_bf16") else "float32"
    agent = RainbowConfig(capacity=replay, precision=precision).make(
        AgentSpec(
            spaces.Box(0, 255, (4, 84, 84), np.uint8),
            spaces.Discrete(peers.ACTIONS),
            frame_stack=4,
            encoder=load_component("encoder", "der"),
            augment=load_component("augment", "none"),
            aux={name: load_component("aux", name, cases=("atari",)) for name in ARMS[arm]},
            device=torch.device(device),
            compile=mode,
        )
    )
    fill(agent, replay)
    return agent


def fill(agent: Rainbow, replay: int) -> None:
    """Store `replay` transitions, a reward in 50."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 1, 4, 84, 84), np.uint8)
    agent.begin(frames[0])
    for step in range(replay):
        obs = frames[step % FRAMES]
        outcome = one_step(obs, obs, float(step % 50 == 0), terminated=step % 300 == 299)
        agent.observe(np.array([step % peers.ACTIONS]), outcome)


def measure(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """Time one arm in this process."""
    set_threads()
    started = time.perf_counter()
    update: peers.Update
    act: peers.Update
    if arm == PEER:
        update, act = peers.rainbow(options.rainbow, options.device, options.replay)
    else:
        keep_large_blocks()
        agent = make_agent(arm, options.device, options.replay)
        obs = np.zeros((1, 4, 84, 84), np.uint8)
        update, act = agent.update, lambda: agent.act(obs, explore=True)
    filled = time.perf_counter()
    for _ in range(10):  # compiles, or captures graphs
        update()
    return {
        "fill_seconds": filled - started,
        "start_seconds": time.perf_counter() - filled,
        UPDATES: rate(update, options.device, options.seconds, stretch=20),
        "act_milliseconds": 1000 / rate(act, options.device, 0.2 * options.seconds, stretch=20),
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time every arm in turn, `rounds` times."""
    arms = [*options.arms.split(","), *([PEER] if options.rainbow else [])]
    rounds = Rounds(arms, options.rounds, lambda arm: apart("rainbow_speed", arm, options, "rainbow", "replay"))
    return {arm: {**rounds.median(arm), **(rounds.ratio(arm, PEER) if options.rainbow else {})} for arm in arms}


def table_row(arm: str, found: dict[str, Any]) -> list[str]:
    """Return a line of the README's table."""
    names = {
        PEER: "Kaixhin/Rainbow",
        "none": "ours, no head",
        "none_bf16": "ours, no head, bf16",
        "none_eager": "ours, eager",
    }
    return [
        names.get(arm, f"ours, {arm}"),
        f"{found[UPDATES]:.0f}",
        f"{found['ratio']:.2f}" if "ratio" in found else "",
        f"{found['act_milliseconds']:.2f}",
        f"{found['start_seconds']:.0f}",
    ]


def main() -> None:
    """Parse the command line and run."""
    parser = result.timing(__doc__, seconds=5.0)
    parser.add_argument("--rainbow", type=Path, help="checkout of Kaixhin/Rainbow; without it only ours is timed")
    parser.add_argument(
        "--replay", type=int, default=100_000, help="transitions; a million take 7 GB, twice with the peer's"
    )
    parser.add_argument("--arms", default=",".join(ARMS), help=f"of {', '.join(ARMS)}")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    found = compare(options)
    result.save(
        options.results / f"rainbow_speed_{options.device}.json",
        COLUMNS,
        [table_row(arm, each) for arm, each in found.items()],
        limits=f"Medians of {options.rounds} rounds, each arm in a process of its own; "
        f"{options.replay:,} transitions stored.",
        more={"replay": options.replay, "arms": found},
    )


if __name__ == "__main__":
    main()
