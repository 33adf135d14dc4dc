"""Resets: parts of the networks become new ones, drawn by the run's seed and the update's number."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.heads import Head

from ..heads import Heads
from .networks import Networks
from .schedules import Resets
from .update import Update

Draw = Callable[[AgentSpec], tuple[Networks, Heads]]
"""Draws an agent's networks and heads by the spec's seed."""


@dataclass(frozen=True, eq=False)
class Renewal:
    """Carries out an agent's resets. spec: what it was made from. draw: as it was."""

    resets: Resets
    step: Update
    spec: AgentSpec
    draw: Draw

    def __call__(self, updates: int) -> None:
        """Mix new weights into the networks and the heads, after so many updates."""
        seed = int(np.random.SeedSequence(self.spec.seed, spawn_key=(updates,)).generate_state(1)[0])
        encoder = self.spec.encoder.restored()  # the new one is drawn, never loaded
        nets, heads = self.draw(replace(self.spec, seed=seed, encoder=encoder))
        changed = mix(self.step.nets, nets, self._of_networks)
        for name, head in self.step.heads.tasks.items():
            changed += mix(head, heads.tasks[name], self._of_head(head))
        self.step.optimisers.forget(changed)

    def _of_networks(self, name: str) -> float:
        """Return what is kept of a tensor of the networks: a target's as much as its network's, a frozen one and
        a policy's temperature whole."""
        holder, _, rest = name.partition(".")
        if holder in ("head", "target_head"):
            return 1.0 if rest.endswith("policy.scale") else self.resets.keep_head
        rest = rest.removeprefix("module.")
        frozen = any(rest == name and not p.requires_grad for name, p in self.step.nets.encoder.named_parameters())
        return 1.0 if frozen else self.resets.keep_encoder

    def _of_head(self, head: Head) -> Callable[[str], float]:
        keep, latents = self.resets.keep_aux, head.like_encoder
        return lambda name: self.resets.keep_encoder if name.split(".")[0] in latents else keep


@torch.no_grad()
def mix(own: nn.Module, new: nn.Module, keep: Callable[[str], float]) -> list[Tensor]:
    """Put a module's tensors, with the share `keep(name)` of what they were, in the sum with another's, in their place;
    return the trained parameters that changed.

    Buffers (queues, running statistics) are not summed: those of what is new altogether are new too.
    """
    fresh, parameters, state = new.state_dict(), dict(own.named_parameters()), own.state_dict()
    for name, tensor in state.items():
        share = keep(name)
        if share == 0:
            state[name] = fresh[name]
        elif name in parameters and share < 1:
            state[name] = tensor.lerp(fresh[name], 1 - share)
    own.load_state_dict(state)
    return [p for name, p in parameters.items() if p.requires_grad and keep(name) < 1]
