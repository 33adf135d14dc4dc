"""Stable-Baselines3's replay buffers, which also keep what they sampled and look up what heads ask for beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Generator, Tensor

from rlrep.replay import Anchors, Needs, Pairs, Ring, Stepped, Steps
from rlrep.replay.pairs import Samplers
from rlrep.replay.ring import Window
from rlrep.views import View

Array = NDArray[Any]
COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "first")

KEEPS_SHAPE = "take a view that keeps shape and type, as random_shift of frames or amplitude_scale of states"


@dataclass(frozen=True)
class Draws:
    """Random streams of an algorithm's heads: SB3's own, which are the global ones, are left alone.

    host: of the replay. device: of views.
    """

    host: Generator
    device: Generator

    @staticmethod
    def on(device: torch.device) -> "Draws":
        """Return streams whose views are drawn on `device`."""
        return Draws(Generator(), Generator(device))

    def seed(self, seed: int) -> None:
        """Begin both anew."""
        self.host.manual_seed(seed)
        self.device.manual_seed(seed + 1)


@dataclass(frozen=True)
class Drawn:
    """The last sample. obs: its observations before any view. rows: flat rows `(B,)`, where it lies in the buffer."""

    samples: ReplayBufferSamples
    obs: Tensor
    rows: Tensor


class AuxBuffer(ReplayBuffer):
    """What is added to a buffer of SB3's. Its draws, and what it returns of them, are SB3's own.

    Without `attend`, which comes before anything is stored, it is SB3's. Observations are those of a Box. An episode
    that stops without its end having been stored (`learn` resets the environments) is left out by labels and windows,
    not by SB3's sampling.
    """

    last: Drawn | None = None
    _needs: dict[str, Needs]
    _rows: "SB3Rows"
    _samplers: Samplers | None = None
    _view: View | None = None

    def attend(self, needs: Mapping[str, Needs], draws: Draws, *, view: View | None = None) -> None:
        """Look out for what heads need. view: of the sampled observations, None = as they are.

        Raises ValueError on a buffer that has been filled for other heads.
        """
        if self._samplers is not None and _unviewed(needs) != _unviewed(self._needs):
            kept, wanted = (",".join(each) or "none" for each in (self._needs, needs))
            raise ValueError(
                f"the replay buffer was filled for aux={kept}, not for this aux={wanted}: labels that were not kept "
                "cannot be made up for"
            )
        self._draws, self._view = draws, view
        if self._samplers is None:
            self._needs = dict(needs)
            self._first = np.zeros((self.buffer_size, self.n_envs), np.int32)
            self._window = Window(self.buffer_size, self.n_envs)
            self._episode = np.zeros(self.n_envs, np.int64)  # first step of the running episode
            self._follows: Array | None = None  # last observations, which running episodes go on from
            self._share()
        self._rows.move(self.device)

    def check_view(self, place: str, view: View, wanted: tuple[int, ...] | None) -> None:
        """Try a view on one observation. Raises ValueError, naming `place`, unless `wanted` is its shape then."""
        stored = single(torch.zeros(1, *self.obs_shape, dtype=torch.from_numpy(self.observations[:0]).dtype))
        name, shape = type(view).__name__, tuple(self.obs_shape)
        try:
            found = view(stored, Generator())
        except (ValueError, IndexError, RuntimeError) as error:
            why = str(error).partition(": ")[0]  # behind it stands what to do about it on rlrep's command line
            raise ValueError(f"{place}={name} does not fit observations of {shape} ({why}): {KEEPS_SHAPE}") from error
        rescaled = found.is_floating_point() and is_image_space(self.observation_space)  # SB3 divides these by 255
        if tuple(found.shape[1:]) != wanted or rescaled:
            what = f"{found.dtype} {tuple(found.shape[1:])} of {stored.dtype} {shape}"
            raise ValueError(f"{place}={name} makes {what}, the policy reads {wanted}: {KEEPS_SHAPE}")

    @property
    def ring(self) -> Ring:
        """SB3's own arrays, to be saved and restored row by row."""
        assert self._ring is not None, "attend() comes first"
        return self._ring

    def add(
        self, obs: Array, next_obs: Array, action: Array, reward: Array, done: Array, infos: list[dict[str, Any]]
    ) -> None:
        """Store one vector step, as SB3 does, and its labels."""
        if self._samplers is None:
            super().add(obs, next_obs, action, reward, done, infos)
            return
        window, done = self._window, np.asarray(done, bool)
        died, cut_off = (np.array([bool(i.get(key)) for i in infos]) for key in ("died", "TimeLimit.truncated"))
        self._cut_where_not_following(obs)
        self._first[self.pos] = self._episode
        super().add(obs, next_obs, action, reward, done, infos)
        self._ring.written += 1
        window.head += 1
        window.low = self._ring.oldest
        self._episode[done] = window.head
        self._samplers.add(Stepped(np.asarray(reward), done, done & ~cut_off, died))
        self._follows = np.array(next_obs)
        self._ended = done

    def bury(self, died: NDArray[np.bool_]) -> None:
        """Put the transition before in place of the newest one, of environments whose worker was lost; no step of its
        episode, it follows nothing."""
        now, before = (self.pos - 1) % self.buffer_size, (self.pos - 2) % self.buffer_size
        if died.any() and self._ring.written > 1:
            for column in (self.observations, self.next_observations, self.actions, self.rewards):
                column[now, died] = column[before, died]
        self._first[now, died] = self._window.head - 1

    def _cut_where_not_following(self, obs: Array) -> None:
        """Begin new episodes everywhere if one of them was left unfinished."""
        if self._follows is None:
            return
        running = ~self._ended
        same = np.array_equal(self._follows[running], np.asarray(obs).reshape(self._follows.shape)[running])
        if not same:
            assert self._samplers is not None
            self._episode[:] = self._window.head
            self._samplers.cut()

    def _get_samples(self, batch_inds: Array, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Return SB3's samples and keep them with their rows.

        SB3 draws the environments first thing in there: the same draw, from the same state, names them here.
        """
        if self._samplers is None:
            return super()._get_samples(batch_inds, env)
        state = np.random.get_state()
        envs = np.random.randint(0, high=self.n_envs, size=len(batch_inds))
        np.random.set_state(state)
        samples = super()._get_samples(batch_inds, env)
        self._rows.normaliser = env
        rows = torch.from_numpy(batch_inds.astype(np.int64) * self.n_envs + envs)
        obs = samples.observations
        if self._view is not None:
            views = (self._view(part, self._draws.device) for part in (obs, samples.next_observations))
            samples = samples._replace(**dict(zip(("observations", "next_observations"), views, strict=True)))
        self.last = Drawn(samples, obs, rows)
        return samples

    def pairs(self, drawn: Drawn) -> dict[str, Pairs]:
        """Return what each head asked for beside this sample, by its name."""
        assert self._samplers is not None
        step, env = self._window.steps_of(drawn.rows), drawn.rows.remainder(self.n_envs)
        return self._samplers.draw(Anchors(drawn.obs, drawn.rows, step, env, self._draws.host))

    # State

    def labels(self) -> dict[str, Any]:
        """Return what is known of the stored rows beside the ring."""
        assert self._samplers is not None
        return {
            "samplers": self._samplers.state(),
            "episode": self._episode.copy(),
            "follows": None if self._follows is None else self._follows.copy(),
            "ended": None if self._follows is None else self._ended.copy(),
        }

    def load_labels(self, tree: Mapping[str, Any]) -> None:
        """Take up `labels()`; the ring's rows are there already."""
        assert self._samplers is not None
        self._window.head, self._window.low = self._ring.written, self._ring.oldest
        self.pos, self.full = self._ring.written % self.buffer_size, self._ring.written >= self.buffer_size
        self._episode = np.array(tree["episode"])
        if tree["follows"] is not None:
            self._follows, self._ended = np.array(tree["follows"]), np.array(tree["ended"])
        self._samplers.load_state(tree["samplers"])

    def __getstate__(self) -> dict[str, Any]:
        """Return what `save_replay_buffer` writes: the arrays once, not the views of them."""
        if self._samplers is None:
            return dict(self.__dict__)
        anew = ("_ring", "_rows", "_samplers", "_draws", "_view", "last")
        state = {key: value for key, value in self.__dict__.items() if key not in anew}
        return state | {"labels": self.labels(), "written": self._ring.written}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Share the arrays anew; `attend` brings the random streams and the view."""
        labels, written = state.pop("labels", None), state.pop("written", 0)
        self.__dict__.update(state)
        if labels is None:
            return
        self._share()
        self._ring.written = written
        self.load_labels(labels)

    def _share(self) -> None:
        """Look at SB3's arrays as columns of tensors."""
        columns = {name: torch.from_numpy(getattr(self, name if name != "first" else "_first")) for name in COLUMNS}
        self._ring = Ring(1, {}, device=torch.device("cpu"))
        self._ring.capacity, self._ring.columns = self.buffer_size, columns
        self._rows = SB3Rows(
            columns, self._window, self.device, discrete=isinstance(self.action_space, spaces.Discrete)
        )
        self._samplers = Samplers(self._needs, self._rows)


class AuxReplayBuffer(AuxBuffer):
    """SB3's `ReplayBuffer` for heads."""


class AuxNStepReplayBuffer(AuxBuffer, NStepReplayBuffer):
    """SB3's `NStepReplayBuffer` for heads: `replay_buffer_kwargs={"n_steps": ..., "gamma": ...}`."""


BUFFERS: dict[type[ReplayBuffer], type[AuxBuffer]] = {
    ReplayBuffer: AuxReplayBuffer,
    NStepReplayBuffer: AuxNStepReplayBuffer,
}
"""What stands in for SB3's own buffers where there are heads or a view."""


def standing_in(chosen: type[ReplayBuffer]) -> type[AuxBuffer]:
    """Return the kind of buffer for what SB3, or a file of its, names. Raises ValueError on one of another kind."""
    ours = BUFFERS.get(chosen, chosen)
    if not issubclass(ours, AuxBuffer):
        raise ValueError(f"replay_buffer_class={ours.__name__} does not keep what aux= and augment= need: leave it out")
    return ours


class SB3Rows(Steps):
    """Rows of SB3's arrays. normaliser: the `VecNormalize` of the last sample, which heads' observations go through
    too; rewards stay as they came."""

    normaliser: VecNormalize | None = None

    def __init__(self, columns: Mapping[str, Tensor], window: Window, device: torch.device, *, discrete: bool) -> None:
        action = columns["actions"].flatten(0, 1)
        flat = {
            "action": action.squeeze(1) if discrete else action,
            "reward": columns["rewards"].flatten(),
            "first": columns["first"].flatten(),
        }
        super().__init__(window, flat, device=device, staged=device.type != "cpu")
        self._obs = [columns[name].flatten(0, 1) for name in ("observations", "next_observations")]

    def move(self, device: torch.device) -> None:
        """Send what is read to this device from now on."""
        self._device, self._staged = device, device.type != "cpu"

    def stacks(self, rows: Tensor, *, shift: int = 0) -> Tensor:
        """Return observations as SB3 samples them, floats in single precision."""
        column = self._obs[shift]
        obs = column.flatten(1).index_select(0, rows).unflatten(1, column.shape[1:])
        if self.normaliser is not None:
            obs = torch.from_numpy(np.asarray(self.normaliser.normalize_obs(obs.numpy())))
        return single(obs).to(self._device)


def _unviewed(needs: Mapping[str, Needs]) -> dict[str, Needs]:
    """Return what a buffer keeps for heads: views are of what is read from it."""
    return {name: replace(need, view=None) for name, need in needs.items()}


def single(obs: Tensor) -> Tensor:
    """Return observations `(B, ...)` in single precision, which is what policies compute in; frames of bytes as they
    are."""
    return obs if obs.dtype == torch.uint8 and obs.ndim == 4 else obs.float()
