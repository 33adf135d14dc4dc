"""The online training loop: act, step, learn, observe, in a fixed order. It knows no algorithm and no environment."""

from rlrep.config.config import Length, TrainConfig, updates_by
from rlrep.config.simulators import wait
from rlrep.contract.agent import Agent
from rlrep.contract.env import Array

from .base import BaseLoop, Parts
from .evaluation import Evaluator


class Loop(BaseLoop[Agent, Evaluator]):
    """One run of an agent that learns from every step."""

    def __init__(
        self, parts: Parts[Agent, Evaluator], train: TrainConfig, length: Length, *, overlap: bool, keep_replay: bool
    ) -> None:
        super().__init__(parts, train, length, keep_replay=keep_replay)
        self._overlap = overlap

    def start(self, env_seeds: list[int]) -> None:
        """Begin a fresh run."""
        self._obs = self.parts.envs.reset(env_seeds)
        self.parts.agent.begin(self._obs)

    def _step(self) -> None:
        """One vector step. With overlap, updates run while the simulators do; either way action t sees update t-1."""
        envs, agent, watch = self.parts.envs, self.parts.agent, self._watch
        with watch.section("act"):
            action = self._act()
        envs.step_async(action)
        if self._overlap:
            self._update()
        with watch.section("env"):
            step = wait(self.parts.envs)
        agent.observe(action, step)
        self._meter.add(step)
        self._obs = step.obs
        if not self._overlap:
            self._update()
        self.counters.agent_steps += self.length.num_envs

    def _act(self) -> Array:
        if self.counters.agent_steps < self.train.init_steps:
            return self.parts.agent.random_actions(self.length.num_envs)
        assert self._obs is not None
        return self.parts.agent.act(self._obs, explore=True)

    def _update(self) -> None:
        """Make the updates that this vector step brings."""
        after = self.counters.agent_steps + self.length.num_envs
        due = updates_by(self.train, after) - updates_by(self.train, self.counters.agent_steps)
        for _ in range(due if self.parts.agent.ready() else 0):
            with self._watch.section("update"):
                self.parts.agent.update()
            if self.parts.check_every_update:
                self._check_finite()
