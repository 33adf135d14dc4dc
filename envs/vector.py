"""N environments stepped together: in this process or one worker process each."""

import os
import warnings
from dataclasses import dataclass, replace
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from .layout import Arrays, allocate, step_into
from .process import WorkerDied, WorkerProcess
from .tasks import Task, give_task, task_from, task_state

Array = NDArray[Any]
Tree = Any
Description = tuple[spaces.Box, spaces.Box | spaces.Discrete, int, int, bool]

MAX_DEATHS = 5  # in a row, without one successful step


@dataclass(frozen=True)
class Step:
    """One step of N environments with same-step autoreset.

    obs `(N, ...)`: observation to act on next (the new episode's first where one ended).
    final_obs `(N, ...)`: observation the action led to (differs from `obs` only where an episode ended).
    reward, terminated, truncated `(N,)`. died `(N,)`: the worker was lost; its episode must not be trained on.
    success `(N,)`: flag of the step, NaN where the environment has none.
    score `(N,)`: raw return of the whole game on the step that really ended it (see `gives_score`), else NaN.
    context_reward `(N,)`: the reward as known at test, where training is given a denser one; NaN = `reward`.
    """

    obs: Array
    final_obs: Array
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    died: NDArray[np.bool_]
    success: NDArray[np.float32]
    score: NDArray[np.float32]
    context_reward: NDArray[np.float32]


class EnvConfig(Protocol):
    """Config of an environment with `frame_stack`, `action_repeat`, `state()` and `load_state()`.

    Optional in the environment: `gives_score = True` where `info["score"]` is the raw return of a whole game, on the
    step that really ended it (rewards may be clipped, and episodes parts of games).
    """

    def make(self, seed: int) -> gymnasium.Env[Any, Any]: ...


def make_vector(config: EnvConfig, seeds: list[int], *, workers: bool) -> "InlineVector | WorkerVector":
    """Build `len(seeds)` environments.

    Raises what `config.make` raises: ValueError for an unknown option, RuntimeError where the machine lacks something.
    """
    if not seeds:
        raise ValueError("env.num_envs must be at least 1")
    return WorkerVector(config, seeds) if workers else InlineVector(config, seeds)


class InlineVector:
    """Environments in this process, stepped one after another."""

    def __init__(self, config: EnvConfig, seeds: list[int]) -> None:
        self._envs: list[Any] = [config.make(seed) for seed in seeds]
        first = self._envs[0]
        self.num_envs = len(seeds)
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.frame_stack, self.action_repeat = first.frame_stack, first.action_repeat
        self.gives_score: bool = getattr(first, "gives_score", False)
        self._tasks: list[Task | None] = [None] * len(seeds)
        self._arrays = allocate(self.num_envs, first.observation_space, first.action_space)

    def reset(self, seeds: list[int] | None = None) -> Array:
        """Start an episode everywhere, reproducibly with `seeds`; return observations `(N, ...)`."""
        for index, env in enumerate(self._envs):
            self._arrays.obs[index] = env.reset(seed=seeds[index] if seeds else None)[0]
        return np.array(self._arrays.obs)

    def set_task(self, index: int, task: Task) -> None:
        """Give environment `index` its task from the next episode on. Raises ValueError where it has no tasks."""
        give_task(self._envs[index], task)
        self._tasks[index] = task

    def restart(self, index: int, seed: int) -> Array:
        """Start the episode of `seed` in environment `index`; return its observation."""
        self._arrays.obs[index] = self._envs[index].reset(seed=seed)[0]
        return np.array(self._arrays.obs[index])

    def step_async(self, actions: Array) -> None:
        """Take `actions` `(N, ...)`; `step_wait` does the work."""
        self._arrays.actions[:] = actions

    def step_wait(self) -> Step:
        """Step every environment."""
        for index, env in enumerate(self._envs):
            step_into(env, self._arrays, index)
        return _read(self._arrays, np.zeros(self.num_envs, np.bool_))

    def render(self, index: int) -> NDArray[np.uint8]:
        """Return environment `index` as RGB `(H, W, 3)`."""
        return np.array(self._envs[index].render(), np.uint8)

    def state(self) -> list[Tree]:
        """Return every environment's state."""
        pairs = zip(self._envs, self._tasks, strict=True)
        return [{"env": env.state(), "task": task_state(task)} for env, task in pairs]

    def load_state(self, states: list[Tree]) -> Array:
        """Load every environment's state; return observations `(N, ...)`."""
        for index, (env, state) in enumerate(zip(self._envs, states, strict=True)):
            self._arrays.obs[index] = env.load_state(state["env"])
            self._tasks[index] = task_from(state.get("task"))
        return np.array(self._arrays.obs)

    def close(self) -> None:
        """Close the environments; again is harmless."""
        for env in self._envs:
            env.close()


