"""Rainbow's modules: a dueling head on noisy layers, for value distributions or plain values."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget
from rlrep.nn import Encoder, NoisyLinear
from rlrep.nn.actions import Choosing, per_action
from rlrep.nn.noisy import Affine

from .policy import PolicyHead


class Layers(NamedTuple):
    """A head's layers under one draw of noise (or their means)."""

    hidden: Affine
    advantage: Affine
    value: Affine | None


class QHead(Choosing):
    """Latents `(B, D)` to logits of every action's return distribution `(B, A, atoms)`; atoms = 1: to its value.

    dueling: a value and an advantage stream (Wang et al. 2016, arXiv 1511.06581, equation 9), whose first layers are
    one product, or (shared) one layer. policy: on the same latents, None = the greatest value acts.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int,
        actions: int,
        atoms: int,
        *,
        dueling: bool,
        shared: bool = False,
        sigma0: float | None,
        policy: PolicyHead | None = None,
    ) -> None:
        super().__init__(actions)
        self.atoms, self.shared, self.policy = atoms, shared, policy
        self.hidden = NoisyLinear(latent_dim, hidden_dim, sigma0=sigma0, streams=2 if dueling and not shared else 1)
        self.advantage = per_action(NoisyLinear(hidden_dim, actions * atoms, sigma0=sigma0), 0)
        self.value = NoisyLinear(hidden_dim, atoms, sigma0=sigma0) if dueling else None
        self._splits = [layer.noise_dim for layer in (self.hidden, self.advantage, self.value) if layer is not None]

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers of one perturbation."""
        return sum(self._splits)

    def perturbed(self, noise: Tensor | None) -> Layers:
        """Return the layers under noise `(noise_dim,)`, or their means (None)."""
        hidden, advantage, *value = [None] * 3 if noise is None else noise.split(self._splits)
        return Layers(
            self.hidden.perturbed(hidden),
            self.advantage.perturbed(advantage),
            None if self.value is None else self.value.perturbed(value[0]),
        )

    def forward(self, latent: Tensor, layers: Layers) -> Tensor:
        """Return logits `(B, A, atoms)`."""
        linear = nn.functional.linear
        hidden = linear(latent, *layers.hidden).relu()
        if layers.value is None:
            return linear(hidden, *layers.advantage).view(-1, self.actions, self.atoms)
        for_value, for_advantage = (hidden, hidden) if self.shared else hidden.chunk(2, 1)
        advantage = linear(for_advantage, *layers.advantage).view(-1, self.actions, self.atoms)
        return linear(for_value, *layers.value).unsqueeze(1) + advantage - self.mean(advantage)

    def widened(self, noise: Tensor, own: "QHead") -> Tensor:
        """Return noise `(..., own.noise_dim)` that a head of fewer actions is perturbed by as this one takes it: none
        for the actions that the other has not."""
        end = own.hidden.noise_dim + own.actions * own.atoms
        lacking = noise.new_zeros((*noise.shape[:-1], self.noise_dim - own.noise_dim))
        return torch.cat([noise[..., :end], lacking, noise[..., end:]], -1)


class Networks(nn.Module):
    """Everything Rainbow learns or tracks. The targets never receive gradient.

    target_encoder, target_head: the RL target, moved by `target_tau`, 1 = copied whole. key_encoder: the heads' slow
    copy, only where there are heads. support `(atoms,)`: the returns that the atoms stand for.
    """

    support: Tensor

    def __init__(
        self, encoder: Encoder, head: QHead, support: Tensor, *, target_tau: float, key_tau: float | None
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.target_encoder, self.target_head = (MomentumTarget(part, target_tau) for part in (encoder, head))
        self.key_encoder = None if key_tau is None else MomentumTarget(encoder, key_tau)
        self.register_buffer("support", support, persistent=False)

    def logits(self, obs: Tensor, noise: Tensor | None, *, by_target: bool) -> Tensor:
        """Return logits `(B, A, atoms)` of the online network or of the target, under noise or by mean weights."""
        encoder, head = self.side(by_target=by_target)
        logits: Tensor = head(encoder(obs), head.perturbed(noise))
        return logits

    def side(self, *, by_target: bool) -> tuple[Any, Any]:
        """Return encoder and head of the online network or of the target."""
        targets = self.target_encoder.module, self.target_head.module
        return targets if by_target else (self.encoder, self.head)

    @torch.no_grad()
    def target_logits(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Return the target's logits `(B, A, atoms)` under noise of its own, or by its mean weights."""
        return self.logits(obs, noise, by_target=True)
