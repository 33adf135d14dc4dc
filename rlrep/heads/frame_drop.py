"""Instance contrast of frame stacks of which an adversary leaves frames out (VideoMoCo, Pan et al. 2021, arXiv
2103.05905)."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from gymnasium import spaces
from torch import Tensor

from rlrep.contrast.parts import Dropped, Dropper, Metrics, Objective, embedding_change
from rlrep.replay import Batch, Needs, Noise, Pairs

from .base import Encoded, Encoders
from .instance_contrast import InstanceContrast, InstanceContrastHead


@dataclass(frozen=True)
class FrameDropContrast(InstanceContrast):
    """Settings of `aux=video_moco`, beside those of `InstanceContrast`.

    drop: frames of a stack that are left out, None = a quarter of them, one at least; 0 = none. estimator: see
    `rlrep.contrast.parts.Dropper`.
    obs_shape, frame_stack: of the observations, None = the agent's.
    """

    objective: str | Objective = "info_nce"
    negatives: Literal["batch", "queue"] = "queue"
    queue_decay: float = 0.999
    drop: int | None = None
    estimator: Literal["score_function", "random"] = "score_function"
    obs_shape: tuple[int, ...] | None = None
    frame_stack: int | None = None

    def fitted(self, obs_shape: tuple[int, ...], frame_stack: int = 1) -> "FrameDropContrast":
        """Return the settings with what they leave open of the observations."""
        return replace(self, obs_shape=self.obs_shape or obs_shape, frame_stack=self.frame_stack or frame_stack)

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "FrameDropHead":
        """Build the head. Raises ValueError unless observations are stacks of frames, of which some are left."""
        shape, frames = self.obs_shape or (), self.frame_stack or 1
        if len(shape) != 3 or frames < 2:
            raise ValueError(f"aux.{name} drops frames of a stack, observations {shape} are no stack of two or more")
        dropper = Dropper(frames, self.drop, self.estimator)
        return FrameDropHead(self, latent_dim, dropper, shape[0])


class FrameDropHead(InstanceContrastHead):
    """Contrast of the stack as it is left with the momentum encoder's view of the whole one.

    The whole stack's change of embedding, which teaches the adversary, is that of the RL batch's own encoding.
    """

    def __init__(self, config: FrameDropContrast, latent_dim: int, dropper: Dropper, channels: int) -> None:
        super().__init__(config, latent_dim)
        self.dropper = dropper.make(channels) if dropper.dropped else None
        self.noise = Noise(dropper.frames)
        if self.dropper is not None:
            self.needs = Needs((*self.needs.requests, self.noise), config.view)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the contrast plus the adversary's own loss, of which neither reaches the other's parameters."""
        if self.dropper is None:
            return super().loss(batch, pairs, encoded, encoders)
        drop: Dropped = self.dropper(batch.obs, pairs[self.noise])
        left = Encoded(encoders.online(drop.clip))
        contrast, health = super().loss(batch, pairs, left, encoders)
        query, whole = (self.branches.project(latent.detach()) for latent in (left.latent, encoded.latent))
        change = embedding_change(query.detach(), whole.detach())
        return contrast + self.dropper.loss(drop, change), {**health, "change": change.mean()}
