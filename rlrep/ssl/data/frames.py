"""Frames of episodes in one safetensors file: single frames, each with its episode, time and simulator state."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlrep.files import check_tensor_file

from .image_data import ImageData, Split, SplitSettings, existing

FORMAT = "rlrep frames 1"
_LABEL = "label."


MOST_STACKED = 64
"""Frames in one image: more are a slip of the finger, and memory by the gigabyte."""


@dataclass(frozen=True)
class FrameFile:
    """What a frame file holds. data: unstacked frames in the order of time. about: how they were collected."""

    data: ImageData
    about: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FrameSettings(SplitSettings):
    """What frames of episodes have beside a split.

    stack: frames in one image, oldest first; before an episode's start its first frame is repeated, as environments do.
    stride: steps between them, 1 as in environments; more for clips of a longer time.
    gap: agent steps between positives: every view of an image after the first is of a frame 0 to `gap` steps later in
    its episode; 0 = all views are of one frame.
    """

    augment: ClassVar[str] = "random_shift"
    stack: int = 3
    stride: int = 1
    gap: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.stack <= MOST_STACKED:
            raise ValueError(f"stack must be from 1 to {MOST_STACKED} frames, not {self.stack}")
        if self.stride < 1:
            raise ValueError(f"stride must be 1 or more steps, not {self.stride}")
        if self.gap < 0:
            raise ValueError(f"gap must be 0 (off) or a number of agent steps, not {self.gap}")


@dataclass(frozen=True)
class Frames(FrameSettings):
    """Frames from an environment, stacked as an agent sees them; whole episodes are held out.

    path: a frame file, as `rlrep.loops.frames.collect_frames` writes it.
    """

    path: str

    def make(self, device: torch.device) -> Split:
        """Read and stack the frames (in memory `stack` times as large as the file)."""
        existing("data.path", self.path, "a frame file, made by rlrep.loops.frames.collect_frames,", kind="file")
        data = read_frames(Path(self.path).expanduser()).data
        assert data.time is not None
        return self.split(
            ImageData(
                stack_frames(data.images[:], data.time, self.stack, self.stride), data.labels, data.episode, data.time
            ),
            device,
        )


def stack_frames(images: Tensor, time: Tensor, stack: int, stride: int = 1) -> Tensor:
    """Stack each frame `(N, C, H, W)` with those before it in its episode, `stride` apart, to `(N, stack*C, H, W)`.

    time: steps since the episode's first frame `(N,)`.
    """
    back = stride * torch.arange(stack - 1, -1, -1)
    rows = torch.arange(len(images))[:, None] - torch.minimum(back, time[:, None])
    return images[rows].flatten(1, 2)


def save_frames(path: Path, data: ImageData, about: Mapping[str, Any]) -> None:
    """Write a frame file in one step. data: unstacked, episode after episode; about: plain JSON."""
    assert data.episode is not None and data.time is not None, "frames have episodes and times"
    labels = {f"{_LABEL}{name}": values.contiguous() for name, values in data.labels.items()}
    tensors = {"images": data.images[:].contiguous(), "episode": data.episode, "time": data.time, **labels}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # two runs may collect the same frames
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, temporary, {"format": FORMAT, "about": json.dumps(dict(about), sort_keys=True)})
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def read_about(path: Path) -> dict[str, Any]:
    """Return how a frame file was collected, without reading its frames. Raises ValueError if it is none."""
    try:
        check_tensor_file(path)
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')}, not {FORMAT}")
        about: dict[str, Any] = json.loads(header["about"])
    except (OSError, ValueError, KeyError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{path} is not a sound frame file: {error}") from error
    return about


def read_frames(path: Path) -> FrameFile:
    """Read a frame file. Raises ValueError if it is none, or damaged."""
    about = read_about(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        labels = {name.removeprefix(_LABEL): value for name, value in tensors.items() if name.startswith(_LABEL)}
        data = ImageData(tensors["images"], labels, tensors["episode"], tensors["time"])
        _check_order(tensors["episode"], tensors["time"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path} is not a sound frame file: {error}") from error
    return FrameFile(data, about)


def _check_order(episode: Tensor, time: Tensor) -> None:
    starts = torch.cat([torch.ones(1, dtype=torch.bool), episode[1:] != episode[:-1]])
    expected = torch.where(starts, 0, torch.cat([torch.zeros(1, dtype=torch.int64), time[:-1] + 1]))
    if not torch.equal(time, expected):
        raise ValueError("its episodes are not in the order of time")
