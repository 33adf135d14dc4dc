"""The environments of a run: built, and waited for. Whatever they do wrong is one line."""

from rlrep.contract.env import EnvConfig, Scoring, Step, VectorEnv
from rlrep.envs.vector import FOR_EVER, Patience, make_vector, raised
from rlrep.settings import UserError, completed, one_line

INEXACT = (
    "warning: the state of these environments cannot be saved (no state() and load_state()): a resumed run begins new "
    "episodes, and is not the same bit for bit"
)


def build_envs(config: EnvConfig, seeds: list[int], patience: Patience = FOR_EVER) -> VectorEnv:
    """Start one simulator per seed. patience: how long a step of one may take.

    Raises UserError saying what is missing, e.g. a GL library or a simulator.
    """
    workers = len(seeds) > 1 if config.in_workers is None else config.in_workers
    try:
        return config.vector(seeds) or make_vector(config, seeds, workers=workers, patience=patience)
    except Exception as error:  # a simulator's own code, which may raise anything
        raise UserError(f"cannot make the environment: {raised(error)}") from error


def scoring_of(config: EnvConfig) -> Scoring:
    """Return how an environment is scored. Raises UserError if it does not say so."""
    try:
        scoring = config.scoring()
    except Exception as error:  # a user's own code, which may raise anything
        raise UserError(f"the environment's scoring() failed: {raised(error)}") from error
    if not isinstance(scoring, Scoring):
        raise UserError(f"the environment's scoring() returned a {type(scoring).__name__}, expected a Scoring")
    return scoring


def evaluation_variant(config: EnvConfig) -> EnvConfig:
    """Return what evaluation plays: the environment itself, or the variant that it names."""
    return completed(config.evaluation(), EnvConfig)


def wait(envs: VectorEnv) -> Step:
    """Return the step under way. Raises UserError if the simulators fail for good."""
    try:
        return envs.step_wait()
    except RuntimeError as error:
        raise UserError(
            f"the environment failed: {one_line(error)}; mend it and repeat the command, which goes on from the last "
            f"checkpoint"
        ) from error
