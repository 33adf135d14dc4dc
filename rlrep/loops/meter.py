"""Returns and lengths of the training episodes."""

import numpy as np

from rlrep.contract.env import Step, Tree


class EpisodeMeter:
    """Follows N environments; reports the episodes that ended since the last report. Lengths are in agent steps.

    gives_score: the environments give raw scores of whole games, which are reported in place of episodes of training.
    """

    def __init__(self, num_envs: int, *, gives_score: bool = False) -> None:
        self._gives_score = gives_score
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._ended: list[tuple[float, int]] = []
        self._last: float | None = None

    def add(self, step: Step) -> None:
        """Take one vector step. The episode of a lost simulator is dropped."""
        self._returns += step.reward
        self._lengths += 1
        ended = ~np.isnan(step.score) if self._gives_score else step.terminated | step.truncated
        ended = ended | step.died
        for index in np.flatnonzero(ended):
            if not step.died[index]:
                self.book(float((step.score if self._gives_score else self._returns)[index]), int(self._lengths[index]))
        self._returns[ended] = 0
        self._lengths[ended] = 0

    def book(self, total: float, length: int) -> None:
        """Take an episode that ended."""
        self._last = total
        self._ended.append((total, length))

    def metrics(self) -> dict[str, float]:
        """Return the mean over episodes that ended since the last call; nothing where none did."""
        ended, self._ended = self._ended, []
        if not ended:
            return {}
        returns, lengths = zip(*ended, strict=True)
        return {"train/episode_return": float(np.mean(returns)), "train/episode_length": float(np.mean(lengths))}

    @property
    def note(self) -> str:
        """The last return, for the progress bar."""
        return "" if self._last is None else f"return {self._last:.1f}"

    def state(self) -> Tree:
        """Return the running episodes and those not yet reported."""
        return {
            "returns": self._returns,
            "lengths": self._lengths,
            "ended": [list(episode) for episode in self._ended],
            "last": self._last,
        }

    def load_state(self, state: Tree) -> None:
        """Continue from a checkpoint."""
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        self._ended, self._last = [(total, length) for total, length in state["ended"]], state["last"]
