"""Does a head's gradient reach the encoder? Linear probes of the pole's state after updates on fixed frames.

    python -m benchmarks.head_pull [--seeds N] [--updates N] [--jobs N]

Pixel SAC learns on cartpole played at random, 1,000 updates without further play: without a head, and with each head
under every pull. Rewards times ten stand in for a late Q function, whose gradient is larger. A ridge regression then
reads cart and pole from the latents of episodes that were held out. Positions are what one frame shows, velocities
take several.
"""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents.sac import SAC
from rlrep.config.make import load_component
from rlrep.contract.agent import AgentSpec
from rlrep.envs.dmc.env import DMC

from . import machine, result
from .random_play import Play, one_step, play

SIZE, STACK, REPEAT = 60, 3, 8
EPISODES, HELD_OUT = 30, 6
BATCH, HIDDEN = 32, 256
HEADS, PULLS, REWARDS = ("curl", "return_contrast", "self_prediction"), ("sum", "own", "balanced"), (1.0, 10.0)
TARGETS = {"position": ("x", "cos", "sin"), "velocity": ("qvel_0", "qvel_1")}
RIDGE = 1e-3


class Cell(NamedTuple):
    """One run. head: "" = none. pull: "" without a head."""

    head: str
    pull: str
    reward: float
    seed: int


@lru_cache(maxsize=1)
def played_at(seed: int) -> Play:
    """Play the episodes of a seed."""
    task = DMC("cartpole", "swingup", action_repeat=REPEAT, frame_stack=STACK, size=SIZE)
    return play(task, EPISODES, seed, _state)


def _state(env: Any) -> list[float]:
    labels = env.labels()
    seen = {"x": labels["qpos_0"], "cos": np.cos(labels["qpos_1"]), "sin": np.sin(labels["qpos_1"]), **labels}
    return [float(seen[name]) for names in TARGETS.values() for name in names]


def train(cell: Cell, played: Play, updates: int) -> SAC:
    """Return the agent after `updates` on all but the held-out episodes."""
    torch.set_num_threads(1)
    where: dict[str, Any] = {"obs": "pixels", "size": SIZE, "augment": "random_shift"}
    options = {"pull": cell.pull}
    agent: SAC = load_component("agent", "sac", {"batch_size": BATCH, "hidden_dim": HIDDEN}).make(
        AgentSpec(
            spaces.Box(0, 255, played.obs.shape[2:], np.uint8),
            spaces.Box(-1.0, 1.0, (1,), np.float32),
            frame_stack=STACK,
            encoder=load_component("encoder", "curl_small", obs="pixels"),
            augment=load_component("augment", "random_shift", obs="pixels", size=SIZE),
            aux={cell.head: load_component("aux", cell.head, options, **where)} if cell.head else {},
            seed=cell.seed,
        )
    )
    store(agent, played, cell.reward)
    for _ in range(updates):
        agent.update()
    return agent


def store(agent: SAC, played: Play, factor: float) -> None:
    """Let the agent see the episodes it may learn from."""
    kept = EPISODES - HELD_OUT
    agent.begin(played.obs[0, :1])
    for episode, step in product(range(kept), range(played.reward.shape[1])):
        last = step == played.reward.shape[1] - 1
        following = played.obs[episode, step + 1][None]
        next_obs = played.obs[(episode + 1) % kept, 0][None] if last else following
        outcome = one_step(next_obs, following, factor * played.reward[episode, step], truncated=last)
        agent.observe(played.action[episode, step][None], outcome)


def probe(agent: SAC, played: Play) -> dict[str, float]:
    """Return R² of ridge regressions of each group of `TARGETS` on latents, on the held-out episodes."""
    with torch.no_grad():
        frames = torch.from_numpy(played.obs).flatten(0, 1)
        latent = (
            torch.cat([agent.nets.encoder(agent.augment.fixed(part)) for part in frames.split(256)]).double().numpy()
        )
    state = played.told.reshape(-1, played.told.shape[-1])
    cut = (EPISODES - HELD_OUT) * played.obs.shape[1]
    x, y = (part - part[:cut].mean(0) for part in (latent, state))
    x = x / (x[:cut].std(0) + 1e-6)
    weight = np.linalg.solve(x[:cut].T @ x[:cut] + RIDGE * cut * np.eye(x.shape[1]), x[:cut].T @ y[:cut])
    left = ((y[cut:] - x[cut:] @ weight) ** 2).mean(0) / y[cut:].var(0)
    ends = np.cumsum([len(names) for names in TARGETS.values()])[:-1]
    return {name: 1.0 - float(part.mean()) for name, part in zip(TARGETS, np.split(left, ends), strict=True)}


def measure(cell: Cell, updates: int) -> dict[str, float]:
    """Return a run's probes, and how hard the head pulled at the end."""
    played = played_at(cell.seed)
    agent = train(cell, played, updates)
    ratios = {key.rsplit("/", 1)[1]: value for key, value in agent.metrics().items() if "grad_ratio" in key}
    return probe(agent, played) | ratios


def plan(seeds: int) -> list[Cell]:
    """Return every run, seeds slowest."""
    arms = [("", ""), *product(HEADS, PULLS)]
    return [Cell(*arm, reward, seed) for seed in range(seeds) for arm in arms for reward in REWARDS]


def report(found: Mapping[Cell, Mapping[str, float]], updates: int) -> dict[str, Any]:
    """Return what the result file says."""
    arms = dict.fromkeys((cell.head, cell.pull) for cell in found)
    rows = []
    for head, pull in arms:
        row = [head or "no head", pull]
        for name, reward in product(TARGETS, REWARDS):
            values = [
                v[name] for cell, v in found.items() if (cell.head, cell.pull, cell.reward) == (head, pull, reward)
            ]
            row.append(f"{np.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})")
        ratios = [v["grad_ratio"] for cell, v in found.items() if cell[:2] == (head, pull) and "grad_ratio" in v]
        rows.append([*row, f"{min(ratios):.2g} to {max(ratios):.2g}" if ratios else ""])
    columns = ["head", "pull", *(f"{name}, reward x{reward:g}" for name, reward in product(TARGETS, REWARDS))]
    return {
        "question": "Does a head's gradient reach the encoder, whatever the size of the RL loss's?",
        "limits": f"R² of linear probes after {updates} updates, mean (every run); the last column is the norm of the "
        f"head's gradient over the RL loss's at the latent at the end, before Adam.",
        "updates": updates,
        "table": {"columns": [*columns, "gradient ratio"], "rows": rows},
        "runs": [cell._asdict() | {key: round(number, 4) for key, number in v.items()} for cell, v in found.items()],
    }


def main(words: Sequence[str] | None = None) -> int:
    """Run the grid and write the result file."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=machine.cores())
    options = parser.parse_args(words)
    cells = plan(options.seeds)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        found = {}
        for cell, values in zip(cells, pool.map(measure, cells, [options.updates] * len(cells)), strict=True):
            found[cell] = values
            print(cell.head or "no head", cell.pull, f"reward x{cell.reward:g} seed {cell.seed}:", values, flush=True)
            result.write(options.results / "head_pull.json", report(found, options.updates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
