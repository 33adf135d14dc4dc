"""Meta-training: collect what an iteration plans, then make its updates, again and again."""

from collections.abc import Sequence

from rlrep.config.config import Length, TrainConfig
from rlrep.contract.agent import MetaAgent
from rlrep.contract.env import Array, Task, Tree

from ..loop import Outlets
from ..playing import Parts, Playing
from .collect import Collector


class Meta(Playing[MetaAgent]):
    """A run of an agent that learns a family of tasks.

    Iteration 0 collects `train.init_steps` agent steps of every task; each further one what the agent plans, followed
    by `train.updates_per_step` updates per agent step and a row of metrics. Runs end after a whole iteration.
    """

    def __init__(
        self,
        parts: Parts[MetaAgent],
        train: TrainConfig,
        length: Length,
        outlets: Outlets,
        *,
        tasks: Sequence[Task],
        seed: int,
    ) -> None:
        super().__init__(parts, train, length, outlets)
        self._collector = Collector(parts.envs, parts.agent, tasks, seed, self.watch)
        self._iteration = 0
        self._collected = 0  # agent steps of this iteration
        self._owed = 0  # updates

    def start(self, env_seeds: list[int]) -> None:
        self._collector.start(env_seeds)
        self._collector.give(self.parts.agent.plan(0, self.train.init_steps))

    def state(self) -> Tree:
        counts = {"iteration": self._iteration, "collected": self._collected, "owed": self._owed}
        return {**super().state(), "meta": {**counts, "collector": self._collector.state()}}

    def _go_on(self, obs: Array, state: Tree) -> None:
        meta = state["meta"]
        self._iteration, self._collected, self._owed = meta["iteration"], meta["collected"], meta["owed"]
        self._collector.load_state(meta["collector"], obs)

    @property
    def done(self) -> bool:
        return super().done and self._collector.idle and not self._owed

    def step(self) -> bool:
        """One vector step, or one update, or the next iteration's plan."""
        if self.owes:
            self._update()
            return self.pay()
        self.advance()
        return False

    @property
    def owes(self) -> bool:
        """Whether the next step is an update."""
        return self._collector.idle and self._owed > 0

    def pay(self) -> bool:
        """Count an update; return whether it was an iteration's last."""
        self._owed -= 1
        return not self._owed

    def advance(self) -> None:
        """Make a vector step, or plan the next iteration."""
        if not self._collector.idle:
            self._collect()
        else:
            self._iteration, self._collected = self._iteration + 1, 0
            self._collector.give(self.parts.agent.plan(self._iteration, self.train.init_steps))

    def _collect(self) -> None:
        working = self._collector.step()
        self.counters.agent_steps += working
        self._collected += working
        for entry in self._collector.returns:
            self._meter.book(*entry)
        self._collector.returns.clear()
        if self._collector.idle and self._iteration:
            self._owe()

    def _owe(self) -> None:
        if self.parts.agent.ready():
            self._owed = round(self.train.updates_per_step * self._collected)
        else:
            self.outlets.reporter.say(
                f"warning: no updates in iteration {self._iteration}: the replay holds episodes of fewer tasks than an "
                f"update takes (agent.meta_batch): a larger agent.capacity keeps those of more"
            )
