"""Runs in lockstep in one process (DESIGN 4.7): each is an ordinary session; only their updates are made together."""

import gc
import math
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import torch

from rlrep.contract.agent import Rows, Stackable
from rlrep.envs.vector import Pool
from rlrep.process.machine import free_bytes, keep_large_blocks, pick_device, set_threads
from rlrep.process.progress import Lines, Reporter
from rlrep.process.signals import StopRequest
from rlrep.record.folder import lock_folder
from rlrep.settings import Stopped, UserError, one_line

from .loop import Loop
from .meta.work import Meta
from .online import Online
from .opened import open_run
from .playing import Playing
from .session import Job, Site, left_behind, ready

_SHARE = 0.8
"""Of the free memory that replays may take; networks, batches and simulators have the rest."""


@dataclass(eq=False)
class Member:
    """A run of a fleet. tree: its config, as composed. log: where its lines go. again: the command that continues it.

    code: the exit code that it would have alone, None while it goes on. replay_bytes: of its replay when full.
    """

    job: Job
    tree: Mapping[str, Any]
    log: IO[str]
    again: str
    code: int | None = None
    replay_bytes: int = 0
    stack: ExitStack = field(default_factory=ExitStack)
    _loop: Loop | None = None

    @property
    def loop(self) -> Loop:
        """Its loop, once it is open."""
        assert self._loop is not None
        return self._loop

    def saving(self) -> AbstractContextManager[None]:
        """Save, if a signal ends the block."""
        return nullcontext() if self._loop is None else self._loop.saving()

    def say(self, line: str) -> None:
        """Write a line into its log."""
        print(line, file=self.log, flush=True)

    def open(self, stop: StopRequest, pool: Pool) -> None:
        """Build it, and resume it where there is a checkpoint; one that is finished ends. pool: of worker processes."""
        job = copy(self.job)  # what is built for it lives no longer than its loop
        folder = Path(job.config.out)
        self.stack.enter_context(lock_folder(folder))
        opened = open_run(folder, self.tree, job)
        if opened.is_finished:
            self.say(f"this run is finished{opened.size(job.counted)}: see {folder}")
            self.end(0)
            return
        site = Site(opened, pick_device(job.config.device), stop, self.stack, pool)
        self._loop = ready(job, site, self.tree, self._reporter)
        self.replay_bytes = sum(ring_bytes(ring) for ring in job.rings().values())

    def _reporter(self, stack: ExitStack, total: int, done: int, unit: str) -> Reporter:
        return Lines(total, done, unit, file=self.log)

    def failed(self, error: Exception) -> None:
        """End it by an error, as it would end alone."""
        if isinstance(error, Stopped):
            self.say(f"stopped, saved in {self.job.config.out}; to go on: {self.again}")
        elif isinstance(error, (UserError, OSError)):
            self.say(f"error: {one_line(error)}")
        elif isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            self.say("error: out of memory: choose a lower launcher.size; the last checkpoint is kept")
        else:
            self.say("".join(traceback.format_exception(error)))
            self.say(f"error: {type(error).__name__}: {one_line(error)[:300]}; the last checkpoint is kept")
        self.end(getattr(error, "exit_code", 1))

    def end(self, code: int) -> None:
        """Close what was opened for it, and let go of it."""
        self.code, self._loop = code, None
        self.stack.close()


