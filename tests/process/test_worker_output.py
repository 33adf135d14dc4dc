"""What simulators print, and where their processes find modules."""

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrep.envs.toy import ToyEnv
from rlrep.envs.vector import WorkerVector, make_vector
from rlrep.envs.vector.tail import KEPT

LOUD = b"x" * (1 << 20) + b"\n"


class Talkative(ToyEnv):
    """Prints a megabyte in every step, as a simulator's own code does; of a negative action it dies."""

    def step(self, action: Any) -> Any:
        os.write(1, LOUD)
        if action[0] < 0:
            os.write(2, b"the robot fell\n\n")
            os._exit(3)
        return super().step(action)


@dataclass(frozen=True)
class TalkativeState:
    def make(self, seed: int) -> Talkative:
        return Talkative(seed, terminates=False, size=None, frame_stack=1)


def test_what_a_simulator_prints_fills_no_disk_and_its_last_words_are_known() -> None:
    vector = make_vector(TalkativeState(), [0], workers=True)
    assert isinstance(vector, WorkerVector)
    vector.reset()
    process = vector._workers[0]
    for _ in range(20):
        vector.step_async(np.ones((1, 1), np.float32))
        vector.step_wait()
    assert os.readlink(f"/proc/{process._process.pid}/fd/1").startswith("pipe:")
    assert len(process._said._kept) <= KEPT
    with pytest.warns(RuntimeWarning, match="exit code 3: the robot fell"):
        vector.step_async(-np.ones((1, 1), np.float32))
        vector.step_wait()
    vector.close()


SOURCE = '''
from dataclasses import dataclass
from rlrep.envs.toy import ToyState

@dataclass(frozen=True)
class Mine(ToyState):
    """An environment of one's own."""
'''


def test_workers_find_modules_in_folders_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a:b c"
    folder.mkdir()
    (folder / "colon_env.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    import colon_env  # type: ignore[import-not-found]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = make_vector(colon_env.Mine(), [0], workers=True)
    vector.reset()
    vector.close()
    del sys.modules["colon_env"]
