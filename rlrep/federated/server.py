"""The server of federated learning: rounds, the mean of what comes back, and all that a resumed run needs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rlrep.settings import UserError
from rlrep.ssl import Learner, Method

from .average import Weights, weighted_mean
from .engine import Engine
from .party import Lost, Reply, Setup, load_shared, shared


class Server:
    """Parties in training.

    whole: a learner of all parties' images, whose method holds the model that is looked at, and which never trains.
    average: whether parties share a model, the mean of theirs; without it each trains on alone (SOLO).
    """

    def __init__(self, setup: Setup, whole: Learner, engine: Engine, *, average: bool) -> None:
        self.setup, self._whole, self._engine, self._average = setup, whole, engine, average
        self.rounds = 0
        self._models: list[Weights] = [shared(whole.method)] * (1 if average else setup.parties)
        self._kept: list[Weights] = [{}] * setup.parties
        self._metrics: dict[str, float] = {}
        self.lost: list[Lost] = []

    @property
    def method(self) -> Method:
        """The method with the weights of the model that was shown last."""
        return self._whole.method

    def models(self) -> Iterator[Method]:
        """Show the model of all parties or, where they share none, each party's."""
        for weights in self._models:
            load_shared(self.method, weights)
            yield self.method

    def round(self, between: Callable[[int], None]) -> None:
        """Do a round; what `between` raises leaves the server as it was.

        Raises UserError if every party was lost.
        """
        parties, models = self.setup.parties, self._models
        received = models * parties if self._average else models
        found = self._engine.round(self.rounds, received, self._kept, between)
        replies = [reply for reply in found if isinstance(reply, Reply)]
        self.lost = [each for each in found if isinstance(each, Lost)]
        if not replies:
            raise UserError(f"round {self.rounds + 1}: all parties were lost, the first one by: {self.lost[0].reason}")
        self._take(replies)
        self._metrics = {**_means(replies), "federated/lost": len(self.lost)}
        self.rounds += 1

    def _take(self, replies: Sequence[Reply]) -> None:
        """Make the models of the next round."""
        kept = {reply.party: reply.kept for reply in replies}
        self._kept = [kept.get(party, held) for party, held in enumerate(self._kept)]
        if self._average:
            self._models = [weighted_mean([reply.weights for reply in replies], [reply.images for reply in replies])]
        else:
            trained = {reply.party: reply.weights for reply in replies}
            self._models = [trained.get(party, model) for party, model in enumerate(self._models)]

    def metrics(self) -> dict[str, float]:
        """Return the last round's metrics: means over parties by their images, and how many parties were lost."""
        return self._metrics

    def state(self) -> dict[str, Any]:
        """Return everything `load_state` needs."""
        return {"rounds": self.rounds, "models": list(self._models), "kept": list(self._kept)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue a saved run. Raises ValueError if it had other parties."""
        if len(state["models"]) != len(self._models) or len(state["kept"]) != len(self._kept):
            raise ValueError(f"it is of {len(state['kept'])} parties, this run has {len(self._kept)}")
        device = self._whole.device
        self.rounds = state["rounds"]
        self._models = [{name: value.to(device) for name, value in model.items()} for model in state["models"]]
        self._kept = state["kept"]


def _means(replies: Sequence[Reply]) -> dict[str, float]:
    """Return the mean of each metric over the parties that have it, weighted by their images."""
    found = {}
    for name in dict.fromkeys(name for reply in replies for name in reply.metrics):
        having = [(reply.metrics[name], reply.images) for reply in replies if name in reply.metrics]
        found[name] = sum(value * images for value, images in having) / sum(images for _, images in having)
    return found
