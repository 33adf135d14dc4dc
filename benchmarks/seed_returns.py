"""Return bins where rewards lie, and where episodes have not ended: digits to be seen, the class is the reward.

    python -m benchmarks.seed_returns [--seeds N]

The right bin of everything is known. Flipped rewards: `objective=classify` with and without early-learning
regularisation, bin accuracy on digits held out. Unfinished episodes: four steps of every class belong to finished
episodes, all others to running ones; accuracy of the pseudo-bins once these end. Writes results/seed_returns.json.
"""

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget
from rlrep.heads import CoMatchReturn, Encoded, Encoders, Head, ReturnContrast
from rlrep.heads.return_classifier import ReturnClassifierHead
from rlrep.replay import Replay, ReplaySpec
from rlrep.views import RandomShift

from . import result
from .tables import spread

Array = NDArray[np.int64]
ENVS, TRAIN, CLASSES, LABELS, ROWS = 10, 1000, 10, 4, 128
CPU = torch.device("cpu")
VIEW = RandomShift(size=None, pad=1)
# Of a reward of class / 9, seen one step ahead: the bin is the class.
NOISY = ReturnContrast(objective="classify", bins=CLASSES, binning="equal_width", discount=1.0, horizon=1)
OPEN = CoMatchReturn(bins=CLASSES, binning="equal_width", discount=1.0, horizon=1)
FLIPPED = (0.0, 0.2, 0.4)
NOISE_ARMS = {"cross entropy": replace(NOISY, early=0.0), "with ELR": NOISY}
OPEN_ARMS = {
    "finished only": replace(OPEN, unlabelled=0.0, contrast=0.0),
    "pseudo-bins": replace(OPEN, contrast=0.0, smoothing=1.0),
    "comatch_return": OPEN,
}
Found = Mapping[str, Sequence[Mapping[str, float]]]
"""By arm, the measures of every seed."""


class Digits:
    """Digits in the seed's order: images uint8 `(N, 1, 8, 8)`, classes `(N,)`; the first `TRAIN` are played."""

    def __init__(self, seed: int) -> None:
        self.draws = np.random.default_rng(seed)
        found = load_digits()
        order = self.draws.permutation(len(found.images))
        self.images = (found.images[order, None] * (255 / 16)).astype(np.uint8)
        self.classes: Array = found.target[order]

    def flipped(self, share: float) -> Array:
        """Return the classes, of which a share is any other one."""
        count = len(self.classes)
        other = (self.classes + self.draws.integers(1, CLASSES, count)) % CLASSES
        return np.where(self.draws.random(count) < share, other, self.classes)


class Trained:
    """A head on an encoder of its own, and the replay that both learn from."""

    def __init__(self, config: ReturnContrast | CoMatchReturn, seed: int) -> None:
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
        self.encoder, self.head = body, _made(config)
        self.follow = MomentumTarget(body, 0.05)
        self.encoders = Encoders(self.online, lambda obs: self.follow(obs.float() / 255.0))
        spec = ReplaySpec((1, 8, 8), torch.uint8, 1, (1,), torch.float32, ENVS, TRAIN + ENVS)
        self.replay = Replay(spec, device=CPU, seed=seed, needs={"head": self.head.needs})
        self.views = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.Adam([*body.parameters(), *self.head.parameters()], lr=1e-3)

    def online(self, obs: Tensor) -> Tensor:
        """Encode frames."""
        latent: Tensor = self.encoder(obs.float() / 255.0)
        return latent

    def play(self, images: Array, rewards: Array, ended: NDArray[np.bool_]) -> None:
        """Store steps `(T, ENVS)`; the first frames are taken where nothing was played before."""
        nothing, ends = np.zeros(ENVS, bool), np.roll(images, -1, 0)
        if len(self.replay) == 0:
            self.replay.begin(images[0])
        for step, reward in enumerate(rewards):
            action = np.zeros((ENVS, 1), np.float32)
            self.replay.add(action, reward / 9.0, ended[step], nothing, ends[step], ends[step], nothing)

    def update(self, *, shifted: bool, learn: bool = True) -> None:
        """Take one batch. shifted: under random shifts of a pixel. learn: else only what follows an update happens."""
        batch = self.replay.sample(ROWS)
        pairs, obs = batch.pairs["head"], batch.obs
        if shifted:
            pairs, obs = pairs.viewed(lambda frames: VIEW(frames, self.views)), VIEW(obs, self.views)
        loss, _ = self.head.loss(replace(batch, obs=obs), pairs, Encoded(self.online(obs)), self.encoders)
        if learn:
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.follow.update()
        self.head.after_update()

    @torch.no_grad()
    def accuracy(self, digits: Digits) -> float:
        """Return the share of digits held out whose bin is classified right."""
        held, classes = torch.from_numpy(digits.images[TRAIN:]), torch.from_numpy(digits.classes[TRAIN:])
        logits = self.head.judge(self.online(held), torch.zeros(len(held), 1)).logits
        return float((logits.argmax(1) == classes).double().mean())


