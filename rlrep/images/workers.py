"""Processes that decode images side by side, each into shards of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rlrep.settings import UserError

from .shards import Part, write_shard

_LINE_SECONDS = 10.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def decode(folder: Path, root: Path, parts: Sequence[Part], lock: int, say: Callable[[str], None]) -> None:
    """Make the shards of all parts in `folder`, on every core this process may use.

    lock: an open file that the processes hold open as long as they live. say: told now and then how far they are.
    Raises ValueError naming a file that is no sound image, OSError if `folder` cannot be written.
    """
    count = min(len(os.sched_getaffinity(0)), len(parts))
    if count == 1:
        for part in parts:
            write_shard(folder, root, part, lambda: None)
        return
    total, done, last = sum(len(part.files) for part in parts), 0, time.monotonic()
    with _crew(folder, root, [parts[k::count] for k in range(count)], lock) as answers:
        for answer in answers:
            if "bad" in answer:
                raise ValueError(answer["bad"])
            if "unwritable" in answer:
                raise OSError(0, answer["unwritable"])
            done += answer["done"]
            if time.monotonic() - last > _LINE_SECONDS:
                last = time.monotonic()
                say(f"data: {done} of {total} images are decoded")


@contextmanager
def _crew(folder: Path, root: Path, shares: Sequence[Sequence[Part]], lock: int) -> Iterator[Iterator[Any]]:
    """Have a process work at each share, and yield what they answer, in the order in which they do."""
    reader, writer = os.pipe()
    crew = [_start(writer, lock) for _ in shares]
    os.close(writer)
    try:
        for process, share in zip(crew, shares, strict=True):
            _order(process, folder, root, share)
        with open(reader, errors="replace") as lines:
            yield _answers(lines, crew)
    finally:
        for process in crew:
            process.kill()
            process.wait()


def _start(writer: int, lock: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "rlrep.images.worker"],
        pass_fds=[lock],
        env={**_ONE_THREAD, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=writer,
        start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
    )


def _order(process: "subprocess.Popen[bytes]", folder: Path, root: Path, share: Sequence[Part]) -> None:
    """Tell a process what to do. One that is gone already is found by its answer."""
    recipe = share[0].recipe
    told = {
        "parent": os.getpid(),
        "folder": str(folder),
        "root": str(root),
        "recipe": [recipe.size, recipe.colour],
        "parts": [[part.number, part.files] for part in share],
    }
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(json.dumps(told).encode())


def _answers(lines: Iterator[str], crew: "Sequence[subprocess.Popen[bytes]]") -> Iterator[Any]:
    """Yield answers until all processes are through. Raises UserError if one ended before it was."""
    last = ""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # of a traceback
            last = line.strip() or last
    for code in [process.wait() for process in crew]:
        if code:
            how = signal.Signals(-code).name if code < 0 else last or f"exit code {code}"
            raise UserError(f"a process that decodes images ended ({how}): the same command goes on where it was")