class WorkerVector:
    """One process per environment, observations in shared memory. One that dies is replaced, its episode dropped."""

    def __init__(self, config: EnvConfig, seeds: list[int]) -> None:
        """Start the workers together and wait for all. Raises RuntimeError with the worker's line when one fails."""
        self.num_envs = len(seeds)
        self._config = config
        self._seeds, self._restarts = list(seeds), [0] * len(seeds)
        self._deaths = [0] * len(seeds)  # in a row
        self._tasks: list[Task | None] = [None] * len(seeds)
        self._lost = [False] * len(seeds)  # died and replaced, not yet reported by a step
        self._workers: list[WorkerProcess] = []
        try:
            self._workers = [WorkerProcess(config, seed, index) for index, seed in enumerate(seeds)]
            described: list[Description] = [worker.receive() for worker in self._workers]
            self.single_observation_space, self.single_action_space, *rest = described[0]
            self.frame_stack, self.action_repeat, self.gives_score = rest
            self._arrays = allocate(self.num_envs, self.single_observation_space, self.single_action_space, shared=True)
            for worker in self._workers:
                self._attach(worker)
        except WorkerDied as death:
            raise RuntimeError(f"environment worker died at its start: {death}") from death
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: list[int] | None = None) -> Array:
        """Start an episode everywhere, reproducibly with `seeds`; return observations `(N, ...)`."""
        if seeds is not None:
            self._seeds, self._restarts = list(seeds), [0] * self.num_envs
        self._lost = [False] * self.num_envs
        self._ask_all([("reset", seeds[index] if seeds else None) for index in range(self.num_envs)])
        return np.array(self._arrays.obs)

    def set_task(self, index: int, task: Task) -> None:
        """Give environment `index`, and its replacements, the task from the next episode on. Raises ValueError."""
        self._tasks[index] = task
        self._ask(index, ("set_task", task))

    def restart(self, index: int, seed: int) -> Array:
        """Start the episode of `seed` in environment `index`; return its observation."""
        self._lost[index] = False
        self._ask(index, ("reset", seed))
        return np.array(self._arrays.obs[index])

    def step_async(self, actions: Array) -> None:
        """Send `actions` `(N, ...)` to the workers and return at once."""
        self._arrays.actions[:] = actions
        for index, worker in enumerate(self._workers):
            if not self._lost[index]:
                worker.send(("step", None))  # to a dead one: step_wait finds out

    def step_wait(self) -> Step:
        """Wait for every worker. Raises RuntimeError for an error in an environment or a worker that keeps dying."""
        for index, worker in enumerate(self._workers):
            if self._lost[index]:
                continue
            try:
                worker.receive()
                self._deaths[index] = 0
            except WorkerDied as death:
                self._replace(index, death)
                self._lost[index] = True
        died = np.array(self._lost)
        for index in np.flatnonzero(died):
            self._drop_episode(index)
        self._lost = [False] * self.num_envs
        return _read(self._arrays, died)

    def render(self, index: int) -> NDArray[np.uint8]:
        """Return environment `index` as RGB `(H, W, 3)`."""
        return np.asarray(self._ask(index, ("render", None)), np.uint8)

    def state(self) -> list[Tree]:
        """Return every environment's state and what its replacements would be given."""
        envs = self._ask_all([("state", None)] * self.num_envs)
        kept = zip(envs, self._tasks, self._seeds, self._restarts, self._lost, strict=True)
        return [
            {"env": env, "task": task_state(task), "seed": seed, "restarts": restarts, "lost": lost}
            for env, task, seed, restarts, lost in kept
        ]

    def load_state(self, states: list[Tree]) -> Array:
        """Load every environment's state; return observations `(N, ...)`."""
        for index, state in enumerate(states):
            self._seeds[index] = state.get("seed", self._seeds[index])
            self._tasks[index] = task_from(state.get("task"))
            self._restarts[index], self._lost[index] = state.get("restarts", 0), state.get("lost", False)
        self._ask_all([("load_state", state["env"]) for state in states])
        return np.array(self._arrays.obs)

    def close(self) -> None:
        """Stop the workers and free the shared memory; again is harmless."""
        for worker in self._workers:
            worker.send(("close", None))
        for worker in self._workers:
            worker.close()
        self._workers = []
        arrays: Arrays | None = self.__dict__.pop("_arrays", None)
        if arrays is not None:
            os.close(arrays.file)

    def __del__(self) -> None:
        if getattr(self, "_workers", None):
            self.close()

    def _attach(self, worker: WorkerProcess) -> None:
        worker.send_file(self._arrays.file, (self.num_envs, self.single_observation_space, self.single_action_space))
        worker.receive()

    def _ask_all(self, messages: list[tuple[str, Any]]) -> list[Any]:
        """Send each worker its message, then collect the answers."""
        sent = [worker.send(message) for worker, message in zip(self._workers, messages, strict=True)]
        return [self._answer(index, messages[index], sent=sent[index]) for index in range(self.num_envs)]

    def _ask(self, index: int, message: tuple[str, Any]) -> Any:
        return self._answer(index, message, sent=self._workers[index].send(message))

    def _answer(self, index: int, message: tuple[str, Any], *, sent: bool) -> Any:
        """Wait for an answer. A worker that dies is replaced and asked again; the next step reports its loss."""
        while True:
            try:
                if not sent:
                    raise WorkerDied(self._workers[index].last_words())
                return self._workers[index].receive()
            except WorkerDied as death:
                self._replace(index, death)
                self._lost[index] = message[0] in ("state", "render", "set_task")
                sent = self._workers[index].send(message)

    def _replace(self, index: int, death: WorkerDied) -> None:
        """Start a new worker with a fresh episode in place of a dead one."""
        while True:
            self._deaths[index] += 1
            self._restarts[index] += 1
            if self._deaths[index] >= MAX_DEATHS:
                raise RuntimeError(
                    f"environment worker {index} died {MAX_DEATHS} times without a step; last words: {death}"
                ) from death
            warnings.warn(
                f"environment worker {index} died ({death}); restart {self._restarts[index]}, its episode is dropped",
                RuntimeWarning,
                stacklevel=2,
            )
            self._workers[index].close()
            try:
                self._workers[index] = worker = WorkerProcess(self._config, self._restart_seed(index), index)
                worker.receive()
                self._attach(worker)
                if self._tasks[index] is not None:
                    worker.send(("set_task", self._tasks[index]))
                    worker.receive()
                worker.send(("reset", None))
                worker.receive()
                return
            except WorkerDied as again:
                death = again

    def _restart_seed(self, index: int) -> int:
        entropy = [self._seeds[index], index, self._restarts[index]]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _drop_episode(self, index: int) -> None:
        arrays = self._arrays
        arrays.final_obs[index] = arrays.obs[index]
        arrays.reward[index] = 0.0
        arrays.success[index] = arrays.score[index] = arrays.context_reward[index] = np.nan
        arrays.terminated[index], arrays.truncated[index] = False, True


