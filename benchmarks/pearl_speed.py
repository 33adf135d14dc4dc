"""Meta-RL updates per second over all tasks of a meta-batch, beside a plain eager implementation of the same equations.

    python -m benchmarks.pearl_speed [--device cuda] [--rounds 5] [--cases tcl,pearl]

An update samples (RL batch, contexts, windows of the head), differentiates, steps and moves the targets. `tcl` is the
size of Trajectory Contrastive Learning's authors, with its head; `pearl` that of PEARL's code. Every round times ours
and the peer in turn, each in a process of its own; ratios are taken round by round and their median is quoted.
Operations are those of the matrix products of one of our updates, counted while it runs eagerly, and set against the
best rate that the same process reaches in plain products. Writes results/pearl_speed_DEVICE.json.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents.pearl import PEARL, PEARLConfig
from rlrep.config.make import load_component
from rlrep.contract.agent import AgentSpec, CompileMode
from rlrep.contract.env import Task
from rlrep.contract.meta import Trajectory
from rlrep.nn import IdentityConfig
from rlrep.process.machine import keep_large_blocks, set_threads
from rlrep.views import NoChange

from . import result
from .pearl_eager import EagerPEARL
from .timing import UPDATES, Rounds, apart, counted, operations, rate

HORIZON, EPISODES = 200, 10
ARMS = ("ours", "eager")
COLUMNS = ("what", "updates/s", "eager", "ratio", "GFLOP per update", "GFLOP/s", "of the best rate", "compile, s")


@dataclass(frozen=True)
class Case:
    """What is timed. tasks: to draw the meta-batch of `config` from."""

    what: str
    obs_dim: int
    action_dim: int
    config: PEARLConfig
    aux: tuple[str, ...] = ()
    tasks: int = 50


TCL = PEARLConfig(
    latent_dim=7,
    hidden_dim=400,
    context_hidden_dim=400,
    context_size=128,
    context_draw="window",
    reward_scale=10.0,
    capacity=200_000,
    kl_reduction="mean",
)
PLAIN = PEARLConfig(context_size=100, capacity=200_000, kl_reduction="mean")
PEERS = {"pull": "sum", "similarity": "bilinear"}
"""The head as the eager peer has it: one Adam for everything, and a dot product."""
CASES = {
    "tcl": Case("PEARL + TCL, 400 units, context 128", 39, 4, TCL, ("trajectory_contrast",)),
    "pearl": Case("PEARL, 300 units, context 100", 20, 6, PLAIN),
}


def make_agent(case: Case, device: str, compile: CompileMode) -> PEARL:
    """Build our agent, its replay still empty."""
    agent = case.config.make_meta(
        AgentSpec(
            spaces.Box(-np.inf, np.inf, (case.obs_dim,), np.float32),
            spaces.Box(-1, 1, (case.action_dim,), np.float32),
            tasks=[Task(str(index), {}, (float(index),)) for index in range(case.tasks)],
            horizon=HORIZON,
            encoder=IdentityConfig(),
            augment=NoChange(),
            aux={name: load_component("aux", name, PEERS) for name in case.aux},
            device=torch.device(device),
            compile=compile,
        )
    )
    return agent


def fill(agent: PEARL | EagerPEARL, case: Case, episodes: int = EPISODES) -> None:
    """Store random episodes of every task."""
    rng = np.random.default_rng(0)
    for index in range(case.tasks * episodes):
        obs = rng.standard_normal((HORIZON + 1, case.obs_dim), np.float32)
        action = rng.uniform(-1, 1, (HORIZON, case.action_dim)).astype(np.float32)
        reward = rng.random(HORIZON, np.float32)
        agent.observe(index % case.tasks, Trajectory(obs, action, reward, reward, False), context=True)


def make_eager(case: Case, device: str) -> EagerPEARL:
    """Build the peer for the same sizes, its replay still empty."""
    return EagerPEARL(
        case.config,
        obs_dim=case.obs_dim,
        action_dim=case.action_dim,
        tasks=case.tasks,
        head=load_component("aux", case.aux[0], PEERS) if case.aux else None,
        device=torch.device(device),
    )


def measure(name: str, arm: str, device: str, seconds: float) -> dict[str, float]:
    """Time one arm of a case in this process; ours also says what this process can do at best."""
    set_threads()
    case = CASES[name]
    if arm == "ours":
        keep_large_blocks()
    agent = make_agent(case, device, "cudagraph" if device == "cuda" else "default") if arm == "ours" else None
    learner = agent or make_eager(case, device)
    fill(learner, case)
    started = time.perf_counter()
    for _ in range(10 if device == "cuda" else 3):  # compiles, or captures graphs
        learner.update()
    found = {"start_seconds": time.perf_counter() - started}
    found[UPDATES] = rate(learner.update, device, seconds)
    if agent:
        if device == "cpu":  # the operations are the same elsewhere
            found["gflop_per_update"] = count(case)
        found |= best_rates(device, case.config)
    return found


def count(case: Case) -> float:
    """Count the GFLOP of one update's matrix products (2 operations per multiply-add)."""
    agent = make_agent(case, "cpu", "off")
    fill(agent, case, episodes=1)
    return operations(agent.update)


def best_rates(device: str, config: PEARLConfig) -> dict[str, float]:
    """Return GFLOP/s of a large square matrix product, and of a hidden layer's."""
    rows, width = config.meta_batch * config.batch_size, config.hidden_dim
    found = {}
    for name, (m, n, k) in {"square": (2048, 2048, 2048), "layer": (rows, width, width)}.items():
        a, b = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
        found[f"{name}_gflops"] = 2e-9 * m * n * k * rate(lambda a=a, b=b: torch.mm(a, b), device, 1.0)  # type: ignore[misc]
    return found


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time both arms of a case in turn, `rounds` times."""
    rounds = Rounds(ARMS, options.rounds, lambda arm: apart("pearl_speed", f"{name}:{arm}", options))
    found = {**{arm: rounds.median(arm) for arm in ARMS}, **rounds.ratio(*ARMS), **rounds.shares("ours")}
    print(" | ".join(table_row(name, found)), flush=True)
    return found


def table_row(name: str, found: dict[str, Any]) -> list[str]:
    """Return a line of the README's table."""
    ours = found["ours"]
    return [
        CASES[name].what,
        f"{ours[UPDATES]:.2f}",
        f"{found['eager'][UPDATES]:.2f}",
        f"{found['ratio']:.2f}",
        f"{ours['gflop_per_update']:.1f}" if "gflop_per_update" in ours else "",
        *counted(found),
        f"{ours['start_seconds']:.0f}",
    ]


def main() -> None:
    """Parse the command line and run."""
    parser = result.timing(__doc__, seconds=10.0)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    options = parser.parse_args()
    if options.measure:
        name, arm = options.measure.split(":")
        print(json.dumps(measure(name, arm, options.device, options.seconds)))
        return
    cases = {name: compare(name, options) for name in options.cases.split(",")}
    result.save(
        options.results / f"pearl_speed_{options.device}.json",
        COLUMNS,
        [table_row(name, case) for name, case in cases.items()],
        limits=f"Medians of {options.rounds} rounds, each arm in a process of its own; 16 tasks of "
        f"{CASES['tcl'].tasks} with 256 transitions each. GFLOP: of the matrix products in one of ours. The best rate: "
        "a matrix product of 2048 a side, or a hidden layer's on the whole batch, in the same process.",
        more={"rounds": options.rounds, "cases": cases},
    )


if __name__ == "__main__":
    main()
