"""An update, draw included, never waits for its device and hands it no tensor of the host, as counted on a CPU."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlrep.heads import HeadConfig, InstanceContrast, ReturnContrast, SelfPrediction, TemporalContrast

from .pearl_rig import make_pearl
from .rainbow_rig import make_rainbow
from .tape import EagerStep, Tape, TapedStep
from .test_sac import make_agent

HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(),
    "return_contrast": ReturnContrast(threshold=2.0),
    "temporal": TemporalContrast(),
    "self_prediction": SelfPrediction(steps=2),
}
ON_CPU = {
    "image.py: tolist",  # crops of frames are copied row by row; on a GPU they are one gather
    "actions.py: _local_scalar_dense",  # torch's one_hot looks at its input; on a GPU it does not
}
"""What is another way on a GPU."""
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "lift_fresh"}
CPU = torch.device("cpu")
NOWHERE = torch.device("meta")
"""Where tensors come to be whose maker does not say where."""
READING = ("tolist", "numpy", "cpu", "item", "__bool__", "__int__", "__float__", "__array__")


class Host(TorchDispatchMode):
    """Notes operations that wait for the device, and tensors that are made without being told where."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def note(self, what: str) -> None:
        """Count something, by the file of ours that asks for it."""
        files = [frame.filename for frame in traceback.extract_stack()]
        ours = [file for file in files if ("/agents/" in file or "/rlrep/" in file) and file != __file__]
        self.found[f"{ours[-1].rpartition('/')[2]}: {what}" if ours else what] += 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        masks = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITING or masks:
            self.note(name)
        if kwargs.get("device") == NOWHERE:
            self.note(f"{name} without a device")
        return func(*args, **kwargs)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count what the block does by way of the host."""
    with monkeypatch.context() as patch, NOWHERE, Host() as host:

        def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def calling(*args: Any, **kwargs: Any) -> Any:
                host.note(name)
                return call(*args, **kwargs)

            return calling

        for name in READING:
            patch.setattr(Tensor, name, noted(name, getattr(Tensor, name)))
        for name in ("from_numpy", "as_tensor"):
            patch.setattr(torch, name, noted(name, getattr(torch, name)))
        yield host.found


AGENTS: dict[str, Callable[[int], Any]] = {
    "SAC": lambda seed: make_agent(pixels=False, heads={}, seed=seed),
    "SAC on pixels": lambda seed: make_agent(heads={"curl": HEADS["curl"]}, seed=seed),
    "Rainbow": lambda seed: make_rainbow(pixels=False, aux=HEADS, seed=seed),
    "PEARL": lambda seed: make_pearl(),
}


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = AGENTS[name](0)
    agent.update()
    with watched(monkeypatch) as found:
        agent.update()  # the second: an actor that learns every other time is due
    assert found.keys() <= ON_CPU, found


@pytest.mark.parametrize("name", ["SAC", "SAC on pixels", "Rainbow"])
def test_a_captured_update_reads_tensors_of_its_device_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw, step, priorities and sums; it takes no number of the host's, see `test_captured`."""
    agent = AGENTS[name](0)
    agent.record(EagerStep)
    agent.update()
    due = agent.step.due(2)
    agent.replay.shared.refresh(CPU)
    with watched(monkeypatch) as found:
        agent._whole((), (agent._sample, due))
    assert found.keys() <= ON_CPU, found


@pytest.mark.parametrize("name", ["SAC", "SAC on pixels", "Rainbow"])
def test_beside_its_graph_an_update_launches_one_copy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = AGENTS[name](0)
    agent.record(TapedStep)
    for _ in range(9):
        agent.update()
    monkeypatch.setattr(Tape, "play", lambda tape: None)
    with Tape() as beside:
        agent.update()
    called = [call.function.overloadpacket.__name__ for call in beside.calls]
    assert called == ["lift_fresh", "copy_"], "an array of the host becomes a tensor there, which is copied"


@pytest.mark.parametrize("name", ["SAC", "Rainbow"])
def test_an_update_of_a_fleet_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agents = [AGENTS[name](seed) for seed in range(2)]
    update = agents[0].fleet()
    update(agents)
    with watched(monkeypatch) as found:
        update(agents)
    assert found.keys() <= ON_CPU, found


def test_what_goes_by_the_host_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(3.0)
    with watched(monkeypatch) as found:
        values.sum().item()
        values[values > 1]
        torch.tensor(1.0, device=values.device)
        torch.ones(3)
    assert {"item", "_local_scalar_dense", "index", "lift_fresh", "ones without a device"} <= found.keys()
