"""Atari games of the Arcade Learning Environment (Bellemare et al. 2013; Machado et al. 2018, arXiv 1709.06009)."""

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import cv2
import gymnasium
import numpy as np
from ale_py import ALEInterface, ALEState, LoggerMode
from gymnasium import spaces

from rlrep.contract.env import HUMAN_NORMALISED, Array, Scoring, Tree

from ..options import COPIES, SIDE, SimulatorConfig, Workers
from .games import PROTOCOLS, SCORES, Rules, find_game, rom_path
from .vector import AtariVector

FRAMES_PER_SECOND = 60


@dataclass(frozen=True)
class Atari(SimulatorConfig):
    """One game: uint8 `(frame_stack, size, size)` gray frames, oldest first, each the maximum of the last two seen.

    game: any spelling of a ROM that ale-py bundles.
    protocol: `atari100k` (Kaiser et al. 2020; van Hasselt et al. 2019), `machado` (2018), or `custom`, which is
    atari100k with what is given below in place of its own; the named ones refuse other values.
    sticky: probability that a frame repeats the action before. life_loss: in training a lost life ends an episode.
    full_actions: all 18 actions, also those without effect in this game. noop_max: a game starts with fewer no-ops
    than this, drawn uniformly. clip_rewards: to [-1, 1], in training.
    max_frames: a game is cut off (truncated) after so many. frame_skip: frames per agent step, their rewards summed.
    training: without it full games and raw rewards, as in evaluation.
    backend: `single` steps instances of the ALE in processes of ours and saves their state exactly; `vector` is
    ale-py's own vector environment, faster with many, whose games begin anew when a run is resumed.
    """

    presets: ClassVar[str] = "atari"
    game: str
    protocol: Literal["atari100k", "machado", "custom"] = "atari100k"
    sticky: float | None = None
    life_loss: bool | None = None
    full_actions: bool | None = None
    noop_max: int | None = None
    clip_rewards: bool = True
    max_frames: int = 108_000
    frame_skip: int = 4
    frame_stack: int = 4
    size: int = 84
    training: bool = True
    backend: Literal["single", "vector"] = "single"
    num_envs: int = 1
    workers: Workers = "auto"

    def __post_init__(self) -> None:
        find_game(self.game)
        self._check_ranges({"frame_skip": COPIES, "frame_stack": COPIES, "size": SIDE, "num_envs": COPIES})
        self._check_ranges({"max_frames": (1, 2**31 - 1)})
        self._check_rules()

    @property
    def rom(self) -> str:
        return find_game(self.game)

    @property
    def rules(self) -> Rules:
        """The protocol's rules with the given ones in place."""
        given = {name: value for name in Rules._fields if (value := getattr(self, name)) is not None}
        return PROTOCOLS.get(self.protocol, PROTOCOLS["atari100k"])._replace(**given)

    def _gains_by_workers(self) -> bool:
        """So that games step while the agent learns, if there is a core beside the two that an update keeps busy; else
        a process of its own costs the update more than the step takes (benchmarks/atari_game.py)."""
        return self.num_envs > 1 or len(os.sched_getaffinity(0)) > 2

    def scoring(self) -> Scoring:
        """Return the human-normalised score, for the games of Atari-100k."""
        random, human = SCORES.get(self.rom, (None, None))
        return Scoring(
            suite=f"Atari, protocol {self.protocol}",
            task=self.rom,
            scale=HUMAN_NORMALISED,
            zero=random,
            one=human,
            references={} if random is None or human is None else {"random": random, "human": human},
            table="atari100k" if self.protocol == "atari100k" and self.frame_skip == 4 else None,
        )

    def evaluation(self) -> "Atari":
        """Return what evaluation plays: full games with raw rewards."""
        return replace(self, training=False, backend="vector")

    def make(self, seed: int) -> "AtariEnv":
        """Build one game. Raises RuntimeError if its ROM is missing."""
        return AtariEnv(self, seed)

    def vector(self, seeds: list[int]) -> AtariVector | None:
        """Return all games on ale-py's vector environment, None where they are to be single ones.

        Raises RuntimeError if the ROM is missing.
        """
        return AtariVector(self, seeds) if self.backend == "vector" else None

    def _check_rules(self) -> None:
        fixed = PROTOCOLS.get(self.protocol)
        for name in Rules._fields if fixed else ():
            given, due = getattr(self, name), getattr(fixed, name)
            if given is not None and given != due:
                raise ValueError(
                    f"env.{name}={given} contradicts env.protocol={self.protocol}, which has {due}: "
                    f"leave it out, or say env.protocol=custom"
                )
        rules = self.rules
        if not 0.0 <= rules.sticky <= 1.0 or rules.noop_max < 0:
            raise ValueError(f"env.sticky must be in [0, 1] and env.noop_max at least 0, got {rules}")


