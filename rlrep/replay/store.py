"""The replay: every frame once, observations rebuilt by index, sampling on the device that holds it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .batch import Batch
from .generators import restore
from .pairs import Anchors, Needs, Samplers, Stepped
from .priorities import Priorities
from .reader import Reader
from .ring import NUMPY, Ring, Window
from .shared import SharedSpans, Whole
from .spans import Span, Spans, carve
from .spec import ReplaySpec

Array = NDArray[Any]
Bools = NDArray[np.bool_]
GPU_SHARE = 0.75
"""Largest share of the free GPU memory that a replay takes; the rest is for training."""


class Replay:
    """Transitions of N environments stepped together.

    needs: what each auxiliary head asks for, by head name; fixed at construction.
    device: where batches go. The store lives there too if it fits in the free GPU memory, else in pinned main memory.
    rings: the append-only columns, saved and restored apart from `state()` (restored first).
    stream: of every random number of its draws. shared: what a captured draw reads.
    """

    def __init__(
        self, spec: ReplaySpec, *, device: torch.device, seed: int, needs: Mapping[str, Needs] | None = None
    ) -> None:
        self.spec = spec
        self.device = device
        self.needs = dict(needs or {})
        self._home = _choose_home(spec, device)
        self._staged = self._home != device
        layout = spec.layout()
        self._frames = Ring(spec.frames, layout["frames"], device=self._home, pinned=self._staged)
        self._steps = Ring(spec.steps, layout["steps"], device=self._home, pinned=self._staged)
        self.rings: dict[str, Ring] = {"frames": self._frames, "steps": self._steps}
        self._window = Window(spec.steps, spec.num_envs)
        self.shared = self._window.shared
        self._ranges = SharedSpans(self.shared, self._drawable, spec.num_envs + 7)  # before what it lets move
        self._summed = self.shared.add(self._horizon)
        self._reader = Reader(spec, self._frames, self._steps, self._window, device=device, staged=self._staged)
        self._samplers = Samplers(self.needs, self._reader)
        self._priorities = Priorities(spec.priority, self._window, self._home) if spec.priority else None
        self.stream = torch.Generator(self._home).manual_seed(seed)
        self._exponents = torch.arange(spec.n_step + 1, dtype=torch.float64, device=self._home)
        self._powers = torch.ones(spec.n_step + 1, device=self._home)  # of the discount
        self._sums = 0, 0.0  # steps whose rewards are summed, under which discount
        self.sum_rewards(spec.n_step, spec.discount)
        self._begun = False
        self._stack = np.zeros((spec.num_envs, spec.frame_stack), np.int64)  # frames of the observation acted on next
        self._oldest = np.zeros(spec.steps, np.int32)  # oldest frame that each stored vector step needs
        self._episode = np.zeros(spec.num_envs, np.int64)  # first step of the running episode
        self._dropped: list[Span] = []  # (environment, first, stop) of episodes whose worker died
        self._spans: Spans | None = None

    # Writing

    def begin(self, frames: Array) -> None:
        """Take the first frames `(N, *frame_shape)` of N episodes. Episodes still running are dropped from sampling."""
        again, self._begun = self._begun, True
        if again:
            self._drop(np.arange(self.spec.num_envs))
        self._stack[:] = self._append_frames(frames)[:, None]
        self._forget()
        if again:
            self._samplers.cut()

    def add(
        self,
        action: Array,
        reward: Array,
        terminated: Bools,
        truncated: Bools,
        next_frames: Array,
        reset_frames: Array,
        died: Bools,
    ) -> None:
        """Store one vector step; every argument is batched `(N, ...)`.

        next_frames: the frame each action led to, the episode's final one where it ended.
        reset_frames: the first frame of the next episode where one ended; other rows are ignored.
        died: the worker was lost; its episode is kept out of sampling.
        Raises RuntimeError before `begin`, ValueError on wrong shapes or types.
        """
        if not self._begun:
            raise RuntimeError("Replay: call begin() with the first frames before add().")
        ended = terminated | truncated | died
        stack = np.concatenate([self._stack, self._append_frames(next_frames)[:, None]], axis=1)
        self._append_step(stack, action, reward, terminated, truncated)
        self._stack = stack[:, 1:]
        if ended.any():
            self._stack[ended] = self._append_frames(reset_frames[ended])[:, None]
        self._forget()
        self._end_episodes(ended, died)
        self._samplers.add(Stepped(reward, ended, terminated, died))

    def _append_frames(self, frames: Array) -> NDArray[np.int64]:
        """Store frames and return their numbers."""
        first = self._frames.written
        self._frames.append({"frame": self._tensor(frames, self.spec.frame_shape, self.spec.frame_dtype)})
        return np.arange(first, self._frames.written)

    def _append_step(
        self, stack: NDArray[np.int64], action: Array, reward: Array, terminated: Bools, truncated: Bools
    ) -> None:
        spec = self.spec
        slots = stack % self._frames.capacity
        rows = {
            "stack": self._tensor(slots, (spec.frame_stack + 1,), torch.int32),
            "action": self._tensor(action, spec.action_shape, spec.action_dtype),
            "reward": self._tensor(reward, (), torch.float32),
            "terminated": self._tensor(terminated, (), torch.bool),
            "truncated": self._tensor(truncated, (), torch.bool),
            "first": self._tensor(self._episode, (), torch.int32),
        }
        if any(len(tensor) != spec.num_envs for tensor in rows.values()):
            raise ValueError(f"Replay: every array of a step needs {spec.num_envs} rows.")
        self._oldest[self._window.head % spec.steps] = stack[:, 0].min()
        self._steps.append({name: tensor.unsqueeze(0) for name, tensor in rows.items()})
        self._window.head += 1

    def _tensor(self, array: Array, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Rows of the given shape and type, in main memory."""
        if array.shape[1:] != shape:
            raise ValueError(f"Replay: expected rows of shape {shape}, got {array.shape[1:]}.")
        if not np.can_cast(array.dtype, NUMPY[dtype], casting="same_kind"):
            raise ValueError(f"Replay: expected {NUMPY[dtype]}, got {array.dtype}.")
        return torch.from_numpy(np.require(array, NUMPY[dtype], ["C", "W"]))

    def _forget(self) -> None:
        """Move the window's low end past steps that were overwritten or lost a frame."""
        window = self._window
        window.low = max(window.low, self._steps.oldest)
        while window.low < window.head and self._oldest[window.low % window.steps] < self._frames.oldest:
            window.low += 1
        self._dropped = [hole for hole in self._dropped if hole[2] > window.low]
        self._spans = None

    def _end_episodes(self, ended: Bools, died: Bools) -> None:
        if died.any():
            self._drop(np.flatnonzero(died))
        self._episode[ended] = self._window.head

    def _drop(self, envs: NDArray[np.int64]) -> None:
        head = self._window.head
        lost = [(e, int(self._episode[e]), head) for e in envs.tolist() if self._episode[e] < head]
        self._dropped += lost
        if self._priorities is not None:
            self._priorities.lose(lost)
        self._episode[envs] = head
        self._spans = None

    # Sampling

    def can_sample(self) -> bool:
        """Whether any stored transition's n-step window is complete."""
        return self._sampled().total > 0

    def __len__(self) -> int:
        """Transitions stored (those of dropped episodes and incomplete n-step windows count)."""
        return (self._window.head - self._window.low) * self.spec.num_envs

    def sample(self, batch_size: int, *, alone: bool = False) -> Batch:
        """Return `batch_size` transitions with what every head needs: independent and uniform, or prioritised.

        alone: nothing beside them is drawn.
        Views are the caller's: nothing is augmented.
        Raises RuntimeError if there is nothing to sample.
        """
        spans = self._ranges if self.shared.read else self._drawable()
        reader, (step, env, rows) = self._reader, self._draw(spans, batch_size)
        reward, discount, last = self._returns(step, env, rows)
        obs = reader.stacks(rows)
        return Batch(
            obs=obs,
            action=reader.action(rows),
            reward=reader.send(reward),
            discount=reader.send(discount),
            next_obs=reader.stacks(last, shift=1),
            pairs={} if alone else self._samplers.draw(Anchors(obs, rows, step, env, self.stream)),
            weight=None if self._priorities is None else reader.send(self._priorities.importance(rows)),
            rows=None if self._priorities is None else reader.send(step * self.spec.num_envs + env),
        )

    @property
    def outside(self) -> list[str]:
        """What keeps draws out of a CUDA graph, in words."""
        found = ["a replay in pinned main memory"] if self._staged else []
        fading = self.spec.priority is not None and self.spec.priority.fade < 1
        return found + ["priorities that fade"] * fading + self._samplers.outside

    def sum_rewards(self, n_step: int, discount: float) -> None:
        """Let batches from now on sum so many rewards, under this discount per agent step.

        What may be sampled stays as the layout's n_step, the most there can be, makes it.
        Raises ValueError if there are more.
        """
        if not 1 <= n_step <= self.spec.n_step:
            raise ValueError(f"Replay: n_step must lie between 1 and the layout's {self.spec.n_step}, not {n_step}.")
        if (n_step, discount) != self._sums:
            self._powers.copy_(torch.pow(discount, self._exponents))  # on the device: nothing is copied to it
        self._sums = n_step, discount

    def update_priorities(self, rows: Tensor, priorities: Tensor) -> None:
        """Set the priorities `(B,)`, not negative, of transitions by their numbers `(B,)` from `Batch.rows`.

        Transitions that can no longer be drawn, and values that are not finite, are left out; of several values for
        one transition the largest counts. Waits for the device only if the replay is kept in pinned main memory.
        Raises RuntimeError if the replay samples uniformly.
        """
        if self._priorities is None:
            raise RuntimeError("Replay: it samples uniformly; give ReplaySpec a priority to use priorities.")
        if not self.shared.read:
            self._sampled()  # what has become drawable enters with the largest priority before this update
            self._priorities.settle()
        self._priorities.update(rows.to(self._home), priorities.detach().to(self._home))

    def _draw(self, spans: Spans | SharedSpans, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return steps, environments and flat rows, each `(count,)`."""
        if self._priorities is not None:
            return self._priorities.draw(count, spans.first, self.stream)
        step, env = spans.draw(count, self.stream)
        return step, env, self._window.rows(step, env)

    def _drawable(self) -> Spans:
        spans = self._sampled()
        if spans.total == 0:
            raise RuntimeError("Replay: nothing to sample yet; add steps first (can_sample() tells).")
        return spans

    def _sampled(self) -> Spans:
        """The transitions that may be sampled: a step's n-step window ends with its episode or is complete."""
        if self._spans is None:
            low = np.full(self.spec.num_envs, self._window.low)
            stop = np.maximum(self._episode, self._window.head - self.spec.n_step + 1)
            self._spans = Spans(carve(low, stop, self._dropped), self._home)
            if self._priorities is not None:
                self._priorities.follow(stop, self._dropped)
        return self._spans

    def _horizon(self) -> Whole:
        return np.array([self._sums[0]])

    def _returns(self, step: Tensor, env: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the n-step reward and discount, and the rows of the last steps summed, each `(B,)`."""
        reader, shared = self._reader, self.shared
        count = self.spec.n_step if shared.read else self._sums[0]
        if count == 1:
            return reader.take("reward", rows), self._powers[1] * ~reader.take("terminated", rows), rows
        window, live = reader.ahead(step, env, count)
        if shared.read:
            live &= self._exponents[:count] < shared[self._summed]
        taken = live.sum(1)
        last = window.gather(1, taken[:, None] - 1).squeeze(1)
        reward = (reader.flat["reward"][window] * live * self._powers[:count]).sum(1)
        return reward, self._powers[taken] * ~reader.take("terminated", last), last

    # Size and state

    def rewards(self) -> tuple[Tensor, Tensor]:
        """Return the mean absolute reward of the stored steps, and whether any of them terminated: each no axes, on
        the training device."""
        reader, stored = self._reader, min(self._window.head, self.spec.steps) * self.spec.num_envs
        reward, terminated = (reader.flat[name][:stored] for name in ("reward", "terminated"))
        return reader.send(reward.abs().mean()), reader.send(terminated.any())

    @property
    def nbytes(self) -> int:
        """Bytes of everything that grows with the capacity, on whichever device."""
        priorities = 0 if self._priorities is None else self._priorities.nbytes
        return self._frames.nbytes + self._steps.nbytes + self._oldest.nbytes + self._samplers.nbytes + priorities

    @property
    def bytes_per_transition(self) -> float:
        return self.nbytes / (self.spec.steps * self.spec.num_envs)

    def describe(self) -> str:
        """Return one line saying where the replay lives and how large it is when full."""
        place = "main memory" if self._home.type == "cpu" else f"GPU memory ({self._home})"
        if self._staged:
            place = f"pinned main memory (it does not fit beside training on {self.device})"
        count = self.spec.steps * self.spec.num_envs
        size = f"{self.nbytes:,} bytes when full, {self.bytes_per_transition:,.0f} per transition"
        return f"replay: {count:,} transitions in {place}, {size}"

    def state(self) -> dict[str, Any]:
        """Return everything but the rings' rows."""
        self._sampled()  # brings the priorities up to date
        return {
            "low": self._window.low,
            "begun": self._begun,
            "stack": self._stack.copy(),
            "oldest": self._oldest.copy(),
            "episode": self._episode.copy(),
            "dropped": [list(hole) for hole in self._dropped],
            "generator": self.stream.get_state(),
            "samplers": self._samplers.state(),
            "priorities": None if self._priorities is None else self._priorities.state(),
        }

    def load_state(self, tree: Mapping[str, Any]) -> None:
        """Take up a state saved by `state()`. The rings must have been restored before."""
        self._window.low, self._window.head = int(tree["low"]), self._steps.written
        self._begun = bool(tree["begun"])
        self._stack = np.array(tree["stack"], np.int64)
        self._oldest = np.array(tree["oldest"], np.int32)
        self._episode = np.array(tree["episode"], np.int64)
        self._dropped = [(int(env), int(first), int(stop)) for env, first, stop in tree["dropped"]]
        self._spans = None
        restore(self.stream, tree["generator"])
        self._samplers.load_state(tree["samplers"])
        if self._priorities is not None:
            self._priorities.load_state(tree["priorities"])


def _choose_home(spec: ReplaySpec, device: torch.device) -> torch.device:
    """The training device if the columns fit there, else main memory."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    needed = spec.frames * spec.frame_bytes
    return device if needed <= GPU_SHARE * free else torch.device("cpu")