class Fleet:
    """Steps its members in turn, and makes the updates of those that are alike as one.

    size: members at a time, the rest follow when these have ended; auto = as many replays as fit into memory.
    tell: called with each member that has begun, and again when it has ended.
    """

    def __init__(self, size: int | Literal["auto"], stop: StopRequest, tell: Callable[[Member], None]) -> None:
        self._size, self._stop, self._tell, self._pool = size, stop, tell, Pool()
        self._works: dict[Member, Online | Meta] = {}
        self._alike: dict[Member, Hashable] = {}
        self._joint: dict[Hashable, Callable[[Sequence[Any]], None]] = {}

    def run(self, members: Sequence[Member]) -> None:
        """Train all members to their ends; whatever ends one of them, the others go on."""
        set_threads()
        keep_large_blocks()
        waiting = list(members)
        try:
            while waiting:
                self._train(self._opened(waiting))
        finally:
            for member in members:
                member.stack.close()
            self._pool.close()

    def _opened(self, waiting: list[Member]) -> list[Member]:
        """Take members out of those that wait, as long as there is room, and open them."""
        self._works, self._alike, self._joint = {}, {}, {}
        gc.collect()  # what those that have ended had
        found: list[Member] = []
        most: float = math.inf if self._size == "auto" else self._size
        free = taken = 0
        while waiting and len(found) < most:
            member = waiting.pop(0)
            if not found:
                with self._guarded([member]):
                    free = free_bytes(pick_device(member.job.config.device))
            self._each([member], lambda member: member.open(self._stop, self._pool))
            self._tell(member)
            if member.code is not None:
                continue
            found.append(member)
            taken, each = taken + member.replay_bytes, max(1, member.replay_bytes)
            fit = len(found) + max(0, int((_SHARE * free - taken) / each))  # if those that wait are like it
            if self._size == "auto":
                most = fit
            elif fit < min(most, len(found) + len(waiting)):
                self._refuse([*found, *waiting], each, free)
                waiting.clear()
        return found

    def _refuse(self, members: Sequence[Member], each: int, free: int) -> None:
        line = (
            f"launcher.size={self._size}: replays of {each / 1e9:.2f} GB each do not fit into "
            f"{free / 1e9:.2f} GB of free memory: choose launcher.size=auto"
        )
        for member in members:
            self._end(member, UserError(line))

    def _train(self, members: Sequence[Member]) -> None:
        self._each(members, self._join)
        self._each(members, lambda member: member.loop.begin())
        while live := [member for member in members if member.code is None]:
            self._step(live)
            for member in live:
                if member.code is None and member.loop.done:
                    with self._guarded([member]):
                        self._finish(member)

    def _join(self, member: Member) -> None:
        """Find out with whom a run can be stacked, and say so where it is nobody."""
        work = member.loop.work
        agent: Any = work.parts.agent if isinstance(work, Playing) else None
        try:
            if not isinstance(work, (Online, Meta)) or not isinstance(agent, Stackable):
                raise ValueError("this kind of run is not stacked yet")
            self._alike[member] = kind = agent.alike()
            self._joint.setdefault(kind, agent.fleet())
            self._works[member] = work
        except ValueError as error:
            member.say(f"launcher=fleet: updates of this run are made one by one: {one_line(error)}")

    # Steps

    def _step(self, members: Sequence[Member]) -> None:
        """One step of each; but a run of a family whose next step is an update waits for those that are alike."""
        before = {member: member.loop.work.counters.agent_steps for member in members}
        online = {member: work for member in members if isinstance(work := self._works.get(member), Online)}
        families = {member: work for member in members if isinstance(work := self._works.get(member), Meta)}
        collecting = {self._alike[member] for member, work in families.items() if not work.owes}
        paying = [member for member in families if self._alike[member] not in collecting]
        self._update(paying)
        self._each(online, lambda member: online[member].act())
        self._learn({member: work for member, work in online.items() if work.overlap})
        self._each(online, lambda member: online[member].observe())
        self._learn({member: work for member, work in online.items() if not work.overlap})

        def count(member: Member) -> None:
            row_due = False
            if member in online:
                online[member].count()
            elif member in paying:
                row_due = families[member].pay()
            elif member not in families:
                row_due = member.loop.work.step()
            elif families[member].owes:
                return
            else:
                families[member].advance()
            member.loop.stepped(before[member], row_due=row_due)

        self._each(members, count)

    def _learn(self, online: Mapping[Member, Online]) -> None:
        """Make the updates that a step of these brings."""
        due = {member: online[member].due_updates() for member in online if member.code is None}
        for number in range(max(due.values(), default=0)):
            self._update([member for member in due if due[member] > number])

    def _update(self, members: Sequence[Member]) -> None:
        """Make an update of each of these, of those that are alike as one."""
        for kind, joint in self._joint.items():
            alike = [member for member in members if self._alike[member] == kind and member.code is None]
            works = {member: self._works[member] for member in alike}
            if works:
                with self._guarded(alike), ExitStack() as timed:
                    for work in works.values():
                        timed.enter_context(work.watch.section("update"))
                    joint([work.parts.agent for work in works.values()])
                self._each(alike, lambda member: self._works[member].check_update())

    def _finish(self, member: Member) -> None:
        member.loop.finish()
        member.say(left_behind(member.job))
        member.end(0)
        self._tell(member)

    # Ends

    def _each(self, members: Iterable[Member], action: Callable[[Member], None]) -> None:
        """Do something with each of those that have not ended; an error ends that one, a signal does after saving."""
        for member in members:
            if member.code is None:
                with self._guarded([member]), member.saving():
                    action(member)

    @contextmanager
    def _guarded(self, members: Sequence[Member]) -> Iterator[None]:
        """Let an error end these members and no other."""
        try:
            yield
        except Exception as error:
            for member in members:
                self._end(member, error)

    def _end(self, member: Member, error: Exception) -> None:
        member.failed(error)
        self._tell(member)


def ring_bytes(ring: Rows) -> int:
    """Return the memory that a replay's columns take once they are full."""
    return sum(column.nbytes for column in ring.columns.values())
