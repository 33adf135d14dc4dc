"""MR.Q's update as one writes it down first: a module for every network, autograd through each loss, torch's AdamW,
windows read from arrays, draws by a running sum over all priorities. The same equations, the peer of `mrq_speed`."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, elu, mse_loss, smooth_l1_loss

from rlrep.agents.mrq import MRQConfig


def network(*widths: int, activation: type[nn.Module] = nn.ELU, last: bool = True) -> nn.Sequential:
    """Build linear layers with LayerNorm and activation between them, and behind the last one if `last`."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.LayerNorm(b, elementwise_affine=False), activation()]
    return nn.Sequential(*(layers if last else layers[:-2]))


class Networks(nn.Module):
    """What is copied into the targets: encoder, model, both Q functions, actor."""

    def __init__(self, config: MRQConfig, states: int, actions: int, latent: int) -> None:
        super().__init__()
        width, bins = config.hidden_dim, config.bins
        self.encoder = network(states, width, width, latent)
        self.action = nn.Linear(actions, config.action_width)
        self.joint = network(latent + config.action_width, width, width, width, last=False)
        self.linear = nn.Linear(width, 1 + latent + bins)
        self.first, self.second = (nn.Sequential(network(*[width] * 4), nn.Linear(width, 1)) for _ in range(2))
        self.actor = network(latent, width, width, actions, activation=nn.ReLU, last=False)

    def pair(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return joint encodings."""
        joint: Tensor = self.joint(torch.cat([latent, elu(self.action(action))], 1))
        return joint

    def values(self, joint: Tensor) -> Tensor:
        """Return both Q values `(B, 2)`."""
        return torch.cat([self.first(joint), self.second(joint)], 1)


class Eager:
    """The agent with `stored` random transitions in episodes of 125 steps, none of which terminates."""

    def __init__(self, config: MRQConfig, states: int, actions: int, latent: int, stored: int = 1000) -> None:
        self.config, self.updates, self.stored = config, 0, stored
        self.nets, self.targets = (Networks(config, states, actions, latent) for _ in range(2))
        even = torch.linspace(-config.bound, config.bound, config.bins)
        self.bins = even.sign() * (even.abs().exp() - 1)
        nets = self.nets
        parts = (
            ([nets.encoder, nets.action, nets.joint, nets.linear], config.encoder_lr),
            ([nets.first, nets.second], config.lr),
            ([nets.actor], config.lr),
        )
        self.of_model, self.of_critic, self.of_actor = (
            torch.optim.AdamW([p for part in of for p in part.parameters()], lr, weight_decay=config.weight_decay)
            for of, lr in parts
        )
        self.obs = torch.randn(stored + 1, states)
        self.action, self.reward = 2 * torch.rand(stored, actions) - 1, torch.rand(stored)
        horizon = max(config.unroll_steps, config.n_step)
        left = torch.minimum(125 - torch.arange(stored) % 125, stored - torch.arange(stored))
        self.priority = (left > horizon).float()  # no window leaves its episode
        self.scale, self.target_scale = 1.0, 0.0

    def draw(self) -> Tensor:
        """Return rows `(B,)` by priority."""
        total = self.priority.cumsum(0)
        rows = torch.searchsorted(total, torch.rand(self.config.batch_size) * total[-1], right=True)
        return rows.clamp(max=self.stored - 1)

    def update(self) -> None:
        """Make one update, and before every `target_every` of them the model's phase."""
        if self.updates % self.config.target_every == 0:
            self.targets.load_state_dict(self.nets.state_dict())
            self.target_scale, self.scale = self.scale, float(self.reward.abs().mean())
            for _ in range(self.config.target_every):
                rows = self.draw()[:, None] + torch.arange(self.config.unroll_steps)
                loss = self.unroll_loss(self.obs[rows[:, 0]], self.action[rows], self.obs[rows + 1], self.reward[rows])
                self.step(self.of_model, loss)
        self.updates += 1
        self.act_and_judge(self.draw())

    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        """Differentiate and step."""
        optimiser.zero_grad()
        loss.backward()
        if optimiser is self.of_critic:
            nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], self.config.max_norm)
        optimiser.step()

    def unroll_loss(self, obs: Tensor, action: Tensor, following: Tensor, reward: Tensor) -> Tensor:
        """Return the model's loss on windows: obs `(B, D)`, the others `(B, T, ...)`."""
        config, nets = self.config, self.nets
        with torch.no_grad():
            target = self.targets.encoder(following.flatten(0, 1)).view(*following.shape[:2], -1)
        latent, loss = nets.encoder(obs), torch.zeros(())
        for step in range(config.unroll_steps):
            _, latent, logits = nets.linear(nets.pair(latent, action[:, step])).split(
                [1, target.shape[2], config.bins], 1
            )
            loss = loss + config.latent_weight * mse_loss(latent, target[:, step])
            loss = loss + config.reward_weight * cross_entropy(logits, self.two_hot(reward[:, step]))
        return loss

    def two_hot(self, value: Tensor) -> Tensor:
        """Return values `(B,)` as distributions `(B, bins)`."""
        lower = (torch.searchsorted(self.bins, value.contiguous(), right=True) - 1).clamp(0, len(self.bins) - 2)
        share = (value - self.bins[lower]) / (self.bins[lower + 1] - self.bins[lower])
        made = torch.zeros(len(value), len(self.bins))
        made.scatter_(1, lower[:, None], (1 - share)[:, None])
        return made.scatter_(1, lower[:, None] + 1, share[:, None])

    def target(self, following: Tensor, reward: Tensor, noise: Tensor) -> Tensor:
        """Return the TD target `(B, 1)` of n-step rewards `(B,)`."""
        config, targets = self.config, self.targets
        with torch.no_grad():
            latent = targets.encoder(following)
            blur = (noise * config.target_noise).clamp(-config.noise_bound, config.noise_bound)
            action = (targets.actor(latent).tanh() + blur).clamp(-1, 1)
            ahead = targets.values(targets.pair(latent, action)).min(1, keepdim=True).values
            return (reward[:, None] + config.discount**config.n_step * ahead * self.target_scale) / self.scale

    def act_and_judge(self, rows: Tensor) -> None:
        """Step the critic, then the actor, and give priorities back."""
        config, nets = self.config, self.nets
        rewards = self.reward[rows[:, None] + torch.arange(config.n_step)]
        reward = (rewards * config.discount ** torch.arange(config.n_step)).sum(1)
        target = self.target(self.obs[rows + config.n_step], reward, torch.randn_like(self.action[rows]))
        with torch.no_grad():
            latent = nets.encoder(self.obs[rows])
            joint = nets.pair(latent, self.action[rows])
        q = nets.values(joint)
        self.step(self.of_critic, smooth_l1_loss(q, target.expand_as(q)))
        raw = nets.actor(latent)
        judged = nets.values(nets.pair(latent, raw.tanh())).mean()
        self.step(self.of_actor, config.penalty * raw.square().mean() - judged)
        error = (q.detach() - target).abs().amax(1)
        self.priority[rows] = error.clamp(min=1) ** config.priority_alpha
