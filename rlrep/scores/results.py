"""Everything that is computed of a comparison, once, for all of the report's forms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import analysis
from .analysis import Draws, Health, Line, Pair
from .arms import Arm, Task
from .caveats import find_caveats
from .comparison import Comparison
from .published import Published, at_steps, published
from .statistics import FEWEST_RUNS, Band, Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """A comparison and its numbers; the shapes are those of the functions in `analysis`."""

    made: Comparison
    caveats: Sequence[str]
    aggregates: Mapping[str, Mapping[str, Mapping[Arm, Estimate]]]
    per_task: Mapping[Task, Mapping[Arm, Mapping[str, Estimate]]]
    thresholds: Array
    profiles: Mapping[Arm, Band]
    pairs: Sequence[Pair]
    curves: Mapping[Arm, Mapping[str, Line]]
    task_curves: Mapping[Task, Mapping[Arm, Mapping[str, Line]]]
    adaptation: Mapping[Task, Mapping[Arm, Band]]
    health: Health
    published: Mapping[Task, Sequence[Published]]

    @property
    def spread(self) -> str:
        """What stands behind the numbers of its tables, in words."""
        found = [value for arms in self.per_task.values() for kinds in arms.values() for value in kinds.values()]
        found += [value for named in self.aggregates["final"].values() for value in named.values()]
        settled = sum(value.low is not None for value in found)
        if settled == len(found):
            return "[95 % interval]"
        single = f"(single runs: no interval below {FEWEST_RUNS} runs of a task)"
        return f"[95 % interval] or {single}" if settled else single


def compute(made: Comparison, draws: Draws) -> Results:
    """Compute everything."""
    thresholds, profiles = analysis.profiles(made, draws)
    adaptation = {task: analysis.adaptation(made, task, draws) for task in made.tasks}
    return Results(
        made=made,
        caveats=find_caveats(made),
        aggregates=analysis.aggregates(made, draws),
        per_task=analysis.per_task(made, draws),
        thresholds=thresholds,
        profiles=profiles,
        pairs=analysis.pairs(made, draws),
        curves=analysis.aggregate_curves(made, draws) if len(made.common) > 1 else {},
        task_curves={task: analysis.task_curves(made, task, draws) for task in made.tasks},
        adaptation={task: found for task, found in adaptation.items() if found},
        health=analysis.health(made),
        published={task: found for task in made.tasks if (found := find_published(made, task))},
    )


def written(found: Estimate, number: Callable[[float], str]) -> str:
    """Return an estimate and its interval, or single runs."""
    if found.low is not None and found.high is not None:
        return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"
    return number(found.value) + (f" ({', '.join(map(number, found.runs))})" if found.runs else "")


def ranged(count: int, found: Estimate, number: Callable[[float], str]) -> str:
    """Return how many runs there are and, where these stand for an interval, from where to where they reach."""
    return f"{count} ({number(min(found.runs))} to {number(max(found.runs))})" if found.runs else str(count)


def arm_names(results: Sequence[Results]) -> list[str]:
    """Return the names of all arms, each once, by which they have their colours: bases, augmentation only, heads."""
    roles = ("base", "augmentation", "head")
    ranked = {(roles.index(arm.role), name): None for found in results for arm, name in found.made.names.items()}
    return list(dict.fromkeys(name for _, name in sorted(ranked, key=lambda item: item[0])))


def find_published(made: Comparison, task: Task) -> list[Published]:
    """Return the published scores of a task under the protocol and at the env steps of these runs."""
    runs = [run for arm in made.arms for run in made.counted(task, arm)]
    if not runs:
        return []
    steps = float(np.median([run.evaluations.env_steps[-1] for run in runs]))
    return at_steps(published(runs[0].scoring.table or ""), task.name, steps)
