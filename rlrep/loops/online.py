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
        self._overlap = overlap
        self._obs: Array

    def start(self, env_seeds: list[int]) -> None:
        self._obs = self.parts.envs.reset(env_seeds)
        self.parts.agent.begin(self._obs)

    def step(self) -> bool:
        """One vector step. With overlap, updates run while the simulators do; either way action t sees update t-1."""
        envs, agent, watch = self.parts.envs, self.parts.agent, self.watch
        with watch.section("act"):
            action = self._act()
        envs.step_async(action)
        if self._overlap:
            self._learn()
        with watch.section("env"):
            step = wait(envs)
        agent.observe(action, step)
        self._meter.add(step)
        self._obs = step.obs
        if not self._overlap:
            self._learn()
        self.counters.agent_steps += self.length.num_envs
        return False

    def _act(self) -> Array:
        if self.counters.agent_steps < self.train.init_steps:
            return self.parts.agent.random_actions(self.length.num_envs)
        return self.parts.agent.act(self._obs, explore=True)

    def _learn(self) -> None:
        """Make the updates that this vector step brings."""
        after = self.counters.agent_steps + self.length.num_envs
        due = updates_by(self.train, after) - updates_by(self.train, self.counters.agent_steps)
        for _ in range(due if self.parts.agent.ready() else 0):
            self._update()

    def _go_on(self, obs: Array, state: Tree) -> None:
        self._obs = obs
