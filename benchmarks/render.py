"""Times our frames against dm_control's own `physics.render` at 84x84, and measures how far their pixels are apart.

    python -m benchmarks.render [--frames 40]

Every 25 env steps of an episode of random actions on each of CURL's six tasks, the same scene is rendered by all, one
after the other; rates are medians, so that a disturbance of the machine meets all alike. Writes results/render.json.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlrep.envs.dmc.env import DMC
from rlrep.envs.render.gl import load_suite

from . import result

SIZE = 84
SPACING = 25
WARM_UP = 2
PEER = "dm_control"
CHOICES: tuple[Literal["exact", "fast", "off"], ...] = ("exact", "fast", "off")
TASKS = (
    ("cartpole", "swingup"),
    ("reacher", "easy"),
    ("cheetah", "run"),
    ("finger", "spin"),
    ("ball_in_cup", "catch"),
    ("walker", "walk"),
)
COLUMNS = ["task", "dm_control, frames/s", "exact", "fast", "off", "fast / dm_control", "pixel difference", "largest"]


@dataclass
class Samples:
    """Of one way to render: wall and processor milliseconds per frame, distance to dm_control's frame (of 255)."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    mean_difference: list[float] = field(default_factory=list)
    max_difference: int = 0

    def take(self, render: Callable[[], NDArray[np.uint8]]) -> NDArray[np.int16]:
        """Time one frame and return it."""
        wall, processor = time.perf_counter(), time.process_time()
        frame = render()
        self.wall.append(1000 * (time.perf_counter() - wall))
        self.processor.append(1000 * (time.process_time() - processor))
        return frame.astype(np.int16)

    def compare(self, frame: NDArray[np.int16], reference: NDArray[np.int16]) -> None:
        """Note how far `frame` is from `reference`."""
        distance = np.abs(frame - reference)
        self.mean_difference.append(float(distance.mean()))
        self.max_difference = max(self.max_difference, int(distance.max()))

    def summary(self) -> dict[str, float]:
        """Return medians and distances."""
        return {
            "frames_per_second": round(1000 / float(np.median(self.wall[WARM_UP:])), 1),
            "processor_ms": round(float(np.median(self.processor[WARM_UP:])), 2),
            "mean_difference": round(float(np.mean(self.mean_difference)), 5) if self.mean_difference else 0.0,
            "max_difference": self.max_difference,
        }


def measure(domain: str, task: str, frames: int) -> dict[str, Any]:
    """Render `frames` scenes of one task in every way."""
    from rlrep.envs.render.renderer import Renderer

    env = load_suite().load(domain, task, task_kwargs={"random": 0})
    env.reset()
    spec, random = env.action_spec(), np.random.default_rng(0)
    renderers = {choice: Renderer(env.physics, SIZE, 0, choice) for choice in CHOICES}
    samples = {name: Samples() for name in (PEER, *CHOICES)}
    for _ in range(frames + WARM_UP):
        for _ in range(SPACING):
            env.step(random.uniform(spec.minimum, spec.maximum))
        reference = samples[PEER].take(lambda: env.physics.render(SIZE, SIZE, camera_id=0))
        for name, renderer in renderers.items():
            samples[name].compare(samples[name].take(renderer.frame), reference)
    for renderer in renderers.values():
        renderer.close()
    found = {name: sample.summary() for name, sample in samples.items()}
    return {
        "task": f"{domain}_{task}",
        **found,
        "ratio": round(found["fast"]["frames_per_second"] / found[PEER]["frames_per_second"], 2),
        "processor_ratio": round(found[PEER]["processor_ms"] / found["fast"]["processor_ms"], 2),
    }


def row(measured: dict[str, Any]) -> list[object]:
    """Return the table's row of one task."""
    rates, fast = [measured[name]["frames_per_second"] for name in (PEER, *CHOICES)], measured["fast"]
    distance = [f"{fast['mean_difference']:.4f}", fast["max_difference"]]
    return [measured["task"], *rates, measured["ratio"], *distance]


def average(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means over the tasks."""

    def mean(key: str, digits: int, part: str | None = None) -> float:
        return round(float(np.mean([(each if part is None else each[part])[key] for each in results])), digits)

    return {
        "ratio": mean("ratio", 2),
        "processor_ratio": mean("processor_ratio", 2),
        "mean_difference": mean("mean_difference", 5, "fast"),
        "exact_max_difference": max(int(each["exact"]["max_difference"]) for each in results),
    }


def gl_driver() -> str:
    """Return the name of the OpenGL driver that renders."""
    env = DMC("pendulum", "swingup").make(0)
    env.reset()
    opengl = importlib.import_module("OpenGL.GL")  # not before MuJoCo has chosen its platform
    name = bytes(opengl.glGetString(opengl.GL_RENDERER)).decode()
    env.close()
    return name


def main() -> None:
    """Measure, print and save."""
    parser = result.command_line(__doc__)
    parser.add_argument("--frames", type=int, default=40, help="per task")
    options = parser.parse_args()
    driver = gl_driver()
    results = [measure(domain, task, options.frames) for domain, task in TASKS]
    means = average(results)
    result.save(
        options.results / "render.json",
        COLUMNS,
        [*map(row, results), ["average", "", "", "", "", means["ratio"], means["mean_difference"], ""]],
        limits=f"{driver}; {options.frames} frames a task; mean absolute differences (of 255) to dm_control's frames.",
        more={"gl": driver, "average": means, "tasks": results},
    )


if __name__ == "__main__":
    main()
