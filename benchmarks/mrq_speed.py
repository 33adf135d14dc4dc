"""Updates per second of MR.Q on states beside a plain eager implementation of the same equations.

    python -m benchmarks.mrq_speed [--rounds 5] [--sizes paper,cpu]

An update draws, differentiates and steps, its share of the model's phases included (of ten steps, for as many updates,
so that a stretch of timing holds whole ones). Every round times every arm in turn, each in a process of its own;
ratios are taken round by round. Operations are counted, and set against a plain product's rate in the same process.
Writes results/mrq_speed_DEVICE.json.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents.mrq import MRQ, MRQConfig
from rlrep.contract.agent import AgentSpec, CompileMode
from rlrep.nn import EluMLPConfig
from rlrep.process.machine import keep_large_blocks, set_threads
from rlrep.views import NoChange

from . import peers, result
from .mrq_eager import Eager
from .timing import UPDATES, Rounds, apart, counted, operations, rate
from .update_speed import STATES, fill

PHASE = 10
SIZES = {
    "paper": (MRQConfig(capacity=2000, target_every=PHASE), EluMLPConfig()),
    "cpu": (
        MRQConfig(hidden_dim=256, action_width=64, batch_size=128, capacity=2000, target_every=PHASE),
        EluMLPConfig(256, 128),
    ),
}
"""Of the presets. The eager peer's encoder has hidden layers as wide as its other networks'."""
ARMS: dict[str, CompileMode | None] = {"compiled": "default", "eager": "off", "plain": None}
COLUMNS = ("MR.Q on states", "updates/s", "against plain eager", "GFLOP/s", "of the best rate", "start and compile, s")


def make_agent(size: str, compile: CompileMode) -> MRQ:
    """Build our agent with 1,000 random transitions in its replay."""
    config, encoder = SIZES[size]
    observed = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
    acted = spaces.Box(-1, 1, (peers.ACTIONS,), np.float32)
    agent = config.make(AgentSpec(observed, acted, encoder=encoder, augment=NoChange(), compile=compile))
    fill(agent, (STATES,))
    return agent


def measure(arm: str, seconds: float) -> dict[str, float]:
    """Time one arm in this process."""
    set_threads()
    size, way = arm.split(":")
    started, mode = time.perf_counter(), ARMS[way]
    if mode is None:
        config, encoder = SIZES[size]
        update = Eager(config, STATES, peers.ACTIONS, encoder.latent_dim).update
    else:
        keep_large_blocks()
        update = make_agent(size, mode).update
    for _ in range(PHASE):
        update()
    found = {"start_seconds": time.perf_counter() - started}
    found[UPDATES] = rate(update, "cpu", seconds, stretch=PHASE)
    if mode is not None:
        found["gflop_per_update"] = operations(make_agent(size, "off").update, times=PHASE)
        a, b = torch.randn(2, 2048, 2048).unbind()
        found["product_gflops"] = 2 * 2048**3 * rate(lambda: a @ b, "cpu", 0.5) / 1e9
    return found


def compare(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time every arm in turn, `rounds` times."""
    rounds = Rounds(list(ARMS), options.rounds, lambda arm: apart("mrq_speed", f"{size}:{arm}", options))
    return {arm: {**rounds.median(arm), **rounds.ratio(arm, "plain"), **rounds.shares(arm)} for arm in ARMS}


def table_row(size: str, arm: str, found: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    named = "plain eager" if ARMS[arm] is None else f"ours, {arm}"
    cells = (f"{found[UPDATES]:.1f}", f"{found['ratio']:.2f}", *counted(found), f"{found['start_seconds']:.0f}")
    return [f"{named}, preset={size}", *cells]


def main() -> None:
    """Parse the command line and run."""
    parser = result.timing(__doc__, seconds=20.0)
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"of {', '.join(SIZES)}")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.seconds)))
        return
    found = {size: compare(size, options) for size in options.sizes.split(",")}
    rows = [table_row(size, arm, each) for size, arms in found.items() for arm, each in arms.items()]
    limits = f"Medians of {options.rounds} rounds, each arm in a process of its own; 1,000 transitions stored."
    result.save(options.results / f"mrq_speed_{options.device}.json", COLUMNS, rows, limits=limits, more=found)


if __name__ == "__main__":
    main()
