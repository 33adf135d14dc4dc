"""What a reader must know before trusting a comparison, in words."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .arms import EVALUATION, NO_AUGMENT, Arm
from .comparison import Comparison
from .runs import Run
from .statistics import FEWEST_RUNS

_NOT_PROTOCOL = {"env.num_envs", "env.workers", "env.size", "env.backend", "env.training", "env._target_"}
_SHOWN = 6


def find_caveats(made: Comparison) -> list[str]:
    """Return every reason for doubt, the gravest first."""
    checks: tuple[Callable[[Comparison], Iterator[str]], ...] = (
        _missing_controls,
        _unlike_networks,
        _protocols,
        _simulators,
        _unnormalised,
        _few_seeds,
        _unlike_seeds,
        _unfinished,
        _uncommon_tasks,
        _code,
    )
    return [line for check in checks for line in check(made)]


def across(comparisons: Sequence[Comparison]) -> list[str]:
    """Return what is to be said of several comparisons together: which are apart only by protocol or length."""
    if len(comparisons) < 2:
        return []
    kinds = f"Runs of {len(comparisons)} kinds are compared apart"
    return [f"{kinds}: they differ in environment, protocol, length or preset, so their scores do not mean the same."]


def needs_view(arm: Arm, runs: Iterable[Run]) -> bool:
    """Whether a head sees augmented observations: the RL batch's, or views of its own."""
    return arm.augmented or any(
        key.startswith("aux.") and (key.endswith(".view") or ".view." in key) and value not in ("null", *NO_AUGMENT)
        for run in runs
        for key, value in run.options.items()
    )


def _missing_controls(made: Comparison) -> Iterator[str]:
    baseless: dict[str, list[str]] = defaultdict(list)
    unaugmented: dict[str, list[str]] = defaultdict(list)
    for head in (arm for arm in made.arms if arm.role == "head"):
        runs = [run for task in made.tasks for run in made.cell(task, head)]
        peers = [arm for arm in made.arms if arm.agent == head.agent]
        if not any(arm.role == "base" for arm in peers):
            baseless[head.agent].append(made.names[head])
        same = [
            arm for arm in peers if arm.role == "augmentation" and (not head.augmented or arm.augment == head.augment)
        ]
        if needs_view(head, runs) and not same:
            asked = f"augment={head.augment}" if head.augmented else "augment=A, the head's own view,"
            unaugmented[f"agent={head.agent} {asked} aux=none"].append(made.names[head])
    for agent, heads in baseless.items():
        asked = f"agent={agent} augment=none aux=none"
        yield f"The base arm is missing ({asked}): nothing shows what {_listed(heads)} adds to the agent as it is."
    for asked, heads in unaugmented.items():
        yield f"The augmentation-only arm is missing ({asked}): what {_listed(heads)} gains may be the augmentation's."


def _unlike_networks(made: Comparison) -> Iterator[str]:
    """What agents say of runs with heads, where arms with and without stand side by side."""
    found: dict[tuple[str, str], dict[bool, list[str]]] = defaultdict(lambda: {True: [], False: []})
    for arm in made.arms:
        for remark in {run.scoring.remark for task in made.tasks for run in made.cell(task, arm)} - {None}:
            found[arm.agent, str(remark)][arm.role == "head"].append(made.names[arm])
    for (_, remark), heads in sorted(found.items()):
        if all(heads.values()):
            yield f"{_listed(heads[True])} beside {_listed(heads[False])}: {remark}."


def _protocols(made: Comparison) -> Iterator[str]:
    for key, (tasks, arms) in _differing(made).items():
        shown = "; ".join(f"{value} in {_listed(sorted(names))}" for value, names in sorted(arms.items()))
        harm = "Best scores" if key == "train.eval_every" else "Scores"
        yield f"Protocols differ on {_listed(sorted(tasks))}: {key} is {shown}. {harm} are not comparable there."


