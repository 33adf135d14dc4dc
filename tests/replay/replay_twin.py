"""A slow replay made of Python lists, and random scripts that drive it and the real one together."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlrep.replay import Needs, Priority, Replay, ReplaySpec, ReturnLabels, Ring

Array = NDArray[Any]
CPU = torch.device("cpu")


@dataclass
class Episode:
    """One environment's episode: frames (one more than transitions) and, per transition, what was seen."""

    env: int
    first_step: int
    frames: list[Array]
    frame_numbers: list[int]
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    dropped: bool = False

    @property
    def stop(self) -> int:
        return self.first_step + len(self.rewards)

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated or self.dropped


@dataclass
class Expected:
    """What the batch must say about one transition."""

    obs: Array
    next_obs: Array
    reward: float
    discount: float


class Twin:
    """Keeps all episodes for ever and answers questions about them by loops."""

    def __init__(self, spec: ReplaySpec) -> None:
        self.spec = spec
        self.episodes: list[Episode] = []
        self.running: list[Episode] = []
        self.frames = 0
        self.head = 0
        self.where: dict[tuple[int, int], tuple[Episode, int]] = {}
        self.actions: dict[int, tuple[int, int]] = {}

    def _number(self) -> int:
        self.frames += 1
        return self.frames - 1

    def _open(self, env: int, frame: Array) -> Episode:
        episode = Episode(env, self.head, [frame], [self._number()])
        self.episodes.append(episode)
        return episode

    def begin(self, frames: Array) -> None:
        for episode in self.running:
            episode.dropped = True
        self.running = [self._open(env, frame) for env, frame in enumerate(frames)]

    def add(
        self, rewards: Array, terminated: Array, truncated: Array, frames: Array, resets: Array, died: Array
    ) -> None:
        for env, episode in enumerate(self.running):
            self.where[self.head, env] = episode, len(episode.rewards)
            episode.rewards.append(float(np.float32(rewards[env])))
            episode.frames.append(frames[env])
            episode.frame_numbers.append(self._number())
            episode.terminated, episode.truncated = bool(terminated[env]), bool(truncated[env])
            episode.dropped = bool(died[env])
        self.head += 1
        for env, episode in enumerate(self.running):
            if episode.ended:
                self.running[env] = self._open(env, resets[env])

    def low(self) -> int:
        """First step whose rows, and all frames of all later steps, fit into the two rings."""
        low = max(0, self.head - self.spec.steps)
        gone = max(0, self.frames - self.spec.frames)
        lost = [t for (t, e) in self.where if self._oldest_frame(t, e) < gone]
        return max([low, *(t + 1 for t in lost)])

    def _oldest_frame(self, step: int, env: int) -> int:
        episode, index = self.where[step, env]
        return episode.frame_numbers[max(0, index - self.spec.frame_stack + 1)]

    def samplable(self) -> set[tuple[int, int]]:
        low = self.low()
        return {key for key in self.where if key[0] >= low and self._complete(*key)}

    def _complete(self, step: int, env: int) -> bool:
        episode, index = self.where[step, env]
        return not episode.dropped and (episode.ended or index + self.spec.n_step <= len(episode.rewards))

    def stack(self, episode: Episode, index: int) -> Array:
        indices = [max(0, index - back) for back in reversed(range(self.spec.frame_stack))]
        return np.concatenate([episode.frames[i] for i in indices])

    def expected(self, step: int, env: int) -> Expected:
        episode, index = self.where[step, env]
        total, discount, last = 0.0, 1.0, index
        for k in range(index, min(index + self.spec.n_step, len(episode.rewards))):
            total += discount * episode.rewards[k]
            discount *= self.spec.discount
            last = k
        final = last == len(episode.rewards) - 1
        if final and episode.terminated:
            discount = 0.0
        # The frames before the final one are those of the observation acted on, so the next stack may reach back.
        return Expected(self.stack(episode, index), self.stack(episode, last + 1), total, discount)

    def returns(self, labels: ReturnLabels) -> dict[tuple[int, int], float]:
        """Return of every transition of a finished, undropped episode, if all that it is made of was seen."""
        found = {}
        for (step, env), (episode, index) in self.where.items():
            rest = episode.rewards[index : None if labels.horizon is None else index + labels.horizon]
            whole = labels.horizon is None or len(rest) == labels.horizon or episode.terminated
            if episode.ended and not episode.dropped and whole:
                found[step, env] = sum(labels.discount**k * reward for k, reward in enumerate(rest))
        return found

    def thresholds(self, labels: ReturnLabels) -> list[float]:
        """What closes a segment at every step: given, or by the absolute rewards of the last episodes before it."""
        if labels.threshold is not None:
            return [labels.threshold] * self.head
        whole = [e for e in self.episodes if e.rewards and e.ended and not e.dropped and any(e.rewards)]
        whole.sort(key=lambda episode: (episode.stop, episode.env))
        found = []
        for step in range(self.head):
            earned = [sum(map(abs, e.rewards)) for e in whole if e.stop <= step][-max(20, self.spec.num_envs) :]
            found.append(sum(earned) / len(earned) / labels.segments if earned else np.inf)
        return found

    def segments(self, labels: ReturnLabels) -> list[list[tuple[int, int]]]:
        """The segments that have a stored transition, each with its stored transitions; none of a dropped episode."""
        low = self.low()
        found: list[list[tuple[int, int]]] = []
        for episode in self.episodes:
            if episode.dropped:
                continue
            for part in _cut(episode, labels, self.thresholds(labels)):
                stored = [key for key in part if key[0] >= low]
                found += [stored] if stored else []
        return found


