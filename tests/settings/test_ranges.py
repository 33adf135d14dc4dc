"""Settings out of their range are refused by name, in every agent."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from rlrep.agents.pearl import PEARLConfig
from rlrep.agents.rainbow import RainbowConfig
from rlrep.agents.sac import SACConfig
from rlrep.agents.sb3 import SB3DQNConfig, SB3SACConfig
from rlrep.settings import ranges

NAN, INFINITE = float("nan"), float("inf")


@dataclass(frozen=True)
class Number:
    value: float | None = 1.0


@pytest.mark.parametrize("value", [2, 2.5, 1e9, None])
def test_what_is_in_range_passes(value: float | None) -> None:
    ranges.at_least(Number(value), 2, ["value"])
    ranges.positive(Number(value), ["value"])
    ranges.share(Number(None if value is None else 1 / value), ["value"])


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, -1e-9])
def test_what_is_not_is_named(value: float) -> None:
    with pytest.raises(ValueError, match="value must be at least 0, not"):
        ranges.at_least(Number(value), 0, ["value"])
    with pytest.raises(ValueError, match="value must be above 0, not"):
        ranges.positive(Number(value), ["value"])
    with pytest.raises(ValueError, match=r"value must lie in \[0, 1\], not"):
        ranges.share(Number(value), ["value"])
    with pytest.raises(ValueError, match=r"value must lie in \(0, 1\], not"):
        ranges.part(Number(value), ["value"])


def test_bounds() -> None:
    for allowed in (0.0, 1.0):
        ranges.share(Number(allowed), ["value"])
    ranges.part(Number(1.0), ["value"])
    for bounded in (ranges.positive, ranges.part):
        with pytest.raises(ValueError, match=r"value must .* not 0"):
            bounded(Number(0.0), ["value"])


@pytest.mark.parametrize("agent", [SACConfig(), RainbowConfig(), PEARLConfig(), SB3SACConfig(), SB3DQNConfig()])
@pytest.mark.parametrize("wrong", [{"lr": -1e-3}, {"lr": NAN}, {"discount": 2.0}, {"batch_size": 0}, {"capacity": 0}])
def test_agents_refuse_nonsense(agent: Any, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(agent, **wrong)


@pytest.mark.parametrize(
    ("agent", "wrong"),
    [
        (SACConfig(), {"log_std_range": (2.0, -5.0)}),
        (SACConfig(), {"initial_temperature": 0.0}),
        (RainbowConfig(), {"sigma0": -0.1}),
        *((RainbowConfig(), {name: wrong}) for name in ("target_tau", "encoder_tau") for wrong in (0.0, 1.5)),
        (RainbowConfig(), {"v_max": INFINITE}),
        (SACConfig(), {"critic_tau": 0.0}),
        (SACConfig(), {"encoder_tau": NAN}),
        (PEARLConfig(), {"context_tau": 2.0}),
        (SB3DQNConfig(), {"encoder_tau": 0.0}),
        (PEARLConfig(), {"context_hidden_dim": 0}),
        (PEARLConfig(), {"reward_scale": NAN}),
        (PEARLConfig(), {"latent_dim": 0}),
        (PEARLConfig(), {"prior_steps": 0}),
        (PEARLConfig(), {"kl_weight": -1.0}),
        (PEARLConfig(), {"extra_steps": -1}),
        (SB3SACConfig(), {"initial_temperature": 0.0}),
        (SB3SACConfig(), {"hidden_dim": 0}),
        (SB3SACConfig(), {"tau": 0.0}),
        (SB3DQNConfig(), {"target_every": 0}),
        (SB3DQNConfig(), {"epsilon_fraction": 1.5}),
        (SB3DQNConfig(), {"q_max_norm": 0.0}),
    ],
)
def test_so_do_their_own_settings(agent: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(agent, **wrong)
