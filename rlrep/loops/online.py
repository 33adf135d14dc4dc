"""Online training: act, step, learn, observe, in a fixed order. It knows no algorithm and no environment."""

from rlrep.config.config import Length, TrainConfig, updates_by
from rlrep.config.simulators import wait
from rlrep.contract.agent import Agent
from rlrep.contract.env import Array, Tree

from .loop import Outlets
from .playing import Parts, Playing


class Online(Playing[Agent]):
    """A run of an agent that learns from every step."""

    def __init__(
        self, parts: Parts[Agent], train: TrainConfig, length: Length, outlets: Outlets, *, overlap: bool
    ) -> None:
        super().__init__(parts, train, length, outlets)
        self.overlap = overlap
        self._obs: Array
        self._action: Array

    def start(self, env_seeds: list[int]) -> None:
        self._obs = self.parts.envs.reset(env_seeds)
        self.parts.agent.begin(self._obs)

    def step(self) -> bool:
        """One vector step. With overlap, updates run while the simulators do; either way action t sees update t-1."""
        self.act()
        if self.overlap:
            self._learn()
        self.observe()
        if not self.overlap:
            self._learn()
        self.count()
        return False

    def act(self) -> None:
        """Choose actions, and let the simulators begin with them."""
        with self.watch.section("act"):
            self._action = self._chosen()
        self.parts.envs.step_async(self._action)

    def observe(self) -> None:
        """Take what the simulators show."""
        with self.watch.section("env"):
            step = wait(self.parts.envs)
        self.parts.agent.observe(self._action, step)
        self._meter.add(step)
        self._obs = step.obs

    def count(self) -> None:
        """Count the step."""
        self.counters.agent_steps += self.length.num_envs

    def _chosen(self) -> Array:
        if self.counters.agent_steps < self.train.init_steps:
            return self.parts.agent.random_actions(self.length.num_envs)
        return self.parts.agent.act(self._obs, explore=True)

    def due_updates(self) -> int:
        """Return how many updates this vector step brings."""
        after = self.counters.agent_steps + self.length.num_envs
        due = updates_by(self.train, after) - updates_by(self.train, self.counters.agent_steps)
        return due if self.parts.agent.ready() else 0

    def _learn(self) -> None:
        for _ in range(self.due_updates()):
            self._update()

    def _go_on(self, obs: Array, state: Tree) -> None:
        self._obs = obs
