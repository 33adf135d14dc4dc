"""SAC on states against Stable-Baselines3's SAC: same sizes, rates, action repeats, environments, evaluation episodes.

    python -m benchmarks.learn_state [--dry-run] [--published dmc_scores.csv] [--suite paper] [KEY=VALUE ...]

Both arms get the same command line: `rlrep.train` runs it as it is, `benchmarks.sb3_sac` reads SB3's arguments from it.
--published takes a CSV with columns task,steps,method,mean,std,source; its State-SAC rows are copied into the result.
"""

import argparse
import csv
from pathlib import Path

from .grid import Run
from .learning import Published, Study, main

TASKS = {"cartpole_swingup": "dmc_cartpole", "cheetah_run": "dmc_cheetah"}
PAPER_TASKS = {
    **TASKS,
    "walker_walk": "dmc_walker",
    "finger_spin": "dmc_finger",
    "reacher_easy": "dmc_reacher",
    "ball_in_cup_catch": "dmc_cup",
}
ARMS = {"rlrep SAC": "rlrep.train", "SB3 SAC": "benchmarks.sb3_sac"}
ENV_STEPS = 100_000
SETTINGS = (
    "env.obs=state",
    "agent=sac",
    "encoder=identity",
    "augment=none",
    "aux=none",
    "agent.hidden_dim=256",
    "agent.batch_size=256",
    "agent.capacity=1000000",
    "agent.lr=3e-4",
    "agent.alpha_lr=3e-4",
    "agent.alpha_beta1=0.9",
    "agent.initial_temperature=1.0",
    "agent.temperature_loss=log_alpha",
    "agent.discount=0.99",
    "agent.critic_tau=0.005",
    "agent.target_every=1",
    "agent.actor_every=1",
    "agent.log_std_range=[-20,2]",
    "agent.log_std_bound=clamp",
    "agent.init=torch",
    "train.init_steps=1000",
    "train.updates_per_step=1",
    f"train.env_steps={ENV_STEPS}",
    "train.eval_every=10000",
    "train.eval_episodes=10",
    "device=cpu",
    "video=false",
    "logger.tensorboard=false",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", type=Path, help="CSV of published scores")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--suite", choices=("two", "paper"), default="two", help="two tasks, or the six of the CURL paper"
    )


def plan(options: argparse.Namespace) -> Study:
    """Return the study: tasks x arms x seeds. Seeds vary slowest, so that an interrupted grid is balanced."""
    tasks = PAPER_TASKS if options.suite == "paper" else TASKS
    runs = tuple(
        Run(task, arm, seed, (f"env={env}", *SETTINGS, *options.words), module)
        for seed in range(options.seeds)
        for task, env in tasks.items()
        for arm, module in ARMS.items()
    )
    return Study(
        name="learn_state" if options.suite == "two" else "learn_state_paper",
        question="Does SAC on states learn as well as Stable-Baselines3's SAC with the same settings?",
        runs=runs,
        compared=("rlrep SAC", "SB3 SAC"),
        published=read_published(options.published, tasks) if options.published else (),
        limits=f"{options.seeds} seeds, {len(tasks)} tasks: a difference within the errors shows nothing.",
        notes={"settings": [*SETTINGS, *options.words], "published_note": "the two published State-SAC rows disagree"},
    )


def read_published(path: Path, tasks: dict[str, str]) -> tuple[Published, ...]:
    """Return the State-SAC rows of `tasks` at this number of steps."""
    names = {task.replace("_", "-"): task for task in tasks} | {"ball_in_cup-catch": "ball_in_cup_catch"}
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] in names and int(row["steps"]) == ENV_STEPS]
    return tuple(
        Published(
            names[r["task"]],
            r["method"],
            ENV_STEPS,
            float(r["mean"]),
            float(r["std"]) if r["std"] else None,
            r["source"],
        )
        for r in rows
        if r["method"].startswith("StateSAC")
    )


if __name__ == "__main__":
    main(__doc__, "learn_state", add_options, plan)
