"""A whole update as a graph: a tape of it, played while steps go on being stored, is the update itself, bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlrep.agents import OnlineAgent
from rlrep.agents.mrq import MRQConfig
from rlrep.agents.rainbow.schedules import Resets, Schedule
from rlrep.contract.agent import AgentSpec
from rlrep.heads import HeadConfig, InstanceContrast, ReturnContrast, SelfPrediction, TemporalContrast
from rlrep.nn import EluMLPConfig, MLPEncoderConfig, PixelEncoderConfig
from rlrep.nn.graph import GraphedStep, tensors_of
from rlrep.replay import Needs, WindowSpec
from rlrep.replay.pairs import Samplers
from rlrep.views import AmplitudeScale, RandomCrop, image

from . import rainbow_rig, test_sac
from .rainbow_rig import observations, parameters
from .tape import EagerStep, Played, TapedStep

Agent = OnlineAgent[Any]
CAPACITY = 60
RETURNS = ReturnContrast(threshold=2.0, hidden_dim=8, embedding_dim=8)
HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(),
    "return_contrast": RETURNS,
    "temporal": TemporalContrast(),
    "self_prediction": SelfPrediction(steps=2, hidden_dim=8, embedding_dim=8, transition_dim=8),
    "segments": replace(RETURNS, anchors="segment"),
    "bins": replace(RETURNS, mode="return_bin"),
    "drawn_bins": replace(RETURNS, mode="return_bin", anchors="segment"),
}
RAINBOW = replace(rainbow_rig.SMALL, capacity=CAPACITY, target_every=20, priority_beta_steps=300)
SAC = replace(test_sac.SMALL, capacity=CAPACITY)
WEIGHTED = replace(RAINBOW, priority_beta=1.0)
PHASES = replace(
    WEIGHTED, n_step_schedule=Schedule(5, 30), discount_schedule=Schedule(0.5, 30), resets=Resets(every=40)
)


@dataclass
class Case:
    """An agent that is recorded.

    plain: its twin draws by plain numbers, as it would on a CPU. They come to the same bits, but for uniform draws of
    rows and segments, and for powers whose exponent is a tensor.
    """

    config: Any
    heads: tuple[str, ...] = ()
    pixels: bool = False
    num_envs: int = 1
    plain: bool = False

    def make(self, device: str = "cpu") -> Agent:
        rig: Any = rainbow_rig if isinstance(self.config, type(RAINBOW)) else test_sac
        own: Any = EluMLPConfig(8, 6) if isinstance(self.config, MRQConfig) else MLPEncoderConfig(8, 6)
        if self.pixels:
            own = PixelEncoderConfig(strides=(5, 2), channels=4, kernels=(5, 2), trunk="none", init="torch")
        agent: Agent = self.config.make(
            AgentSpec(
                rig.PIXELS if self.pixels else rig.STATE,
                rig.ACTIONS,
                frame_stack=2 if self.pixels else 1,
                num_envs=self.num_envs,
                encoder=own,
                augment=RandomCrop(20) if self.pixels else AmplitudeScale(),
                aux={name: HEADS[name] for name in self.heads},
                seed=0,
                device=torch.device(device),
            )
        )
        return agent


CASES = {
    "Rainbow, two heads": Case(RAINBOW, ("curl", "return_contrast")),
    "Rainbow on pixels, three environments": Case(
        WEIGHTED, ("curl", "return_contrast"), pixels=True, num_envs=3, plain=True
    ),
    "Rainbow, other kinds of pair": Case(WEIGHTED, ("temporal", "self_prediction", "segments", "bins"), num_envs=2),
    "Rainbow, schedules and resets": Case(PHASES, ("curl",), plain=True),
    "SAC": Case(SAC, ("curl", "return_contrast")),
    "SAC on pixels, three environments": Case(SAC, ("curl", "return_contrast"), pixels=True, num_envs=3),
    "SAC, LAP": Case(replace(SAC, replay="lap", n_step=3), num_envs=2, plain=True),
    "MR.Q": Case(MRQConfig(hidden_dim=16, action_width=4, batch_size=8, capacity=CAPACITY, target_every=3), plain=True),
}


class Script:
    """Random steps of some environments, the same for all agents: episodes end, are cut off and are lost."""

    def __init__(self, agents: list[Agent], seed: int = 0) -> None:
        self.agents, self.rng, self.steps = agents, np.random.default_rng(seed), 0
        self.space: Any = agents[0].spec.observation_space
        self.count = agents[0].spec.num_envs
        for agent in agents:
            agent.begin(observations(self.space, np.random.default_rng(1), self.count))

    def step(self) -> None:
        rng, count = self.rng, self.count
        terminated, truncated = (rng.random(count) < chance for chance in (0.1, 0.05))
        died = np.arange(count) == (0 if self.steps % 20 == 19 else count)
        seen, first = observations(self.space, rng, count), observations(self.space, rng, count)
        ended = (terminated | truncated | died).reshape(count, *[1] * len(self.space.shape))
        actions = self.agents[0].spec.action_space
        discrete = isinstance(actions, spaces.Discrete)
        action = rng.integers(0, 3, count) if discrete else rng.uniform(-1, 1, (count, 2)).astype(np.float32)
        step: Any = SimpleNamespace(
            obs=np.where(ended, first, seen),
            final_obs=seen,
            reward=rng.integers(-1, 2, count).astype(np.float32),
            terminated=terminated & ~died,
            truncated=truncated & ~terminated & ~died,
            died=died,
        )
        self.steps += 1
        for agent in self.agents:
            agent.observe(action, step)


@pytest.fixture(autouse=True)
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut crops out as on a GPU, without a look at where they lie."""
    monkeypatch.setattr(image, "_row_by_row", image._gathered)


