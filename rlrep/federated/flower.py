"""Flower behind the seam of engines: its simulation runs in a thread, and its ServerApp does the rounds asked for."""

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from queue import Empty, Queue
from threading import Thread
from types import TracebackType
from typing import Any

from rlrep.settings import UserError, one_line, plain, ranges
from rlrep.ssl.data import ImageData

from .average import Weights
from .engine import Engine
from .party import Lost, Reply, Setup

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Flower:
    """Flower's simulation: every party a ClientApp, in processes of their own. cpus, gpus: of each."""

    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("cpus",))
        ranges.at_least(self, 0, ("gpus",))

    def make(self, setup: Setup, data: ImageData) -> Engine:
        """Build the engine. Raises UserError where Flower is not installed."""
        if find_spec("flwr") is None or find_spec("ray") is None:
            raise UserError("engine=flower needs Flower: pip install 'rlrep[federated]', or choose engine=in_process")
        return _Flower(self, setup, data)


class _Flower(Engine):
    """The parties' processes live from the first round to the end. What a party keeps is sent to it only where its
    context does not have it: at a resumed run's first round."""

    def __init__(self, config: Flower, setup: Setup, data: ImageData) -> None:
        self._config, self._setup = config, setup
        self._order = {"setup": json.dumps(plain(setup)), "device": data.images.device.type}
        self._asked: Queue[list[Any] | None] = Queue()
        self._found: Queue[tuple[int, Any] | BaseException] = Queue()
        self._sent: dict[int, Weights] = {}
        self._thread: Thread | None = None

    def round(
        self, number: int, received: Sequence[Weights], kept: Sequence[Weights], between: Callable[[int], None]
    ) -> list[Reply | Lost]:
        if self._thread is None:
            self._thread = Thread(target=self._simulate, daemon=True)
            self._thread.start()
        self._asked.put([self._content(number, party, received[party], kept[party]) for party in range(len(kept))])
        found: dict[int, Reply | Lost] = {}
        while len(found) < len(kept):
            between(len(found))
            try:
                each = self._found.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if isinstance(each, BaseException):
                raise UserError(f"Flower's simulation ended: {type(each).__name__}: {one_line(each)}") from each
            found[each[0]] = self._read(*each)
        return [found[party] for party in range(len(kept))]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join(timeout=30)

    def _content(self, number: int, party: int, weights: Weights, kept: Weights) -> Any:
        from flwr.app import ConfigRecord, RecordDict

        from .flower_client import arrays

        content = RecordDict({"order": ConfigRecord({**self._order, "party": party, "number": number})})
        content["weights"] = arrays(weights)
        if kept and self._sent.get(party) is not kept:
            content["kept"] = arrays(kept)
        return content

    def _read(self, party: int, message: Any) -> Reply | Lost:
        from .flower_client import tensors

        if message.has_error():
            return Lost(party, str(message.error.reason))
        said = message.content
        if "lost" in said:
            return Lost(party, str(said["lost"]["reason"]))
        reply = Reply(
            party, tensors(said["weights"]), tensors(said["kept"]), said["size"]["images"], dict(said["metrics"])
        )
        self._sent[party] = reply.kept
        return reply

    def _simulate(self) -> None:
        """Run Flower's simulation, with what we ask of it in its ServerApp."""
        os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from flwr.serverapp import ServerApp
        from flwr.simulation import run_simulation

        from .flower_client import app

        server = ServerApp()
        server.main()(lambda grid, context: self._serve(grid))
        resources = {"num_cpus": self._config.cpus, "num_gpus": self._config.gpus}
        try:
            run_simulation(server, app, self._setup.parties, backend_config={"client_resources": resources})
        except BaseException as error:
            self._found.put(error)

    def _serve(self, grid: Any) -> None:
        from flwr.app import Message, MessageType

        while len(nodes := sorted(grid.get_node_ids())) < self._setup.parties:
            time.sleep(_POLL_SECONDS)
        while (contents := self._asked.get()) is not None:
            pairs = zip(contents, nodes, strict=True)
            sent = grid.push_messages([Message(content, node, MessageType.TRAIN) for content, node in pairs])
            self._collect(grid, set(sent), nodes)

    def _collect(self, grid: Any, waiting: set[str], nodes: Sequence[int]) -> None:
        while waiting:
            replies: Iterable[Any] = grid.pull_messages(waiting)
            for message in replies:
                waiting.discard(message.metadata.reply_to_message_id)
                self._found.put((nodes.index(message.metadata.src_node_id), message))
            time.sleep(_POLL_SECONDS)
