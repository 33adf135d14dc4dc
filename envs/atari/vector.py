"""Many Atari games on ale-py's own vector environment (C++ threads), behind the interface of `envs/vector`."""

import contextlib
import io
import os
from typing import Any

import numpy as np
from ale_py import ALEInterface, AtariVectorEnv, LoggerMode
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rlrep.contract.env import Array, Step, Tree

from .games import rom_path


class AtariVector:
    """N games stepped together, seeded one by one; the same frames, rewards and ends as N single ones of `Atari`.

    Its games cannot be saved: `load_state` begins new ones, and the step after it says that the old ones were lost.
    """

    gives_score = True
    exact = False
    notes: tuple[str, ...] = ()

    def __init__(self, config: Any, seeds: list[int]) -> None:
        self.config, self._rules, self.num_envs = config, config.rules, len(seeds)
        self.frame_stack, self.action_repeat = config.frame_stack, config.frame_skip
        self._env = _make(config, len(seeds))
        shape = (config.frame_stack, config.size, config.size)
        self.single_observation_space: spaces.Box = spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space: spaces.Box | spaces.Discrete = self._env.single_action_space
        self._seeds, self._restarts, self._lost = list(seeds), 0, False
        self._obs: Array = np.zeros((len(seeds), *shape), np.uint8)
        self._ages = np.zeros(len(seeds), np.int64)  # steps since the frame stack began
        self._lives = np.zeros(len(seeds), np.int64)
        self._scores = np.zeros(len(seeds))
        self._screens = [Screen() for _ in seeds]

    def reset(self, seeds: list[int] | None = None) -> Array:
        """Start a game everywhere, reproducibly with `seeds`; return observations `(N, S, H, W)`."""
        if seeds is not None:
            self._seeds, self._restarts, self._lost = list(seeds), 0, False
        self._begin(np.arange(self.num_envs), seeds or self._next_seeds())
        return np.array(self._obs)

    def set_task(self, index: int, task: Any) -> None:
        """Raise ValueError: a game has no tasks."""
        raise ValueError("Atari games have no tasks: choose a task family, such as env=point_robot")

    def restart(self, index: int, seed: int) -> Array:
        """Start the game of `seed` in place of game `index`; return its observation."""
        self._begin(np.array([index]), [seed])
        return np.array(self._obs[index])

    def step_async(self, actions: Array) -> None:
        """Send `actions` `(N,)` to the threads and return at once."""
        if self._lost:
            return
        for screen, action in zip(self._screens, actions, strict=True):
            screen.actions.append(int(action))
        self._env.send(np.asarray(actions, np.int64))

    def step_wait(self) -> Step:
        """Wait for every game."""
        if self._lost:
            return self._drop_games()
        obs, raw, over, cut_off, info = self._env.recv()
        ended = over | cut_off
        self._ages += 1
        final_obs = _begun_anew(np.where(ended[:, None, None, None], info.get("final_obs", obs), obs), self._ages)
        self._scores += raw
        score = np.where(ended, self._scores, np.nan).astype(np.float32)
        lost_life = ~ended & self._lost_life(info["lives"])
        self._ages[ended | lost_life] = 0
        self._scores[ended] = 0.0
        for index in np.flatnonzero(ended):
            self._screens[index] = Screen()  # the seed of a game that begins by itself is not known
        self._obs = _begun_anew(obs, self._ages)
        clipped = self.config.training and self.config.clip_rewards
        return Step(
            obs=self._obs.copy(),
            final_obs=final_obs,
            reward=(np.clip(raw, -1, 1) if clipped else raw).astype(np.float32),
            terminated=over | lost_life,
            truncated=cut_off & ~over,
            died=np.zeros(self.num_envs, np.bool_),
            success=np.full(self.num_envs, np.nan, np.float32),
            score=score,
            context_reward=np.full(self.num_envs, np.nan, np.float32),
        )

    def render(self, index: int) -> NDArray[np.uint8]:
        """Return game `index` as RGB `(210, 160, 3)`, or its newest gray frame where the game began by itself."""
        return self._screens[index].render(self.config, self._obs[index])

    def state(self) -> list[Tree]:
        """Return what the next games are seeded from."""
        return [{"env": None, "seed": seed, "restarts": self._restarts} for seed in self._seeds]

    def load_state(self, states: list[Tree]) -> Array:
        """Begin new games in place of those that were running; return observations `(N, S, H, W)`."""
        self._seeds = [state["seed"] for state in states]
        self._restarts, self._lost = states[0]["restarts"], True
        return self.reset()

    def close(self) -> None:
        """End the threads; again is harmless."""
        self._env.close()
        self._screens = []

    def _begin(self, indices: Array, seeds: list[int]) -> None:
        mask = np.zeros(self.num_envs, np.bool_)
        mask[indices] = True
        options = None if mask.all() else {"reset_mask": mask}
        obs, info = self._env.reset(seed=np.array(seeds) & 0x7FFFFFFF, options=options)
        self._ages[indices], self._scores[indices] = 0, 0.0
        self._lives[indices] = info["lives"][indices]
        self._obs[indices] = _begun_anew(obs, self._ages)[indices]
        for index, seed in zip(indices, seeds, strict=True):
            self._screens[index] = Screen(seed, int(info["episode_frame_number"][index]))

    def _next_seeds(self) -> list[int]:
        self._restarts += 1
        streams = (np.random.SeedSequence([seed, self._restarts]) for seed in self._seeds)
        return [int(stream.generate_state(1)[0]) for stream in streams]

    def _lost_life(self, lives: Array) -> NDArray[np.bool_]:
        before, self._lives = self._lives, lives.astype(np.int64)
        counts: bool = self.config.training and self._rules.life_loss
        return (self._lives < before) & (self._lives > 0) & counts

    def _drop_games(self) -> Step:
        self._lost = False
        none, all_ = np.zeros(self.num_envs, np.bool_), np.ones(self.num_envs, np.bool_)
        nothing = np.full(self.num_envs, np.nan, np.float32)
        obs, zeros = self._obs.copy(), np.zeros(self.num_envs, np.float32)
        return Step(obs, obs.copy(), zeros, none, all_, all_, nothing, nothing, nothing)