class AtariEnv(gymnasium.Env[Array, np.int64]):
    """One game with exact `state()` / `load_state()`.

    `terminated` means game over or, in training with `life_loss`, a lost life: then `reset()` goes on with the same
    game, its frame stack begun anew, as Dopamine does (Kaixhin's Rainbow also makes one no-op). `truncated` is the time
    limit. Where the game really ended, `info["score"]` is its score: the sum of all its raw rewards.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"
    gives_score = True

    def __init__(self, config: Atari, seed: int) -> None:
        self.config, self._rules = config, config.rules
        self.frame_stack, self.action_repeat = config.frame_stack, config.frame_skip
        self.metadata = {**type(self).metadata, "render_fps": max(1, FRAMES_PER_SECOND // config.frame_skip)}
        ALEInterface.setLoggerMode(LoggerMode.Error)  # before the first one, which announces itself
        self._ale = ALEInterface()
        self._rom = rom_path(config.rom)
        self._seed(seed)
        self._actions = self._ale.getLegalActionSet() if self._rules.full_actions else self._ale.getMinimalActionSet()
        self._pooled = np.zeros(self._ale.getScreenDims(), np.uint8)  # maximum of the last two frames
        self._before = np.zeros_like(self._pooled)
        self._frames = np.zeros((config.frame_stack, config.size, config.size), np.uint8)
        self._score, self._lives, self._goes_on = 0.0, 0, False
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = spaces.Box(0, 255, self._frames.shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start a game, or go on with one that lost a life; with `seed` it is the same game whatever came before."""
        if seed is not None:
            self._seed(seed)
        elif self._goes_on:
            self._goes_on = False
            self._frames[:] = self._frames[-1]
            return self._frames.copy(), {}
        noops = int(self.np_random.integers(self._rules.noop_max)) if self._rules.noop_max else 0
        return self.begin(noops), {}

    def begin(self, noops: int) -> Array:
        """Start a game with so many no-ops and return its observation."""
        self._ale.reset_game()
        for _ in range(noops):
            self._ale.act(0)
            if self._ale.game_over():
                self._ale.reset_game()
        self._ale.getScreenGrayscale(self._pooled)
        self._before[:] = 0
        self._frames[:] = self._shrunk()
        self._score, self._lives, self._goes_on = 0.0, self._ale.lives(), False
        return np.array(self._frames)

    def step(self, action: np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Repeat an action for `frame_skip` frames, fewer where the game ends."""
        reward = self._advance(int(action))
        self._score += reward
        over, cut_off = self._ale.game_over(with_truncation=False), self._ale.game_truncated()
        info = {"score": self._score} if over or cut_off else {}
        self._goes_on = not (over or cut_off) and self._lost_life()
        if self.config.training and self.config.clip_rewards:
            reward = max(-1.0, min(1.0, reward))
        return self._frames.copy(), reward, over or self._goes_on, cut_off and not over, info

    def render(self) -> Any:
        """Return the screen as RGB `(210, 160, 3)`."""
        return self._ale.getScreenRGB()

    def labels(self) -> dict[str, int]:
        """Return the machine's 128 bytes of memory behind the newest frame, for probes (Anand et al. 2019)."""
        return {f"ram_{address:03d}": int(byte) for address, byte in enumerate(self._ale.getRAM())}

    def state(self) -> Tree:
        saved = self._ale.cloneState(include_rng=True).serialize()
        return {
            "ale": np.frombuffer(saved, np.uint8).copy(),
            "pooled": self._pooled.copy(),
            "frames": self._frames.copy(),
            "score": self._score,
            "lives": self._lives,
            "goes_on": self._goes_on,
            "random": self.np_random.bit_generator.state,
        }

    def load_state(self, state: Tree) -> Array:
        self._ale.restoreState(ALEState(np.asarray(state["ale"], np.uint8).tobytes()))
        self._pooled[:], self._frames[:] = state["pooled"], state["frames"]
        self._before[:] = 0
        self._score, self._lives, self._goes_on = state["score"], state["lives"], state["goes_on"]
        self.np_random.bit_generator.state = state["random"]
        return np.array(self._frames)

    def _seed(self, seed: int) -> None:
        """The ALE takes its options and its seed when it loads a ROM."""
        super().reset(seed=seed)
        self._ale.setInt("random_seed", seed & 0x7FFFFFFF)
        self._ale.setFloat("repeat_action_probability", self._rules.sticky)
        self._ale.setInt("max_num_frames_per_episode", self.config.max_frames)
        self._ale.loadROM(self._rom)

    def _advance(self, action: int) -> float:
        """Where a game ends within a skip, its last whole observation stays (as gymnasium and ale-py have it)."""
        reward, skip = 0.0, self.config.frame_skip
        for frame in range(skip):
            reward += self._ale.act(self._actions[action])
            if self._ale.game_over():
                break
            if frame == skip - 1:
                self._ale.getScreenGrayscale(self._pooled)
            elif frame == skip - 2:
                self._ale.getScreenGrayscale(self._before)
        np.maximum(self._pooled, self._before, out=self._pooled)
        self._frames[:-1] = self._frames[1:]
        self._frames[-1] = self._shrunk()
        return reward

    def _shrunk(self) -> Array:
        side = self.config.size
        small: Array = cv2.resize(self._pooled, (side, side), interpolation=cv2.INTER_AREA)
        return small

    def _lost_life(self) -> bool:
        """Qbert shows no life for a while before its game is over: that is no loss yet."""
        before, self._lives = self._lives, self._ale.lives()
        return self.config.training and self._rules.life_loss and 0 < self._lives < before
