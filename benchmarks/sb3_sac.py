"""Stable-Baselines3's SAC on the settings of a `python -m rlrep.train` command line, evaluated on the same episodes.

    python -m benchmarks.sb3_sac env=dmc_cartpole env.obs=state ... seed=0 out=FOLDER

Writes FOLDER/eval.csv in the format of a run folder. It does not resume: an unfinished run starts again.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from rlrep.agents.sac import SACConfig
from rlrep.runtime.compose import compose_run
from rlrep.runtime.config import Length, RunConfig, plan_length
from rlrep.runtime.evaluation import FINAL, Evaluator
from rlrep.runtime.logs import EvalTable
from rlrep.runtime.make import build_envs
from rlrep.runtime.process import Seeds, set_threads
from rlrep.runtime.protocols import Array

SAME_AS_SB3: dict[str, object] = {
    "n_step": 1,
    "target_every": 1,
    "actor_every": 1,
    "log_std_range": (-20.0, 2.0),
    "log_std_bound": "clamp",
    "init": "torch",
    "alpha_beta1": 0.9,
    "temperature_loss": "log_alpha",
    "target_entropy": None,
    "precision": "float32",
}
"""What SB3's SAC fixes; a command line that says otherwise would compare two different algorithms."""


def check_comparable(config: RunConfig, agent: SACConfig) -> None:
    """Raise SystemExit, naming the settings, if SB3's SAC cannot follow this command line."""
    wrong = [f"agent.{name}={want}" for name, want in SAME_AS_SB3.items() if getattr(agent, name) != want]
    wrong += ["agent.alpha_lr=agent.lr"] if agent.alpha_lr != agent.lr else []
    wrong += ["train.updates_per_step=1"] if config.train.updates_per_step != 1 else []
    wrong += ["env.num_envs=1"] if config.env.num_envs != 1 else []
    wrong += ["aux=none"] if config.aux else []
    if wrong:
        raise SystemExit(f"error: not what SB3's SAC does; a comparison needs {' '.join(wrong)}")


def build_model(config: RunConfig, agent: SACConfig) -> SAC:
    """Return SB3's SAC with the command line's sizes and rates."""
    seeds = Seeds(config.seed)
    env = config.env.make(seeds.envs(1)[0])
    return SAC(
        "MlpPolicy",
        env,
        learning_rate=agent.lr,
        buffer_size=agent.capacity,
        learning_starts=config.train.init_steps,
        batch_size=agent.batch_size,
        tau=agent.critic_tau,
        gamma=agent.discount,
        train_freq=1,
        gradient_steps=1,
        ent_coef=f"auto_{agent.initial_temperature}",
        target_update_interval=1,
        target_entropy="auto",
        policy_kwargs={"net_arch": [agent.hidden_dim, agent.hidden_dim]},
        seed=seeds.agent,
        device="cpu",
    )


class Policy:
    """What an Evaluator asks of an agent."""

    def __init__(self, model: SAC) -> None:
        self._model = model

    def act(self, obs: Array, *, explore: bool) -> Array:
        """Return the policy's actions for `obs (N, D)`."""
        return self._model.predict(obs, deterministic=not explore)[0]


class Evaluations(BaseCallback):
    """Evaluates at the env steps, and on the episodes, that `rlrep.train` evaluates at."""

    def __init__(self, evaluator: Evaluator, table: EvalTable, config: RunConfig, length: Length) -> None:
        super().__init__()
        self._evaluator, self._table, self._config, self._length = evaluator, table, config, length
        self._done, self._paused_seconds, self._start = 0, 0.0, time.monotonic()

    def _on_step(self) -> bool:
        every = self._config.train.eval_every
        number = self.num_timesteps * self._length.action_repeat // every if every else 0
        if number > self._done and self.num_timesteps < self._length.agent_steps:
            self.evaluate(number, "periodic")
            self._done = number
        return True

    def evaluate(self, number: int, kind: str) -> None:
        """Append one evaluation to the table. Its own time does not count as training time."""
        began = time.monotonic()
        seconds = began - self._start - self._paused_seconds
        position = {
            "agent_steps": self.num_timesteps,
            "env_steps": self.num_timesteps * self._length.action_repeat,
            "updates": self.model._n_updates,
            "wall_seconds": round(seconds, 3),
        }
        episodes = self._evaluator.run(number, self._config.train.eval_episodes)
        self._table.write(
            [
                {
                    **position,
                    "episode": e.index,
                    "return": e.total_return,
                    "length": e.length,
                    "success": e.success,
                    "kind": kind,
                }
                for e in episodes
            ]
        )
        self._paused_seconds += time.monotonic() - began


def main(words: list[str]) -> None:
    """Train and evaluate; a finished folder is left as it is."""
    config = compose_run(words).config
    agent: Any = config.agent
    check_comparable(config, agent)
    set_threads()
    Seeds(config.seed).set_globals()
    model = build_model(config, agent)
    envs = build_envs(config.env, [0])
    length = plan_length(config.train, num_envs=1, action_repeat=envs.action_repeat)
    envs.close()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.csv").unlink(missing_ok=True)
    evaluator = Evaluator(partial(build_envs, config.env, [0]), Policy(model), Seeds(config.seed), say=print)  # type: ignore[arg-type]
    evaluations = Evaluations(evaluator, EvalTable(folder / "eval.csv"), config, length)
    model.learn(length.agent_steps, callback=evaluations)
    evaluations.evaluate(FINAL, "final")
    evaluator.close()


if __name__ == "__main__":
    main(sys.argv[1:])
