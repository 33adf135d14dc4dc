"""What an environment's config need not say for itself, whoever wrote it."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rlrep.config.compose import compose_run
from rlrep.config.make import load_component
from rlrep.config.simulators import build_envs, evaluation_variant, scoring_of
from rlrep.contract.env import EnvConfig, Scoring
from rlrep.envs.toy import ToyEnv
from rlrep.envs.vector.checked import Checked
from rlrep.settings import TARGET, UserError, coerce, complete, plain


@dataclass(frozen=True)
class Bare:
    """Nothing but `make`, and an option without a default that is named like an ability."""

    random_return: float
    steps: int = 20

    def make(self, seed: int) -> ToyEnv:
        return ToyEnv(seed, terminates=False, size=None, frame_stack=1)


@dataclass(frozen=True)
class Shortened(Bare):
    human_return: float = 3.0

    def evaluation(self) -> Bare:
        return Bare(random_return=self.random_return)


@dataclass(frozen=True)
class Makeless:
    """No environment at all."""


def read(kind: type[Any], **options: Any) -> Any:
    return coerce({TARGET: f"{__name__}.{kind.__name__}", **options}, EnvConfig, "env")


def test_a_plain_dataclass_is_completed_and_stays_what_it_is() -> None:
    config = read(Bare, random_return=1.0)
    assert type(config).__mro__[1:3] == (Bare, EnvConfig)
    assert (config.num_envs, config.in_workers, config.obs, config.tasks()) == (1, None, None, None)
    assert config.random_return == 1.0 and not config.is_family() and config.evaluation() is config
    assert plain(config) == {TARGET: f"{__name__}.Bare", "random_return": 1.0, "steps": 20}
    assert config == read(Bare, random_return=1.0) != replace(config, steps=3)
    assert complete(Bare, EnvConfig) is type(config) and complete(EnvConfig, EnvConfig) is EnvConfig


def test_another_process_is_sent_the_plain_one() -> None:
    assert type(pickle.loads(pickle.dumps(read(Bare, random_return=1.0)))) is Bare


def test_what_evaluation_plays_is_completed_too() -> None:
    variant: Any = evaluation_variant(read(Shortened, random_return=1.0))
    assert type(variant).__mro__[1:3] == (Bare, EnvConfig)
    envs = build_envs(variant, [0])
    assert envs.num_envs == 1
    envs.close()


def test_returns_of_random_play_and_of_people_normalise() -> None:
    assert read(Bare, random_return=1.0).scoring() == Scoring(references={"random": 1.0})
    scoring = read(Shortened, random_return=1.0).scoring()
    assert (scoring.scale, scoring.zero, scoring.one) == ("human-normalised score", 1.0, 3.0)


def test_an_environment_without_make_is_one_line() -> None:
    with pytest.raises(UserError, match=r"cannot make the environment: .*Makeless has no make\(seed\)"):
        build_envs(read(Makeless), [0])


def test_the_command_line_and_python_complete_alike(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    node = f"# @package _global_\nenv:\n  _target_: {__name__}.Bare\n  random_return: 0.5\n"
    (tmp_path / "env" / "bare.yaml").write_text(node)
    found = compose_run(["env=bare", "preset=debug"], [tmp_path])
    assert isinstance(found.config.env, EnvConfig) and found.config.choices["agent"] == "sac"
    env: Mapping[str, Any] = found.tree["env"]
    assert env == {TARGET: f"{__name__}.Bare", "random_return": 0.5, "steps": 20}
    assert isinstance(load_component("env", "toy_state"), EnvConfig)


@dataclass(frozen=True)
class Unscored(Bare):
    """Says how it is scored, wrongly. what: kind of mistake."""

    what: str = ""
    human_return: float = 1.0

    def scoring(self) -> Any:
        if self.what == "raises":
            raise KeyError("walker")
        return EnvConfig.scoring(self) if self.what == "equal" else {"zero": 0.0}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raises", r"^the environment's scoring\(\) failed: KeyError: 'walker'"),
        ("dict", r"^the environment's scoring\(\) returned a dict, expected a Scoring$"),
        ("equal", r"scoring\(\) failed: .*the returns that score 0 and 1 are both 1.0: they must differ"),
    ],
)
def test_a_wrong_scoring_is_one_line(what: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scoring_of(read(Unscored, random_return=1.0, what=what))


def test_a_failing_render_is_called_so() -> None:
    class Blind(ToyEnv):
        def render(self) -> Any:
            raise NotImplementedError

    env = Checked(Blind(0, terminates=False, size=None, frame_stack=1))
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"^Blind: render\(\) failed: NotImplementedError"):
        env.render()