def _differing(made: Comparison) -> dict[str, tuple[set[str], dict[str, set[str]]]]:
    """Return the options of the protocol that differ within a task: where, and which arms have which value."""
    found: dict[str, tuple[set[str], dict[str, set[str]]]] = {}
    for task in made.tasks:
        values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for arm in made.arms:
            for run in made.cell(task, arm):
                for key, value in run.options.items():
                    if key in EVALUATION or (key.startswith("env.") and key not in _NOT_PROTOCOL):
                        values[key][value].add(made.names[arm])
        for key, seen in values.items():
            if len(seen) > 1:
                tasks, arms = found.setdefault(key, (set(), {}))
                tasks.add(task.name)
                for value, names in seen.items():
                    arms.setdefault(value, set()).update(names)
    return found


def _simulators(made: Comparison) -> Iterator[str]:
    for key, found in _versions(made, "simulators.").items():
        shown = "; ".join(f"{value} in {_listed(sorted(arms))}" for value, arms in sorted(found.items()))
        yield f"Simulator versions differ: {key.partition('.')[2]} is {shown}."


def _code(made: Comparison) -> Iterator[str]:
    found = _versions(made, "git")
    if found:
        count = len(found["git"])
        yield f"The runs come from {count} commits of the code (section Versions)."
    dirty = sum(run.versions.get("git", "").endswith("-dirty") for run in made.runs)
    if dirty:
        yield f"{_runs(dirty)} came from a checkout with changes that no commit holds."


def _versions(made: Comparison, prefix: str) -> Mapping[str, Mapping[str, set[str]]]:
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for arm in made.arms:
        for task in made.tasks:
            for run in made.cell(task, arm):
                for key, value in run.versions.items():
                    if key.startswith(prefix):
                        seen[key][value].add(made.names[arm])
    return {key: found for key, found in seen.items() if len(found) > 1}


def _unnormalised(made: Comparison) -> Iterator[str]:
    unknown = [task.name for task in made.tasks if not task.scored]
    if unknown:
        yield (
            f"{_listed(unknown)}: no reference returns are known, so the raw return is shown and no aggregate "
            "counts it."
        )


def _few_seeds(made: Comparison) -> Iterator[str]:
    few: dict[str, int] = {}
    for arm in made.arms:
        sizes = [len(made.counted(task, arm)) for task in made.tasks if made.cell(task, arm)]
        if sizes and min(sizes) < FEWEST_RUNS:
            few[made.names[arm]] = min(sizes)
    if few:
        shown = ", ".join(f"{name} {count}" for name, count in list(few.items())[:_SHOWN])
        more = ", ..." if len(few) > _SHOWN else ""
        yield (
            f"Too few seeds for intervals or a ranking (fewer than {FEWEST_RUNS} per task: {shown}{more}): single runs "
            "are shown instead, since bootstrap intervals over so few are too narrow."
        )


def _unlike_seeds(made: Comparison) -> Iterator[str]:
    found = []
    for task in made.tasks:
        by_seed = {made.names[arm]: {run.seed for run in made.counted(task, arm)} for arm in made.arms}
        held = {name: seeds for name, seeds in by_seed.items() if seeds}
        if len({frozenset(seeds) for seeds in held.values()}) > 1:
            counts = ", ".join(f"{name} {len(seeds)}" for name, seeds in list(held.items())[:_SHOWN])
            found.append(f"{task.name} ({counts})")
    if found:
        yield f"Arms do not have the same seeds. How many on {_listed(found[:3])}{' and others' * (len(found) > 3)}."


def _unfinished(made: Comparison) -> Iterator[str]:
    waiting = [run for run in made.runs if not run.evaluations.final]
    if waiting and made.counts_unfinished:
        yield "No run is finished: every number is that of the last evaluation so far."
    elif waiting:
        yield f"{_runs(len(waiting))} of {len(made.runs)} not finished: in curves, but in no score."


def _uncommon_tasks(made: Comparison) -> Iterator[str]:
    apart = [made.names[arm] for arm in made.arms if arm not in made.aggregated]
    left = [task.name for task in made.tasks if task not in made.common and task.scored]
    if not made.common:
        yield "The arms share no task with a score, so nothing is aggregated over tasks."
    elif left:
        count = f"{len(made.common)} of {len(made.tasks)} tasks"
        yield f"Aggregates are over {count}, those that all arms have: not over {_listed(left)}."
    if apart and made.common:
        yield f"{_listed(apart)}: too few of the tasks to be in the aggregates."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count > 1)}"
