"""The environments of a run: built, and waited for. Whatever they do wrong is one line."""

from collections.abc import Callable
from typing import TypeVar

from rlrep.contract.env import EnvConfig, Scoring, Step, TaskSet, VectorEnv
from rlrep.envs.vector import FOR_EVER, Patience, Pool, make_vector, raised
from rlrep.settings import UserError, completed, one_line

T = TypeVar("T")
INEXACT = (
    "warning: the state of these environments cannot be saved (no state() and load_state()): a resumed run begins new "
    "episodes, and is not the same bit for bit"
)


def build_envs(
    config: EnvConfig, seeds: list[int], patience: Patience = FOR_EVER, pool: Pool | None = None
) -> VectorEnv:
    """Start one simulator per seed. patience: how long a step of one may take. pool: of worker processes, None = their
    own.

    Raises UserError saying what is missing, e.g. a GL library or a simulator.
    """
    try:
        workers = len(seeds) > 1 if config.in_workers is None else config.in_workers
        return config.vector(seeds) or make_vector(config, seeds, workers=workers, patience=patience, pool=pool)
    except Exception as error:  # a simulator's own code, which may raise anything
        raise UserError(f"cannot make the environment: {raised(error)}") from error


def scoring_of(config: EnvConfig) -> Scoring:
    """Return how an environment is scored. Raises UserError if it does not say so."""
    return _asked("scoring", config.scoring, Scoring)


def evaluation_variant(config: EnvConfig) -> EnvConfig:
    """Return what evaluation plays: the environment itself, or the variant that it names. Raises UserError."""
    return completed(_asked("evaluation", config.evaluation, object), EnvConfig)


def tasks_of(config: EnvConfig) -> TaskSet | None:
    """Return a family's tasks, None of a single task. Raises UserError if it does not say so."""
    return _asked("tasks", config.tasks, TaskSet) if config.is_family() else None


def _asked(name: str, method: Callable[[], object], kind: type[T]) -> T:
    """Return what a config of the user's says. Raises UserError if it raises, or says something else."""
    try:
        found = method()
    except UserError:
        raise
    except Exception as error:  # a user's own code, which may raise anything
        raise UserError(f"the environment's {name}() failed: {raised(error)}") from error
    if not isinstance(found, kind):
        said = type(found).__name__
        raise UserError(f"the environment's {name}() returned a {said}, expected a {kind.__name__}")
    return found


def wait(envs: VectorEnv) -> Step:
    """Return the step under way. Raises UserError if the simulators fail for good."""
    try:
        return envs.step_wait()
    except RuntimeError as error:
        raise UserError(
            f"the environment failed: {one_line(error)}; mend it and repeat the command, which goes on from the last "
            f"checkpoint"
        ) from error
