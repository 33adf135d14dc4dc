"""Latent contrast: a transition model's prediction attracts the momentum encoder's latent of what followed and repels
those of other rows (DR.Q, 2026)."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import feature_std, latent_contrast
from rlrep.contrast.parts import Metrics, in_batch_health, masked_share
from rlrep.replay import Batch, LaterSteps, Needs, Pairs
from rlrep.settings import ranges
from rlrep.views.base import View

from .actions import action_dim
from .base import Encoded, Encoders, Head, Rollout
from .negatives import NegativeMask
from .transition import make_transition, roll_out


@dataclass(frozen=True)
class LatentContrast(NegativeMask):
    """Settings of `aux=latent_contrast`.

    steps: agent steps predicted; an agent with a model of its own predicts as many as it unrolls.
    transition_dim: hidden width of the head's own transition model, where the agent has none. temperature: of cosines.
    view: augmentation of what followed (None = the agent's own), where the agent does not encode it.
    Raises ValueError on fewer steps than 1, and on a temperature that is not positive.
    """

    steps: int = 5
    transition_dim: int = 256
    temperature: float = 0.1
    view: View | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("steps", "transition_dim"))
        ranges.positive(self, ("temperature",))

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "LatentContrastHead":
        width = action_dim(action_space)
        return LatentContrastHead(self, make_transition(latent_dim, width, self.transition_dim), width)

    def make_on_model(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "LatentContrastHead":
        return LatentContrastHead(self, None, 0)


class LatentContrastHead(Head):
    """InfoNCE of every predicted step, summed over steps; steps beyond an episode's end are no anchors.

    transition: None = the agent's own model has predicted. action_width: of an encoded action.
    """

    like_encoder = ("transition",)

    def __init__(self, config: LatentContrast, transition: nn.Module | None, action_width: int) -> None:
        super().__init__()
        self.config, self.transition, self.action_width = config, transition, action_width
        self.later = None if transition is None else LaterSteps(tuple(range(1, config.steps + 1)))
        asked = (self.later, config.bin_request, config.time_request)
        self.needs = Needs(tuple(request for request in asked if request is not None), config.view)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        rollout, origin = self._rollout(pairs, encoded, encoders), self.config.origin(pairs)
        masked, counts = self.config.valid(origin, origin), rollout.valid.float()
        steps = list(zip(rollout.predicted, rollout.target, counts, strict=True))
        losses = [
            latent_contrast(predicted, target, temperature=self.config.temperature, valid=masked, row_weight=count)
            for predicted, target, count in steps
        ]
        first, last = (in_batch_health(*step[:2], valid=masked, row_weight=step[2]) for step in (steps[0], steps[-1]))
        health = {**first, "last_accuracy": last["accuracy"], "with_later": counts.mean()}
        health["target_std"] = feature_std(nn.functional.normalize(rollout.target[0], dim=1))
        return torch.stack(losses).sum(), health | ({} if masked is None else {"masked": masked_share(masked)})

    def _rollout(self, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> Rollout:
        if self.transition is None or self.later is None:
            assert encoded.rollout is not None
            return encoded.rollout
        later = pairs[self.later]
        predicted = roll_out(self.transition, encoded.latent, later.action, self.action_width)
        with torch.no_grad():
            target = encoders.target(later.obs.flatten(0, 1)).view_as(predicted)
        return Rollout(predicted, target, later.valid)
