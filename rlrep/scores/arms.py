"""Which arm of an ablation and which task a run is: read off its config, named shortly."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .runs import Run

NO_AUGMENT = ("none", "none_state")
_IGNORED = frozenset(
    {"seed", "out", "device", "compile", "video", "video_format", "launcher", "logger", "choices", "checkpoint"}
)
LENGTHS = ("train.env_steps", "train.agent_steps")
_NO_MATTER = {
    "train.log_every",
    "train.checkpoint_every",
    "train.env_timeout",
    "train.overlap",
    "train.eval_envs",
    "train.eval_batch",
    "env.workers",
    *LENGTHS,
}
EVALUATION = (
    "train.eval_every",
    "train.eval_episodes",
    "train.final_episodes",
    "train.eval_epsilon",
    "train.eval_policy",
    "train.adaptation_episodes",
    "train.exploration_episodes",
    "train.test_episodes",
)
"""How a run is evaluated: no part of an arm, but a reason for a warning."""
Settings = tuple[tuple[str, str], ...]


RETURN, SUCCESS = "return", "success rate"


@dataclass(frozen=True)
class Task:
    """suite: title of the tasks whose scores share a scale. scale: what the score is called, as `return`,
    `success rate` or what the environment calls it. zero, one: the returns that score 0 and 1 on a scale of its own.
    """

    suite: str
    name: str
    scale: str
    zero: float | None = None
    one: float | None = None

    @property
    def unit(self) -> str:
        """What the task itself measures."""
        return SUCCESS if self.scale == SUCCESS else RETURN

    @property
    def normalised(self) -> bool:
        """Whether returns are put on a scale."""
        return self.zero is not None and self.one is not None and self.zero != self.one

    @property
    def scored(self) -> bool:
        """Whether there is a score: not where a scale lacks its reference returns."""
        return self.normalised or self.scale in (RETURN, SUCCESS)


@dataclass(frozen=True)
class Arm:
    """agent, augment, aux: the names chosen. settings: what else differs from other arms of the same names."""

    agent: str
    augment: str
    aux: str
    settings: Settings = ()

    @property
    def augmented(self) -> bool:
        """Whether the RL batch is augmented."""
        return self.augment not in NO_AUGMENT

    @property
    def role(self) -> str:
        """`base`, `augmentation` (only) or `head`."""
        return "head" if self.aux != "none" else "augmentation" if self.augmented else "base"


def task_of(run: Run, metric: str = "auto") -> Task:
    """Return a run's task. metric: auto | return | success, what is scored."""
    scoring, preset = run.scoring, f"preset {run.choice('preset')}"
    name = scoring.task or run.choice("env")
    suite = f"{scoring.suite or name}, {preset}"
    succeeds = bool((run.evaluations.success == run.evaluations.success).all())
    if metric == "success" or (metric == "auto" and succeeds):
        return Task(suite, name, SUCCESS)
    if metric == "return" or scoring.scale == RETURN:
        return Task(suite, name, RETURN)
    return Task(suite, name, scoring.scale, scoring.zero, scoring.one)


def length_of(run: Run) -> str:
    """Return the length that was asked for, as `500000 env steps`."""
    for key in LENGTHS:
        value = run.options.get(key, "null")
        if value != "null":
            return f"{value} {key.rpartition('.')[2].replace('_', ' ')}"
    return "unknown length"


def find_arms(runs: Sequence[tuple[Task, Run]]) -> dict[int, Arm]:
    """Return each run's arm by its position.

    Runs with the same agent, augment and aux are one arm, unless an option differs between two of them on one task:
    then the values of that option tell the arms apart, on every task.
    """
    alike: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, (_, run) in enumerate(runs):
        alike[run.choice("agent"), run.choice("augment"), run.choice("aux")].append(index)
    found: dict[int, Arm] = {}
    for names, members in alike.items():
        keys = _telling([runs[index] for index in members])
        for index in members:
            options = settings_of(runs[index][1])
            found[index] = Arm(*names, tuple((key, options.get(key, "?")) for key in keys))
    return found


def settings_of(run: Run) -> dict[str, str]:
    """Return the options that may tell arms apart."""
    kept = {
        key: value
        for key, value in run.options.items()
        if key.partition(".")[0] not in _IGNORED and key not in _NO_MATTER and key not in EVALUATION
    }
    return {**kept, "encoder": run.choice("encoder")}


def _telling(runs: Iterable[tuple[Task, Run]]) -> list[str]:
    """Return the options with two values on one task."""
    values: dict[tuple[Task, str], set[str]] = defaultdict(set)
    for task, run in runs:
        for key, value in settings_of(run).items():
            values[task, key].add(value)
    keys = sorted({key for (_, key), seen in values.items() if len(seen) > 1})
    return [key for key in keys if not ("encoder" in keys and key.startswith("encoder."))]


def order(arms: Iterable[Arm]) -> list[Arm]:
    """Return the arms, each once: by agent, base first, augmentation only, then heads."""
    rank = {"base": 0, "augmentation": 1, "head": 2}
    return sorted(set(arms), key=lambda arm: (arm.agent, rank[arm.role], arm.aux, arm.augment, arm.settings))


def label(arms: Sequence[Arm]) -> dict[Arm, str]:
    """Return a short name of each arm that says how it differs from the others, no two the same."""
    several_agents = len({arm.agent for arm in arms}) > 1
    augments: dict[str, set[str]] = defaultdict(set)
    for arm in arms:
        augments[arm.agent] |= {arm.augment} if arm.augmented else set()
    names = {arm: _short(arm, augments[arm.agent], several_agents) for arm in arms}
    for arm, name in names.items():
        if list(names.values()).count(name) > 1:
            names[arm] = f"{name} [{arm.agent}-{arm.augment}-{arm.aux}]"
    return names


def _short(arm: Arm, augments: set[str], several_agents: bool) -> str:
    if arm.role == "base":
        name = "base"
    elif arm.role == "augmentation":
        name = f"{arm.augment} only"
    elif arm.augmented:
        name = arm.aux if len(augments) == 1 else f"{arm.aux} + {arm.augment}"
    else:
        name = f"{arm.aux}, not augmented" if augments else arm.aux
    settings = ", ".join(f"{_leaf(key, arm.settings)}={value}" for key, value in arm.settings)
    return (f"{arm.agent}: " if several_agents else "") + name + (f" ({settings})" if settings else "")


def _leaf(key: str, settings: Settings) -> str:
    """Return the shortest end of a dotted path that no other setting shares."""
    parts, others = key.split("."), [other for other, _ in settings if other != key]
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if not any(other == end or other.endswith(f".{end}") for other in others):
            return end
    return key
