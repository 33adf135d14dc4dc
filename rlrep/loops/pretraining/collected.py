"""Frames of one of our own environments as a data set: collected once, then read from their file."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from rlrep.config.make import load_component
from rlrep.settings import ranges
from rlrep.ssl.data import Frames, FrameSettings, Split
from rlrep.ssl.data.joined import joined

from ..frames import collect_frames

_MOST_BYTES = 2**36


@dataclass(frozen=True)
class CollectedFrames(FrameSettings):
    """Frames of uniformly random play, with the simulator's state as labels.

    env: an `env=` choice. size: side of its frames (what the agent's encoder sees). steps: agent steps to play, over
    all episodes. seed: of the play, apart from the run's seed, so that all seeds of an experiment share the frames.
    path: the file, None = `frames/ENV-SIZE-STEPS-seedN.safetensors`.
    """

    env: str
    size: int = 84
    steps: int = 20_000
    seed: int = 0
    path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("size", "steps", "stack"))
        ranges.at_least(self, 0, ("seed",))
        if self.steps * self.size**2 > _MOST_BYTES:
            raise ValueError(f"{self.steps} frames of {self.size}x{self.size} do not fit into memory: lower steps")

    def make(self, device: torch.device) -> Split:
        """Collect the frames where that was not done before. Raises UserError if the environment cannot be made."""
        config = load_component("env", self.env, {"size": self.size}, obs="pixels")
        named = f"frames/{self.env}-{self.size}-{self.steps}-seed{self.seed}.safetensors"
        path = collect_frames(config, Path(self.path or named), steps=self.steps, seed=self.seed)
        shared = {field.name: getattr(self, field.name) for field in fields(FrameSettings)}
        return Frames(str(path), **shared).make(device)


@dataclass(frozen=True)
class CollectedTasks(FrameSettings):
    """The same of several environments: every one's frames are collected, split and kept in a file of their own.

    envs: `env=` choices. steps: of each. The label `env` is an environment's number in this list, the others are
    `ENVIRONMENT/LABEL`.
    """

    envs: tuple[str, ...]
    size: int = 84
    steps: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.envs)) != len(self.envs) or len(self.envs) < 2:
            raise ValueError(f"envs must be two or more different environments, not {', '.join(self.envs) or 'none'}")

    def make(self, device: torch.device) -> Split:
        """Collect what is not there yet. Raises UserError if an environment cannot be made."""
        shared = {field.name: getattr(self, field.name) for field in fields(FrameSettings)}
        asked = {"size": self.size, "steps": self.steps, "seed": self.seed, **shared}
        return joined({env: CollectedFrames(env=env, **asked).make(device) for env in self.envs})
