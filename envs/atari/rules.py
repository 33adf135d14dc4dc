"""What an Atari protocol settles, and what a game needs to be told."""

from typing import Any, NamedTuple, Protocol


class Rules(NamedTuple):
    """What a protocol settles. sticky: probability that a frame repeats the action before. The rest as in `Atari`."""

    sticky: float
    life_loss: bool
    full_actions: bool
    noop_max: int


PROTOCOLS = {
    "atari100k": Rules(sticky=0.0, life_loss=True, full_actions=False, noop_max=30),
    "machado": Rules(sticky=0.25, life_loss=False, full_actions=True, noop_max=0),
}


class Game(Protocol):
    """What `AtariVector` reads of `Atari`."""

    @property
    def rom(self) -> str: ...
    @property
    def rules(self) -> Rules: ...
    @property
    def frame_stack(self) -> int: ...
    @property
    def frame_skip(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def max_frames(self) -> int: ...
    @property
    def training(self) -> bool: ...
    @property
    def clip_rewards(self) -> bool: ...
    def make(self, seed: int) -> Any: ...
