"""Collecting what an iteration plans: jobs wait for simulators, these play whole episodes, all in a fixed order."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlrep.config.simulators import wait
from rlrep.contract.agent import MetaAgent
from rlrep.contract.env import Array, Step, Task, Tree, VectorEnv
from rlrep.contract.meta import Job, Stage

from ..perf import Stopwatch
from .slots import Track


@dataclass
class Slot:
    """One simulator at work. stage: number of the job's stage. done: agent steps of whole episodes. latent `(D,)`."""

    job: Job
    stage: int
    done: int
    latent: Array
    track: Track

    @property
    def now(self) -> Stage:
        """The stage under way."""
        return self.job.stages[self.stage]


class Collector:
    """Plays jobs on N simulators. A simulator without a job is stepped along, and what it does is thrown away."""

    def __init__(self, envs: VectorEnv, agent: MetaAgent, tasks: Sequence[Task], seed: int, watch: Stopwatch) -> None:
        self._envs, self._agent, self._tasks, self._watch = envs, agent, tasks, watch
        self._random = np.random.default_rng(seed)
        self._waiting: deque[Job] = deque()
        self._slots: list[Slot | None] = [None] * envs.num_envs
        self._obs: Array = np.zeros((envs.num_envs, *envs.single_observation_space.shape), np.float32)
        self.returns: list[tuple[float, int]] = []  # and lengths, of episodes that ended since someone took them

    def start(self, seeds: list[int]) -> Array:
        """Reset the simulators and return what they show."""
        self._obs = np.array(self._envs.reset(seeds))
        return self._obs

    def give(self, jobs: Sequence[Job]) -> None:
        """Take the jobs of an iteration."""
        self._waiting.extend(jobs)
        self._fill()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to collect."""
        return not any(self._slots)

    def step(self) -> int:
        """Make one step everywhere; return how many simulators had a job."""
        with self._watch.section("act"):
            action = self._act()
        with self._watch.section("env"):
            self._envs.step_async(action)
            step = wait(self._envs)
        self._obs = np.array(step.obs)
        working = [row for row, slot in enumerate(self._slots) if slot is not None]
        for row in working:
            self._take(row, action[row], step)
        self._fill()
        return len(working)

    def _act(self) -> Array:
        """Act everywhere at once; idle simulators by a latent of zeros."""
        zero = np.zeros(self._agent.latent_dim, np.float32)
        latents = np.stack([zero if slot is None else slot.latent for slot in self._slots])
        shape = (len(latents), *(self._envs.single_action_space.shape or ()))
        return self._agent.act(self._obs, latents, self._random.standard_normal(shape).astype(np.float32))

    def _take(self, row: int, action: Array, step: Step) -> None:
        slot = self._slots[row]
        assert slot is not None
        if step.died[row]:  # its simulator was replaced and begins the task anew
            self._begin_episode(slot, row)
            return
        slot.track.add(action, step, row)
        if step.terminated[row] or step.truncated[row]:
            self._end_episode(slot, row, terminated=bool(step.terminated[row]))

    def _end_episode(self, slot: Slot, row: int, *, terminated: bool) -> None:
        self.returns.append((slot.track.total_return, len(slot.track)))
        self._agent.observe(slot.job.task, slot.track.trajectory(terminated=terminated), context=slot.now.context)
        slot.done += len(slot.track)
        if slot.done >= slot.now.steps:
            slot.stage, slot.done = slot.stage + 1, 0
        if slot.stage == len(slot.job.stages):
            self._slots[row] = None
        else:
            self._begin_episode(slot, row)

    def _begin_episode(self, slot: Slot, row: int) -> None:
        """Draw a latent for the episode that the simulator has begun."""
        noise = self._random.standard_normal(self._agent.latent_dim).astype(np.float32)
        slot.latent = self._agent.train_latent(slot.job.task, noise, informed=slot.now.informed)
        slot.track = Track.begin(self._obs[row])

    def _fill(self) -> None:
        """Give waiting jobs to free simulators."""
        for row, slot in enumerate(self._slots):
            if slot is None and self._waiting:
                self._slots[row] = self._begin_job(row, self._waiting.popleft())

    def _begin_job(self, row: int, job: Job) -> Slot:
        self._agent.begin(job)
        self._envs.set_task(row, self._tasks[job.task])
        self._obs[row] = self._envs.restart(row, int(self._random.integers(2**31)))
        slot = Slot(job, 0, 0, np.zeros(0, np.float32), Track.begin(self._obs[row]))
        self._begin_episode(slot, row)
        return slot

    def state(self) -> Tree:
        """Return jobs, episodes under way, and the random stream; the simulators' state is saved apart."""
        return {
            "random": self._random.bit_generator.state,
            "waiting": [_job_state(job) for job in self._waiting],
            "slots": [None if slot is None else _slot_state(slot) for slot in self._slots],
            "returns": [list(entry) for entry in self.returns],
        }

    def load_state(self, state: Tree, obs: Array) -> None:
        """Go on from `state()`; obs `(N, ...)`: what the restored simulators show."""
        self._random.bit_generator.state = state["random"]
        self._waiting = deque(map(_load_job, state["waiting"]))
        self._slots = [None if slot is None else _load_slot(slot) for slot in state["slots"]]
        self.returns = [(total, length) for total, length in state["returns"]]
        self._obs = np.array(obs)


def _job_state(job: Job) -> Tree:
    return {"task": job.task, "stages": [[s.steps, s.informed, s.context] for s in job.stages]}


def _load_job(state: Tree) -> Job:
    stages = (Stage(steps, informed=informed, context=context) for steps, informed, context in state["stages"])
    return Job(state["task"], tuple(stages))


def _slot_state(slot: Slot) -> Tree:
    return {
        "job": _job_state(slot.job),
        "stage": slot.stage,
        "done": slot.done,
        "latent": slot.latent,
        "track": slot.track.state(),
    }


def _load_slot(state: Tree) -> Slot:
    return Slot(
        _load_job(state["job"]), state["stage"], state["done"], np.array(state["latent"]), Track.load(state["track"])
    )
