"""A kind of pair from outside: request, sampler and head are in this file alone, and it trains, views and resumes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.agents.sb3 import AuxSAC
from rlrep.heads import Encoded, Encoders, Head, HeadConfig, Metrics
from rlrep.loops.online import Online
from rlrep.replay import Anchors, Batch, Needs, Pairs, Replay, Request, Sampler, Stepped, Steps, TaskReplay, Viewing
from tests.agents.sb3_models import chase, small
from tests.loops.test_resume import assert_resumes, at_step
from tests.runs import final_state, metrics

from .replay_twin import CPU, copy_replay, make_script, make_spec
from .test_task_replay import SPEC


@dataclass(frozen=True)
class Elsewhere:
    """obs `(B, ...)`: any that is stored. good `(B,)` bool: its reward was above the running mean."""

    obs: Tensor
    good: Tensor


@dataclass(frozen=True)
class AskElsewhere(Request[Elsewhere]):
    """rate: of the running mean."""

    rate: float = 0.1

    def viewed(self, found: Elsewhere, view: Viewing) -> Elsewhere:
        return replace(found, obs=view(found.obs))


class ElsewhereSampler(Sampler[AskElsewhere, Elsewhere], serves=AskElsewhere):
    """Draws of its own, and something to keep."""

    rows: Steps

    def __init__(self, request: AskElsewhere, rows: Steps) -> None:
        super().__init__(request, rows)
        self.mean = np.zeros(rows.window.num_envs)

    def add(self, step: Stepped) -> None:
        self.mean += self.request.rate * (step.reward - self.mean)

    def draw(self, anchors: Anchors) -> Elsewhere:
        rows, size, generator = self.rows, anchors.rows.shape, anchors.generator
        step = torch.randint(rows.window.low, rows.window.head, size, generator=generator, device=rows.home)
        flat = rows.window.rows(step, anchors.env)
        good = rows.take("reward", flat) > torch.from_numpy(self.mean)[anchors.env]
        return Elsewhere(rows.stacks(flat), rows.send(good))

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean.copy()}

    def load_state(self, tree: Mapping[str, Any]) -> None:
        self.mean = np.array(tree["mean"])


@dataclass(frozen=True)
class AskServedByAnother(AskElsewhere):
    """Nobody serves it before an entry point does."""


@dataclass(frozen=True)
class GoodReward(HeadConfig):
    """Settings of `aux=good_reward`. outside: ask for what only an entry point serves."""

    outside: bool = False

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "GoodRewardHead":
        return GoodRewardHead(AskServedByAnother() if self.outside else AskElsewhere(), latent_dim)


class GoodRewardHead(Head):
    """Tells good rewards from observations seen elsewhere."""

    def __init__(self, elsewhere: AskElsewhere, latent_dim: int) -> None:
        super().__init__()
        self.elsewhere, self.needs = elsewhere, Needs((elsewhere,))
        self.score = nn.Linear(latent_dim, 1)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        found = pairs[self.elsewhere]
        logits = self.score(encoders.online(found.obs)).squeeze(1)
        good = found.good.to(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits, good), {"good": good.mean()}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Return a folder for `--config-dir`."""
    (tmp_path / "aux").mkdir()
    file = tmp_path / "aux" / "good_reward.yaml"
    file.write_text(f"# @package aux.good_reward\n_target_: {GoodReward.__module__}.GoodReward\n")
    return tmp_path


def offer(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Install a package that serves the request, by its metadata on the path."""
    (folder / "outside_sampler.py").write_text(
        f"from {__name__} import AskServedByAnother, ElsewhereSampler\n\n\n"
        "class OutsideSampler(ElsewhereSampler, serves=AskServedByAnother):\n    pass\n"
    )
    metadata = folder / "outside_sampler-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-sampler\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rlrep.pairs]\noutside = outside_sampler:OutsideSampler\n")
    patch.syspath_prepend(folder)


@pytest.mark.parametrize("outside", [False, True])
def test_it_trains_inside_sac_and_resumes_exactly(
    configs: Path, outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        f"--config-dir={configs}",
        "env=toy_pixels",
        "aux=[curl,good_reward]",
        f"aux.good_reward.outside={str(outside).lower()}",
        "checkpoint.keep_replay=true",
    )
    if outside:
        offer(configs, monkeypatch)
    parts = assert_resumes(configs, words, Online, at_step(13), at_step(37))
    shares = {row["aux/good_reward/good"] for row in metrics(parts) if "aux/good_reward/good" in row}
    assert len(shares) > 1, "pairs are drawn anew at every update"
    *_, state = final_state(parts)["agent"]["replay"]["samplers"]
    assert state["mean"].any(), "what the sampler keeps is in the checkpoint"


def test_what_nobody_serves_is_refused_in_one_line() -> None:
    @dataclass(frozen=True)
    class Unknown(Request[Tensor]):
        pass

    with pytest.raises(ValueError, match=r"aux\.head asks for Unknown, which a replay of one task cannot give: it has"):
        Replay(make_spec(), device=CPU, seed=0, needs={"head": Needs((Unknown(),))})
    with pytest.raises(ValueError, match=r"aux\.head asks for AskElsewhere, which a replay of tasks cannot give"):
        TaskReplay(SPEC, device=CPU, seed=0, needs={"head": Needs((AskElsewhere(),))})


def test_the_sampler_is_kept_up_to_date_and_its_observations_are_viewed() -> None:
    asked = AskElsewhere(rate=0.5)
    script = make_script(make_spec(), {"head": Needs((asked,)), "again": Needs((asked,))}, steps=20)
    other = copy_replay(script.replay)
    (mine,), (theirs,) = (each._samplers._samplers.values() for each in (script.replay, other))
    assert isinstance(mine, ElsewhereSampler) and isinstance(theirs, ElsewhereSampler)
    assert mine.mean.any() and np.array_equal(mine.mean, theirs.mean)
    pairs, same = (each.sample(16).pairs for each in (script.replay, other))
    assert torch.equal(pairs["head"][asked].obs, same["head"][asked].obs)
    assert not torch.equal(pairs["head"][asked].obs, pairs["again"][asked].obs), "each head has a draw of its own"
    assert torch.equal(pairs["head"].viewed(lambda obs: obs + 1)[asked].obs, pairs["head"][asked].obs + 1)


def test_sb3s_buffer_serves_it_too() -> None:
    model = AuxSAC("MlpPolicy", chase(), aux={"good_reward": GoodReward()}, **small()).learn(40)
    buffer: Any = model.replay_buffer
    found = buffer.pairs(buffer.last)["good_reward"][AskElsewhere()]
    stored = torch.from_numpy(buffer.observations).flatten(0, 1)
    assert model._n_updates > 0 and all((stored == row).all(1).any() for row in found.obs)