class Screen:
    """What it takes to see a game in colour, which the vector environment cannot show: its seed, no-ops and actions.

    The first `render` replays it on a single ALE, which is the same game.
    """

    def __init__(self, seed: int | None = None, noops: int = 0) -> None:
        self.actions: list[int] = []
        self._seed, self._noops, self._shown = seed, noops, 0
        self._env: Any = None

    def render(self, config: Any, obs: Array) -> NDArray[np.uint8]:
        """Return RGB `(210, 160, 3)`; from `obs` `(S, H, W)` where the seed is not known."""
        if self._seed is None:
            return np.repeat(obs[-1, :, :, None], 3, axis=2)
        if self._env is None:
            self._env = config.make(self._seed)
            self._env.begin(self._noops)
        for action in self.actions[self._shown :]:
            self._env.step(action)
        self._shown = len(self.actions)
        return np.asarray(self._env.render(), np.uint8)


def _make(config: Any, count: int) -> Any:
    rom_path(config.rom)
    ALEInterface.setLoggerMode(LoggerMode.Error)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.redirect_stdout(io.StringIO()):
        return AtariVectorEnv(
            config.rom,
            count,
            num_threads=min(count, cores),
            max_num_frames_per_episode=config.max_frames,
            repeat_action_probability=config.rules.sticky,
            full_action_space=config.rules.full_actions,
            autoreset_mode=AutoresetMode.SAME_STEP,
            img_height=config.size,
            img_width=config.size,
            stack_num=config.frame_stack,
            frameskip=config.frame_skip,
            noop_max=config.rules.noop_max,
            episodic_life=False,  # it would really begin a new game
            life_loss_info=False,
            reward_clipping=False,
            use_fire_reset=False,
        )


def _begun_anew(obs: Array, ages: Array) -> Array:
    """Return stacks `(N, S, H, W)` whose frames from before the stack began are its first one, not empty or older."""
    obs = obs.copy()
    for index in np.flatnonzero(ages < obs.shape[1] - 1):
        first = obs.shape[1] - 1 - ages[index]
        obs[index, :first] = obs[index, first]
    return obs
