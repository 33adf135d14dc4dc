"""An adversary that leaves out the frames that a clip's embedding rests on (VideoMoCo, Pan et al. 2021, arXiv
2103.05905, section 3.1)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pairs import unit

Estimator = Literal["score_function", "straight_through", "random"]
"""How the adversary learns from the change that a drop makes to the embedding.

score_function: log-probability of the drop times its change, standardised over the batch (REINFORCE, Williams 1992).
straight_through: a score's gradient is the sum of its frame's pixels' (the authors' code).
random: it does not learn, and drops uniformly.
"""


@dataclass(frozen=True)
class Dropper:
    """Settings of a `FrameDropper`.

    frames: in a clip, whose channels are theirs, frame after frame. drop: how many are left out of a clip, None = a
    quarter of them, one at least. after: share of training that is over before any is. channels: of its convolutions.
    bound: the scores lie between -bound and bound, so that no frame is ever safe, or lost for good.
    """

    frames: int = 8
    drop: int | None = None
    estimator: Estimator = "score_function"
    after: float = 0.5
    channels: int = 16
    bound: float = 1.0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.channels < 1 or not 0.0 <= self.after <= 1.0 or not self.bound > 0.0:
            raise ValueError(
                f"frames and channels must be at least 1, after in [0, 1] and bound above 0, not {self.frames}, "
                f"{self.channels}, {self.after} and {self.bound}"
            )
        if not 0 <= self.dropped < self.frames:
            raise ValueError(f"drop={self.dropped} leaves nothing of {self.frames} frames: give fewer, or 0")

    @property
    def dropped(self) -> int:
        """How many frames of a clip are left out."""
        return max(1, self.frames // 4) if self.drop is None else self.drop

    def make(self, channels: int) -> "FrameDropper":
        """Build it for clips of so many channels. Raises ValueError if they are no whole frames."""
        if channels % self.frames:
            raise ValueError(f"{channels} channels are no {self.frames} frames: give the frames of a clip")
        return FrameDropper(self, channels)


class Dropped(NamedTuple):
    """A clip without some frames. clip: float `(B, S*C, H, W)`, without gradient. mask: bool `(B, S)`, the frames left
    out. scores `(B, S)` and log_probability `(B,)`, of the drop, lead to the adversary."""

    clip: Tensor
    mask: Tensor
    scores: Tensor
    log_probability: Tensor


class FrameDropper(nn.Module):
    """Scores the S frames of a clip; those of the least perturbed score are replaced by their own mean.

    Perturbed by Gumbel noise, the order of the scores is a draw without replacement by softmax(-scores) (Plackett-Luce;
    Kool et al. 2019, arXiv 1903.06059), whose probability is known.
    """

    def __init__(self, config: Dropper, channels: int) -> None:
        super().__init__()
        self.config, width = config, config.channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.score = nn.Linear(16 * width, config.frames)
        nn.init.zeros_(self.score.weight)  # it starts by dropping uniformly
        nn.init.zeros_(self.score.bias)

    def forward(self, clip: Tensor, noise: Tensor) -> Dropped:
        """Leave frames out of clips `(B, S*C, H, W)` in [0, 255]. noise: `(B, S)` from U[0, 1)."""
        pixels = clip.float()
        scores = self.config.bound * self.score(self.layers(pixels / 255.0 - 0.5)).tanh()
        order, log_probability = self._draw(scores, noise)
        mask = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order[:, : self.config.dropped], True)
        frames = pixels.unflatten(1, (self.config.frames, -1))
        left = torch.where(mask[:, :, None, None, None], frames.mean((2, 3, 4), keepdim=True), frames)
        return Dropped(left.flatten(1, 2), mask, scores, log_probability)

    def _draw(self, scores: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames in the order in which they go `(B, S)`, and the log-probability of the first ones."""
        kind, dropped = self.config.estimator, self.config.dropped
        gumbel = -(-noise.clamp(1e-20, 1.0 - 1e-7).log()).log()
        keen = {"score_function": -scores + gumbel, "straight_through": -scores, "random": gumbel}[kind]
        order = keen.detach().argsort(1, descending=True)
        sorted_logits = (-scores).gather(1, order)
        left = sorted_logits.flip(1).logcumsumexp(1).flip(1)  # of what has not gone yet
        return order, (sorted_logits - left)[:, :dropped].sum(1)

    def loss(self, drop: Dropped, change: Tensor) -> Tensor:
        """Return what makes drops of much change likelier, given the change `(B,)` of each embedding.

        Its gradient reaches the scores alone. 0 with `straight_through`, see `straight_loss`, and `random`.
        """
        if self.config.estimator != "score_function":
            return drop.scores.sum() * 0.0
        change = change.detach()
        standard = (change - change.mean()) / change.std(correction=0).clamp_min(1e-8)
        return -(standard * drop.log_probability).mean()

    def straight_loss(self, drop: Dropped, gradient: Tensor) -> Tensor:
        """Return the authors' rule as a loss, given the gradient of the mean change by the clip `(B, S*C, H, W)`."""
        by_frame = gradient.detach().unflatten(1, (self.config.frames, -1)).sum((2, 3, 4))
        loss: Tensor = -(drop.scores.softmax(1) * by_frame).sum()
        return loss


def embedding_change(dropped: Tensor, whole: Tensor) -> Tensor:
    """Return the mean absolute difference `(B,)` of embeddings `(B, D)` on the sphere."""
    change: Tensor = F.l1_loss(unit(dropped), unit(whole), reduction="none").mean(1)
    return change
