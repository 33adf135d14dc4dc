"""Videos of evaluation episodes, written frame by frame."""

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrep.settings import UserError

Frame = NDArray[np.uint8]
_SMALLEST_SIDE = 256


class Video:
    """One file of RGB frames `(H, W, 3)`; small frames are enlarged, pixel by pixel. `.mp4` (H.264) or `.gif`."""

    def __init__(self, path: Path, *, frames_per_second: int = 30) -> None:
        self.path = path
        self._rate = frames_per_second
        self._part = path.with_name(f"part-{path.name}")
        self._encoder: Generator[None, Any, None] | None = None
        self._images: list[Frame] = []

    def add(self, frame: Frame) -> None:
        """Append one frame. Raises UserError where the encoder is not installed."""
        scale = max(1, -(-_SMALLEST_SIDE // min(frame.shape[:2])))
        large = frame.repeat(scale, 0).repeat(scale, 1)
        if self.path.suffix == ".gif":
            self._images.append(large)
            return
        even = np.ascontiguousarray(large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2])
        if self._encoder is None:
            self._encoder = self._open((even.shape[1], even.shape[0]))
        self._encoder.send(even)

    def close(self) -> None:
        """Finish the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._encoder is not None:
            self._encoder.close()
            self._part.replace(self.path)
        elif self._images:
            self._part.unlink(missing_ok=True)
            _write_gif(self._part, self._images, self._rate)
            self._part.replace(self.path)

    def discard(self) -> None:
        """Drop what was written."""
        if self._encoder is not None:
            self._encoder.close()
        with suppress(OSError):
            self._part.unlink()

    def _open(self, size: tuple[int, int]) -> Generator[None, Any, None]:
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise UserError("mp4 needs imageio-ffmpeg: pip install imageio-ffmpeg, or use video_format=gif") from error
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part.unlink(missing_ok=True)
        encoder: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
            str(self._part.absolute()),  # else ffmpeg takes what is before a colon for a protocol
            size,
            fps=self._rate,
            codec="libx264",
            quality=7,
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        encoder.send(None)
        return encoder


def _write_gif(path: Path, images: list[Frame], rate: int) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(image) for image in images)
    first.save(path, save_all=True, append_images=rest, duration=1000 // rate, loop=0)
