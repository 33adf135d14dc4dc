"""What an update and an agent step ask of a GPU, as torch's profiler counts calls: launches of kernels and of graphs,
copies, and waits of the host.

    python -m benchmarks.launches [--results DIR]

An update is counted once its graphs are recorded; an agent step acts and stores, and makes no update. Writes
results/launches_cuda.json. Needs a GPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from rlrep.agents import OnlineAgent

from . import rainbow_speed, result, update_speed
from .random_play import one_step
from .update_speed import Arm

CALLS = {
    "kernels": ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"),
    "graphs": ("cudaGraphLaunch",),
    "copies": ("cudaMemcpyAsync", "cudaMemsetAsync"),
    "waits": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"),
}
"""What is counted, by the runtime's names."""
WARM, COUNTED = 16, 20
"""Updates before anything is counted, and calls that are."""


def sac(arm: Arm) -> OnlineAgent[Any]:
    """Build SAC as it is timed."""
    return update_speed.make_agent(arm, "cuda", "cudagraph")


def rainbow(arm: str) -> OnlineAgent[Any]:
    """Build Rainbow as it is timed."""
    return rainbow_speed.make_agent(arm, "cuda", 20_000)


AGENTS: dict[str, Callable[[], OnlineAgent[Any]]] = {
    "SAC + CURL on pixels, batch 512": partial(sac, Arm(True, 512, "curl")),
    "SAC on states, batch 256": partial(sac, Arm(False, 256)),
    "Rainbow": partial(rainbow, "none"),
    "Rainbow + CURL + return contrast": partial(rainbow, "curl+return_contrast"),
}


def counted(call: Callable[[], object], times: int = COUNTED) -> list[float]:
    """Return how often a call does what `CALLS` lists, on the average."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for _ in range(times):
            call()
    counts = {event.key: event.count for event in seen.key_averages()}
    return [round(sum(counts.get(name, 0) for name in names) / times, 1) for names in CALLS.values()]


def agent_step(agent: OnlineAgent[Any], obs: np.ndarray[Any, Any]) -> None:
    """Act, and store what came of it."""
    agent.observe(agent.act(obs, explore=True), one_step(obs, obs, 1.0))


def main() -> None:
    """Count all agents' updates and steps."""
    options = result.command_line(__doc__).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this counts what a GPU is asked for, and there is none")
    rows: list[list[object]] = []
    for name, make in AGENTS.items():
        agent = make()
        for _ in range(WARM):
            agent.update()
        space = agent.spec.observation_space
        step = partial(agent_step, agent, np.zeros((1, *space.shape), space.dtype))
        rows += [[name, what, *counted(call)] for what, call in (("update", agent.update), ("agent step", step))]
    limits = "Calls of the CUDA runtime, means of 20; a step that ends an episode stores more."
    result.save(options.results / "launches_cuda.json", ("agent", "of", *CALLS), rows, limits=limits)


if __name__ == "__main__":
    main()