def everything(agent: Agent) -> Mapping[str, Tensor]:
    assert agent._last is not None
    tree = agent.state()
    kept = {"priorities": tree["replay"]["priorities"], "optimisers": tree["optimisers"], "sums": tree["sums"]}
    streams = {"update_generator": tree["update_generator"], "replay": tree["replay"]["generator"]}
    return {str(place): tensor for place, tensor in enumerate(tensors_of([kept, streams]))} | parameters(agent)


def assert_equal(ours: Agent, theirs: Agent) -> None:
    for mine, other in zip(tensors_of(ours._last), tensors_of(theirs._last), strict=True):
        assert torch.equal(mine, other), "what was drawn"
    for found, expected in zip(ours.means._last, theirs.means._last, strict=True):
        assert found.names == expected.names and torch.equal(found.values, expected.values)


def begun(case: Case, steps: type[GraphedStep[Any, Any, Any]], device: str = "cpu") -> tuple[Agent, Agent, Script]:
    """An agent whose updates are recorded, its twin, and their steps."""
    recorded, eager = case.make(device), case.make(device)
    recorded.record(steps)
    if not case.plain:
        eager.record(EagerStep)
    for agent in (recorded, eager):
        agent.replay._ranges._room = 2  # soon there are more ranges, and what was recorded counts for nothing
    script = Script([recorded, eager])
    for _ in range(12):
        script.step()
    return recorded, eager, script


@pytest.mark.parametrize("name", CASES)
def test_a_tape_of_an_update_goes_on_as_the_update_does(name: str) -> None:
    case = CASES[name]
    taped, eager, script = begun(case, TapedStep)
    tapes: set[Played] = set()
    for number in range(60):
        for _ in range(int(script.rng.integers(0, 4))):
            script.step()
        for agent in (taped, eager):
            agent.update()
        assert_equal(taped, eager)
        assert isinstance(taped._whole, TapedStep)
        tapes |= set(taped._whole.tapes)
        if number % 25 == 24:
            mine, other = everything(taped), everything(eager)
            assert all(torch.equal(tensor, other[key]) for key, tensor in mine.items())
            assert taped.metrics().keys() - {"perf/sample_ms"} == eager.metrics().keys() - {"perf/sample_ms"}
    assert sum(tape.plays for tape in tapes) > 40
    assert script.steps > 1.5 * CAPACITY / case.num_envs, "the ring came round"


def test_a_tape_of_plain_numbers_goes_astray() -> None:
    """So the test above can fail: this one reads no tensor of what the replay knows."""
    taped, eager, script = begun(CASES["SAC"], TapedStep)
    taped._whole = TapedStep(taped._one)
    with pytest.raises(AssertionError, match="what was drawn"):
        for _ in range(10):
            script.step()
            for agent in (taped, eager):
                agent.update()
            assert_equal(taped, eager)


class Restless(AmplitudeScale):
    """A view that says nothing of graphs."""

    capturable = False


def test_what_cannot_be_captured_keeps_the_draw_outside_and_is_named() -> None:
    agent = CASES["SAC"].make()
    assert agent.outside == []
    agent.augment = Restless()
    agent.replay._samplers = Samplers({"windows": Needs((WindowSpec(2),))}, agent.replay._reader)
    agent.replay._staged = True
    outside = ["a replay in pinned main memory", "WindowSpec of aux.windows", "Restless"]
    assert agent.outside == outside
    agent.record(TapedStep)
    assert agent._whole is None and isinstance(agent._launch, TapedStep)
    agent.spec = replace(agent.spec, compile="cudagraph")
    assert agent.describe()[-1] == "update: one CUDA graph; before it the draw, which stays outside: " + ", ".join(
        outside
    )


def test_faded_priorities_and_bins_drawn_one_by_one_stay_outside() -> None:
    assert Case(replace(SAC, replay="faded")).make().outside == ["priorities that fade"]
    assert Case(SAC, ("drawn_bins",)).make().outside == ["SameReturn of aux.drawn_bins"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CASES)
def test_a_cuda_graph_of_an_update_goes_on_as_the_update_does(name: str) -> None:
    graphed, eager, script = begun(replace(CASES[name], plain=False), GraphedStep, "cuda")
    for _ in range(30):
        script.step()
        for agent in (graphed, eager):
            agent.update()
    for mine, other in zip(tensors_of(graphed._last), tensors_of(eager._last), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)
    ours, theirs = parameters(graphed), parameters(eager)
    for key, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[key], rtol=1e-3, atol=1e-3, msg=key)
