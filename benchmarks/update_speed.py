"""Updates per second of SAC and its heads, beside CURL's own code (pixels) and Stable-Baselines3 (states), on the
same sizes.

    python -m benchmarks.update_speed --curl CHECKOUT [--device cuda] [--rounds 5] [--cases pixels64,...]

Every round times ours and the peer in turn, each in a process of its own; ratios are taken round by round and their
median is quoted. Operations are counted while an update runs (matrix products and convolutions), and set against the
rates that the same process reaches in a plain product and in the encoder's largest convolution. Writes
results/update_speed_DEVICE.json.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents import OnlineAgent
from rlrep.agents.sac import SAC, SACConfig
from rlrep.contract.agent import AgentSpec, CompileMode
from rlrep.heads import HeadConfig, InstanceContrast, ReturnContrast
from rlrep.nn import IdentityConfig, PixelEncoderConfig
from rlrep.process.machine import keep_large_blocks, set_threads
from rlrep.views import NoChange, RandomCrop

from . import peers, result
from .random_play import one_step
from .timing import UPDATES, Rounds, apart, counted, operations, rate

STATES = 17
HEADS: dict[str, HeadConfig] = {"curl": InstanceContrast(), "return_contrast": ReturnContrast()}
SB3_SIZES = SACConfig(
    hidden_dim=256,
    batch_size=256,
    capacity=2000,
    lr=3e-4,
    alpha_lr=3e-4,
    alpha_beta1=0.9,
    temperature_loss="log_alpha",
    critic_tau=0.005,
    actor_every=1,
    target_every=1,
    log_std_bound="clamp",
    init="torch",
)


@dataclass(frozen=True)
class Arm:
    """Something that updates. aux: heads, joined by `+`; peer: whose code, if not ours."""

    pixels: bool
    batch: int
    aux: str = ""
    precision: Literal["float32", "bf16"] = "float32"
    peer: str = ""


SIDES = ("ours", "against")
PRECISIONS: dict[str, Literal["float32", "bf16"]] = {"": "float32", "_bf16": "bf16"}
PEERS = {"curl": "CURL's code", "sb3": "Stable-Baselines3's SAC"}
COLUMNS = ("what", "updates/s", "against", "updates/s", "ratio", "GFLOP/s", "of the best rate", "start and compile, s")
CASES = {
    f"pixels{batch}{label}": (Arm(True, batch, "curl", precision), Arm(True, batch, peer="curl"))
    for batch in (64, 128)
    for label, precision in PRECISIONS.items()
} | {
    "return_contrast64": (Arm(True, 64, "return_contrast"), Arm(True, 64, "curl")),
    "plain64": (Arm(True, 64), Arm(True, 64, "curl")),
    "state256": (Arm(False, 256), Arm(False, 256, peer="sb3")),
}
"""What is timed, and what it is set against."""


def make_agent(arm: Arm, device: str, compile: CompileMode) -> SAC:
    """Build our agent in the peer's sizes, with 1,000 random transitions in its replay."""
    shape = (9, 100, 100) if arm.pixels else (STATES,)
    space = spaces.Box(0, 255, shape, np.uint8) if arm.pixels else spaces.Box(-np.inf, np.inf, shape, np.float32)
    config = SACConfig(batch_size=arm.batch, capacity=2000, precision=arm.precision) if arm.pixels else SB3_SIZES
    agent = config.make(
        AgentSpec(
            space,
            spaces.Box(-1, 1, (peers.ACTIONS,), np.float32),
            frame_stack=3 if arm.pixels else 1,
            encoder=PixelEncoderConfig() if arm.pixels else IdentityConfig(),
            augment=RandomCrop(84) if arm.pixels else NoChange(),
            aux={name: HEADS[name] for name in arm.aux.split("+") if name},
            device=torch.device(device),
            compile=compile,
        )
    )
    fill(agent, shape)
    return agent


def execution(arm: Arm, device: str) -> CompileMode:
    """Return what `compile=auto` stands for in a long run."""
    if device == "cuda":
        return "cudagraph"
    return "off" if arm.pixels else "default"


def fill(agent: OnlineAgent[Any], shape: tuple[int, ...], steps: int = 1000) -> None:
    """Store random transitions in episodes of 125 steps."""
    rng = np.random.default_rng(0)
    pixels = len(shape) == 3

    def observe() -> np.ndarray[Any, Any]:
        return rng.integers(0, 256, (1, *shape), np.uint8) if pixels else rng.standard_normal((1, *shape), np.float32)

    agent.begin(observe())
    for step in range(steps):
        outcome = one_step(observe(), observe(), rng.random(dtype=np.float32), truncated=step % 125 == 124)
        agent.observe(rng.uniform(-1, 1, (1, peers.ACTIONS)).astype(np.float32), outcome)


