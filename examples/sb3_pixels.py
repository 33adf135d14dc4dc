"""Stable-Baselines3's SAC with two of rlrep's heads, on a gymnasium environment seen as frames: a minute on one core.

    python examples/sb3_pixels.py [STEPS]  (it begins to learn after 100)

Callbacks, logger, save and load are Stable-Baselines3's own; TensorBoard shows `aux/...` beside `train/...`.
"""

import os
import sys
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")

import gymnasium
import numpy as np
from gymnasium.wrappers import AddRenderObservation
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from rlrep.agents.sb3 import AuxSAC


def pendulum() -> gymnasium.Env[Any, Any]:
    """Return a cart with a pole that falls, as uint8 frames `(48, 48, 3)`; every step upright pays 1."""
    env = gymnasium.make("InvertedPendulum-v5", render_mode="rgb_array", width=48, height=48)
    return AddRenderObservation(env, render_only=True)


def make_env(seed: int) -> VecEnv:
    """Return two of them, three frames an observation."""
    return VecFrameStack(make_vec_env(pendulum, n_envs=2, seed=seed), n_stack=3)


def main(steps: int = 800) -> None:
    """Train, say what came of it, save."""
    env, test = make_env(seed=0), make_env(seed=1)
    model = AuxSAC(
        "CnnPolicy",
        env,
        aux=["curl", "return_contrast"],
        augment="random_shift",
        buffer_size=10_000,
        batch_size=64,
        learning_rate=1e-3,
        policy_kwargs={"features_extractor_kwargs": {"features_dim": 256}, "net_arch": [128, 128]},
        tensorboard_log="runs/sb3_pixels",
        verbose=1,
        seed=0,
    )
    accuracies: list[float] = []

    def watch(local: dict[str, Any], everything: dict[str, Any]) -> bool:
        accuracies.extend(v for name, v in model.logger.name_to_value.items() if name == "aux/curl/accuracy")
        return True

    before, _ = evaluate_policy(model, test, n_eval_episodes=5)
    model.learn(steps, callback=watch, log_interval=50)
    after, _ = evaluate_policy(model, test, n_eval_episodes=5)
    first, last = np.mean(accuracies[:25]), np.mean(accuracies[-25:])
    print(f"curl finds the other view, one of {model.batch_size}: {first:.0%} at first, {last:.0%} at last")
    print(f"mean return of 5 episodes: {before:.1f} before, {after:.1f} after {steps} steps")
    model.save("runs/sb3_pixels/model")
    env.close()
    test.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