class GymnasiumVector(VectorEnv[Array, Array, Array]):
    """The same environments behind gymnasium's vector interface (same-step autoreset)."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, vector: InlineVector | WorkerVector) -> None:
        self.vector = vector
        self.num_envs = vector.num_envs
        self.single_observation_space, self.single_action_space = (
            vector.single_observation_space,
            vector.single_action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Reset all; environment i gets `seed + i`."""
        super().reset(seed=seed)
        return self.vector.reset(None if seed is None else [seed + index for index in range(self.num_envs)]), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step all; `final_obs` (object array) and its mask are in the info where an episode ended."""
        self.vector.step_async(actions)
        step = self.vector.step_wait()
        ended = step.terminated | step.truncated
        info: dict[str, Any] = {}
        if ended.any():
            info["final_obs"] = np.array([None] * self.num_envs, dtype=object)
            for index in np.flatnonzero(ended):
                info["final_obs"][index] = step.final_obs[index]
            info["_final_obs"] = ended
        return step.obs, step.reward, step.terminated, step.truncated, info

    def render(self) -> tuple[Any, ...]:
        """Return one RGB frame per environment."""
        return tuple(self.vector.render(index) for index in range(self.num_envs))

    def close_extras(self) -> None:
        """Close the environments."""
        self.vector.close()


def _read(arrays: Arrays, died: NDArray[np.bool_]) -> Step:
    """Copy the step out of the (shared) arrays, which the next step overwrites."""
    obs = np.array(arrays.obs)
    step = Step(
        obs=obs,
        final_obs=obs,
        reward=arrays.reward.copy(),
        terminated=arrays.terminated.copy(),
        truncated=arrays.truncated.copy(),
        died=died,
        success=arrays.success.copy(),
        score=arrays.score.copy(),
        context_reward=arrays.context_reward.copy(),
    )
    ended = step.terminated | step.truncated
    if not ended.any():
        return step
    final_obs = obs.copy()
    final_obs[ended] = arrays.final_obs[ended]
    return replace(step, final_obs=final_obs)
