"""A policy beside Rainbow's values, as in SAC for discrete actions: it acts, and says what the next step is worth."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from rlrep.heads import Metrics
from rlrep.nn import mlp
from rlrep.settings import ranges


@dataclass(frozen=True)
class Policy:
    """Settings of `agent.policy`: a policy acts and values the next step, instead of the greatest value (Christodoulou
    2019, arXiv 1910.07207; on BBF's body Zhang et al. 2024, arXiv 2407.11044).

    temperature: weight of the policy's entropy in its loss; None = there is no policy.
    updates: over which the temperature falls to 0 in equal steps; None = it does not.
    target_entropy: share of the largest entropy, log A, to which the temperature is learnt; None = it is not.
    soft: a state's value counts the policy's entropy there, times the temperature; not that of the steps summed before.
    """

    temperature: float | None = None
    updates: int | None = None
    target_entropy: float | None = None
    soft: bool = False

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("temperature",))
        ranges.at_least(self, 1, ("updates",))
        ranges.share(self, ("target_entropy",))
        if self.temperature is None and (self.updates or self.target_entropy is not None or self.soft):
            raise ValueError("no policy without a temperature: give one, as 0.01, or leave the other options")
        if self.target_entropy is not None and (self.updates is not None or not self.temperature):
            raise ValueError("target_entropy learns the temperature, from above 0 on: choose updates=null, give one")

    def make(self, latent_dim: int, hidden_dim: int, actions: int) -> "PolicyHead | None":
        """Build the policy on a latent; None = there is none."""
        return None if self.temperature is None else PolicyHead(self, latent_dim, hidden_dim, actions)

    def after(self, updates: int) -> float:
        """Return the temperature after so many updates, where it is not learnt."""
        assert self.temperature is not None
        return self.temperature * (1 - min(1.0, updates / self.updates) if self.updates else 1.0)


class PolicyHead(nn.Module):
    """Latents `(B, D)` to log-probabilities of actions `(B, A)`.

    scale: the temperature, or its logarithm where it is learnt.
    """

    def __init__(self, config: Policy, latent_dim: int, hidden_dim: int, actions: int) -> None:
        super().__init__()
        self.layers = mlp(latent_dim, [hidden_dim], actions)
        self.soft, start, learnt = config.soft, config.after(0), config.target_entropy is not None
        self.wanted = None if config.target_entropy is None else config.target_entropy * log(actions)
        self.scale = nn.Parameter(torch.tensor(log(start) if learnt else start), requires_grad=learnt)

    def forward(self, latent: Tensor) -> Tensor:
        log_probability: Tensor = self.layers(latent).log_softmax(1)
        return log_probability

    @property
    def temperature(self) -> Tensor:
        """The temperature, a scalar."""
        return self.scale if self.wanted is None else self.scale.exp()

    def losses(self, latent: Tensor, values: Tensor) -> tuple[Tensor, Metrics]:
        """Return each row's loss `(B,)` given the values of its actions `(B, A)`: the policy's, and the temperature's
        where it is learnt.

        Expectations over actions are sums, so that nothing is sampled.
        """
        chances, entropy = _chances(self(latent))
        loss = -(chances * values).sum(1) - self.temperature.detach() * entropy
        metrics = {"loss/policy": loss, "policy/entropy": entropy, "policy/temperature": self.temperature}
        if self.wanted is not None:
            loss = loss + self.temperature * (entropy.detach() - self.wanted)
        return loss, {name: each.detach().mean() for name, each in metrics.items()}

    def expected(self, latent: Tensor, each: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean `(B, atoms)` over the policy's actions of what is known of each, `(B, A, atoms)`, and what
        entropy adds to the value, `(B,)`."""
        chances, entropy = _chances(self(latent))
        bonus = self.temperature * entropy if self.soft else torch.zeros_like(entropy)
        return (chances[:, :, None] * each).sum(1), bonus


def _chances(log_probability: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities `(B, A)`, and their entropy `(B,)` in nats."""
    chances = log_probability.exp()
    return chances, -(chances * log_probability).sum(1)