def _made(config: ReturnContrast | CoMatchReturn) -> ReturnClassifierHead:
    head: Head = config.make("head", 64, spaces.Box(-1, 1, (1,), np.float32))
    assert isinstance(head, ReturnClassifierHead)
    return head


def noisy(config: ReturnContrast, seed: int, share: float, updates: int = 1500) -> dict[str, float]:
    """Every step is an episode, and so many rewards are another class's."""
    digits, trained = Digits(seed), Trained(config, seed)
    images, rewards = digits.images[:TRAIN], digits.flipped(share)[:TRAIN]
    steps = (TRAIN // ENVS, ENVS)
    trained.play(images.reshape(*steps, 1, 8, 8), rewards.reshape(steps), np.ones(steps, bool))
    for _ in range(updates):
        trained.update(shifted=False)
    return {f"{share:.0%} flipped": trained.accuracy(digits)}


def unfinished(config: CoMatchReturn, seed: int, updates: int = 1500) -> dict[str, float]:
    """Environment k first plays four steps of class k, and then one episode that ends after training."""
    digits, trained = Digits(seed), Trained(config, seed)
    first = np.stack([np.flatnonzero(digits.classes == k)[:LABELS] for k in range(CLASSES)], 1)
    rest = np.setdiff1d(np.arange(TRAIN), first)[: (TRAIN // ENVS - LABELS) * ENVS].reshape(-1, ENVS)
    rows = np.concatenate([first, rest])
    ended = np.zeros(rows.shape, bool)
    ended[LABELS - 1] = True
    trained.play(digits.images[rows], digits.classes[rows], ended)
    for _ in range(updates):
        trained.update(shifted=True)
    accuracy = trained.accuracy(digits)
    trained.play(digits.images[rows[-1:]], digits.classes[rows[-1:]], np.ones((1, ENVS), bool))
    for _ in range(300):
        trained.update(shifted=True, learn=False)
    right, counted = trained.head.get_buffer("scored")
    return {"held out": accuracy, "pseudo-bins once ended": float(right / counted)}


def rows(found: Found) -> Iterable[Sequence[object]]:
    """Return the table's lines: means, and from five seeds on how far these are known."""
    for arm, seeds in found.items():
        for measure in seeds[0]:
            values = [seed[measure] for seed in seeds]
            yield [arm, measure, len(values), f"{statistics.fmean(values):.3f}{spread(values, 3)}"]


def main() -> int:
    """Run the command line; the result file is written after every seed."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in (*NOISE_ARMS, *OPEN_ARMS)}
    for seed in result.fresh_seeds(options.seeds):
        for arm, noise in NOISE_ARMS.items():
            parts = [noisy(noise, seed, share) for share in FLIPPED]
            found[arm].append({name: value for part in parts for name, value in part.items()})
        for arm, few in OPEN_ARMS.items():
            found[arm].append(unfinished(few, seed))
        result.save(
            options.results / "seed_returns.json",
            ("arm", "bin accuracy", "seeds", "mean"),
            rows(found),
            limits="Digits of 8x8 seen one by one, 1,000 in the replay, ten bins, 1,500 updates of 128; no agent acts.",
            more={"values": found},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