def _cut(episode: Episode, labels: ReturnLabels, thresholds: list[float]) -> list[list[tuple[int, int]]]:
    parts: list[list[tuple[int, int]]] = [[]]
    total = 0.0
    for index, reward in enumerate(episode.rewards):
        step = episode.first_step + index
        parts[-1].append((step, episode.env))
        total += abs(reward)
        alone = labels.threshold is None and len(parts[-1]) == 1
        full = reward != 0 if labels.mode == "reward_event" else total >= thresholds[step] and not alone
        if full or len(parts[-1]) == labels.max_length:
            parts.append([])
            total = 0.0
    return parts


@dataclass
class Script:
    """Seeded random steps, fed to a replay, its twin and any followers (replays that must do the same).

    Rewards are multiples of 1/4, often 0, so that sums are exact.
    """

    replay: Replay
    twin: Twin
    rng: np.random.Generator
    end: float = 0.1
    death: float = 0.0
    followers: list[Replay] = field(default_factory=list)

    def frames(self) -> Array:
        spec = self.replay.spec
        shape = (spec.num_envs, *spec.frame_shape)
        if spec.frame_dtype == torch.uint8:
            return self.rng.integers(0, 256, shape, dtype=np.uint8)
        return self.rng.standard_normal(shape, dtype=np.float32)

    def begin(self) -> None:
        frames = self.frames()
        self.twin.begin(frames)
        self.replay.begin(frames)

    def step(self) -> None:
        n, rng = self.replay.spec.num_envs, self.rng
        terminated, truncated = rng.random(n) < self.end / 2, rng.random(n) < self.end / 2
        died = rng.random(n) < self.death
        rewards = (rng.integers(-2, 5, n) * (rng.random(n) < 0.4) / 4).astype(np.float32)
        frames, resets = self.frames(), self.frames()
        action = self.actions()
        self.twin.add(rewards, terminated, truncated, frames, resets, died)
        for replay in (self.replay, *self.followers):
            replay.add(action, rewards, terminated, truncated, frames, resets, died)

    def actions(self) -> Array:
        """Actions that name their transition: step * N + environment."""
        spec = self.replay.spec
        number = self.twin.head * spec.num_envs + np.arange(spec.num_envs)
        if spec.action_dtype == torch.int64:
            return number
        return np.repeat(number[:, None], spec.action_shape[0], axis=1).astype(np.float32)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def keys(self, action: torch.Tensor) -> list[tuple[int, int]]:
        """Step and environment of each sampled action."""
        numbers = action if action.ndim == 1 else action[:, 0]
        return [divmod(int(number), self.replay.spec.num_envs) for number in numbers.tolist()]


def make_spec(
    *,
    num_envs: int = 2,
    steps: int = 30,
    frame_stack: int = 1,
    n_step: int = 1,
    pixels: bool = False,
    discrete: bool = False,
    discount: float = 0.9,
    priority: Priority | None = None,
) -> ReplaySpec:
    """A small spec; pixel frames are 3 x 20 x 20, above the size up to which every reset frame has room."""
    return ReplaySpec(
        frame_shape=(3, 20, 20) if pixels else (4,),
        frame_dtype=torch.uint8 if pixels else torch.float32,
        frame_stack=frame_stack,
        action_shape=() if discrete else (2,),
        action_dtype=torch.int64 if discrete else torch.float32,
        num_envs=num_envs,
        capacity=steps * num_envs,
        n_step=n_step,
        discount=discount,
        priority=priority,
    )


def make_script(
    spec: ReplaySpec,
    needs: dict[str, Needs] | None = None,
    *,
    seed: int = 0,
    end: float = 0.1,
    death: float = 0.0,
    steps: int = 0,
) -> Script:
    """A script that has begun and made some steps."""
    replay = Replay(spec, device=CPU, seed=seed, needs=needs)
    script = Script(replay, Twin(spec), np.random.default_rng(seed), end, death)
    script.begin()
    script.run(steps)
    return script


def copy_replay(replay: Replay, seed: int = 99) -> Replay:
    """Save and restore by the public contract: ring rows in chunks, then the state."""
    twin = Replay(replay.spec, device=CPU, seed=seed, needs=replay.needs)
    for name, ring in replay.rings.items():
        copy_ring(ring, twin.rings[name])
    twin.load_state(replay.state())
    return twin


def copy_ring(source: Ring, target: Ring, chunk: int = 7) -> None:
    for start in range(source.oldest, source.written, chunk):
        target.restore(start, source.read(start, min(start + chunk, source.written)))


def scripts(
    needs: dict[str, Needs] | None = None, *, frame_stack: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[Script]:
    """Scripts that have begun, on small replays of every layout, with few or many ends and deaths."""
    spec = st.builds(
        make_spec,
        num_envs=st.integers(1, 3),
        steps=st.integers(4, 30),
        frame_stack=st.integers(1, 4) if frame_stack is None else frame_stack,
        n_step=st.integers(1, 4),
        pixels=st.booleans(),
        discrete=st.booleans(),
    )
    end, death = st.sampled_from([0.0, 0.1, 0.6]), st.sampled_from([0.0, 0.05])
    return st.builds(make_script, spec, st.just(needs), seed=st.integers(0, 2**16), end=end, death=death)
