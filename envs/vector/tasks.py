"""A task as a checkpoint holds it."""

from typing import Any

from rlrep.contract.env import Task


def task_state(task: Task | None) -> dict[str, Any] | None:
    """Return a task as a tree for checkpoints."""
    return None if task is None else {"name": task.name, "parameters": task.parameters, "vector": list(task.vector)}


def task_from(state: dict[str, Any] | None) -> Task | None:
    """Return the task that `task_state` wrote down."""
    return None if state is None else Task(state["name"], state["parameters"], tuple(state["vector"]))
