"""SAC on states against Stable-Baselines3's SAC: same sizes, rates, action repeats, environments, evaluation episodes.

    python -m benchmarks.learn_state [--dry-run] [--suite paper] [KEY=VALUE ...]

Both are agents of `rlrep.train`; `agent=sb3_sac` has SB3's own defaults, `agent=sac` is told to have them too.
"""

import argparse

from rlrep.scores.published import at_steps, published

from .grid import Run
from .learning import Study, main

TASKS = {"cartpole-swingup": "dmc_cartpole", "cheetah-run": "dmc_cheetah"}
PAPER_TASKS = {
    **TASKS,
    "walker-walk": "dmc_walker",
    "finger-spin": "dmc_finger",
    "reacher-easy": "dmc_reacher",
    "ball_in_cup-catch": "dmc_cup",
}
ENV_STEPS = 100_000
SETTINGS = (
    "env.obs=state",
    "augment=none",
    "aux=none",
    "agent.batch_size=256",
    "agent.lr=3e-4",
    "agent.discount=0.99",
    "agent.capacity=100000",
    "train.init_steps=1000",
    "train.updates_per_step=1",
    f"train.env_steps={ENV_STEPS}",
    "train.eval_every=10000",
    "train.eval_episodes=10",
    "device=cpu",
    "video=false",
    "logger.tensorboard=false",
)
ARMS = {
    "rlrep SAC": (
        "agent=sac",
        "encoder=identity",
        "agent.hidden_dim=256",
        "agent.alpha_lr=3e-4",
        "agent.alpha_beta1=0.9",
        "agent.initial_temperature=1.0",
        "agent.temperature_loss=log_alpha",
        "agent.critic_tau=0.005",
        "agent.target_every=1",
        "agent.actor_every=1",
        "agent.log_std_range=[-20,2]",
        "agent.log_std_bound=clamp",
        "agent.init=torch",
    ),
    "SB3 SAC": ("agent=sb3_sac",),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--suite", choices=("two", "paper"), default="two", help="two tasks, or the six of the CURL paper"
    )


def plan(options: argparse.Namespace) -> Study:
    """Return the study: tasks x arms x seeds. Seeds vary slowest, so that an interrupted grid is balanced."""
    tasks = PAPER_TASKS if options.suite == "paper" else TASKS
    runs = tuple(
        Run(task, arm, seed, (f"env={env}", *SETTINGS, *words, *options.words))
        for seed in range(options.seeds)
        for task, env in tasks.items()
        for arm, words in ARMS.items()
    )
    return Study(
        name="learn_state" if options.suite == "two" else "learn_state_paper",
        question="Does SAC on states learn as well as Stable-Baselines3's SAC with the same settings?",
        runs=runs,
        compared=("rlrep SAC", "SB3 SAC"),
        published=tuple(entry for task in tasks for entry in at_steps(published("dmc_state"), task, ENV_STEPS)),
        limits=f"{options.seeds} seeds, {len(tasks)} tasks: a difference within the errors shows nothing.",
        notes={
            "settings": [*SETTINGS, *options.words],
            "published_note": "the two published State-SAC rows disagree",
        },
    )


if __name__ == "__main__":
    main(__doc__, "learn_state", add_options, plan)
