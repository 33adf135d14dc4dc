"""Families of tasks for meta-RL: what a task is, and which are trained on and tested on."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task of a family.

    name: what logs and plots call it. parameters: plain numbers, strings and lists, all that `set_task` needs.
    vector: the same as numbers, of one length in the whole family, for agents that may see the task.
    """

    name: str
    parameters: dict[str, Any] = field(hash=False)
    vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class TaskSet:
    """A family's tasks; train and test are disjoint unless the family has too few for that."""

    train: tuple[Task, ...]
    test: tuple[Task, ...]


def task_state(task: Task | None) -> dict[str, Any] | None:
    """Return a task as a tree for checkpoints."""
    return None if task is None else {"name": task.name, "parameters": task.parameters, "vector": list(task.vector)}


def task_from(state: dict[str, Any] | None) -> Task | None:
    """Return the task that `task_state` wrote down."""
    return None if state is None else Task(state["name"], state["parameters"], tuple(state["vector"]))