def measure(arm: Arm, device: str, curl: Path | None, seconds: float) -> dict[str, float]:
    """Time one arm in this process, and say what this process can do at best."""
    set_threads()
    if not arm.peer:
        keep_large_blocks()
    started = time.perf_counter()
    update: peers.Update
    if arm.peer == "curl":
        assert curl is not None
        update = peers.curl_update(curl, arm.batch, device)
    elif arm.peer == "sb3":
        update = peers.sb3_update(arm.batch, device, STATES)
    else:
        update = make_agent(arm, device, execution(arm, device)).update
    for _ in range(10 if device == "cuda" else 4):  # compiles, or captures graphs
        update()
    found = {"start_seconds": time.perf_counter() - started, UPDATES: rate(update, device, seconds)}
    if not arm.peer:
        if device == "cpu":  # the operations are the same elsewhere
            found["gflop_per_update"] = operations(make_agent(arm, "cpu", "off").update, times=2)
        found |= best_rates(device, arm)
    return found


def best_rates(device: str, arm: Arm) -> dict[str, float]:
    """Return GFLOP/s of a matrix product (the state networks' size, or 2048) and of the encoder's largest
    convolution."""
    side, many = (2048, 1) if arm.pixels else (256, 64)
    a, b = torch.randn(2, many, side, side, device=device).unbind()
    products = 2 * many * side**3 * rate(lambda: torch.bmm(a, b), device, 0.5) / 1e9
    if not arm.pixels:
        return {"product_gflops": products}
    x, w = (
        torch.randn(shape, device=device).to(memory_format=torch.channels_last)
        for shape in ((64, 32, 41, 41), (32, 32, 3, 3))
    )
    work = 2 * 64 * 39 * 39 * 32 * 32 * 9
    with torch.no_grad():
        return {
            "product_gflops": products,
            "convolution_gflops": work * rate(lambda: torch.conv2d(x, w), device, 0.5) / 1e9,
        }


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time both arms of a case in turn, `rounds` times."""
    rounds = Rounds(SIDES, options.rounds, lambda side: apart("update_speed", f"{name}:{side}", options, "curl"))
    found = {**{side: rounds.median(side) for side in SIDES}, **rounds.ratio(*SIDES), **rounds.shares("ours")}
    print(" | ".join(table_row(name, found)), flush=True)
    return found


def table_row(name: str, case: dict[str, Any]) -> list[str]:
    """Return a line of the README's table."""
    ours, theirs = CASES[name]
    return [
        describe(ours),
        f"{case['ours'][UPDATES]:.2f}",
        describe(theirs),
        f"{case['against'][UPDATES]:.2f}",
        f"{case['ratio']:.2f}",
        *counted(case),
        f"{case['ours']['start_seconds']:.0f}",
    ]


def describe(arm: Arm) -> str:
    """Return an arm in words."""
    if arm.peer:
        return f"{PEERS[arm.peer]}, batch {arm.batch}"
    what = "pixels" if arm.pixels else "states"
    heads = f" + {arm.aux}" if arm.aux else ""
    return f"SAC{heads} on {what}, batch {arm.batch}" + (", bf16" if arm.precision == "bf16" else "")


def main() -> None:
    """Parse the command line and run."""
    parser = result.timing(__doc__, seconds=5.0)
    parser.add_argument("--curl", type=Path, help="checkout of MishaLaskin/curl; without it its cases are left out")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    options = parser.parse_args()
    if options.measure:
        name, side = options.measure.split(":")
        arm = CASES[name][SIDES.index(side)]
        print(json.dumps(measure(arm, options.device, options.curl, options.seconds)))
        return
    names = [name for name in options.cases.split(",") if options.curl or CASES[name][1].peer != "curl"]
    cases = {name: compare(name, options) for name in names}
    result.save(
        options.results / f"update_speed_{options.device}.json",
        COLUMNS,
        [table_row(name, case) for name, case in cases.items()],
        limits=f"Medians of {options.rounds} rounds; each round times both sides in turn, in processes of their own.",
        more={"rounds": options.rounds, "cases": cases},
    )


if __name__ == "__main__":
    main()
