"""Federated learning: one round after another, with probes of the model, or of each party's, now and then."""

from dataclasses import replace
from itertools import islice
from statistics import fmean

from rlrep.config.pretrain_config import PretrainSettings
from rlrep.contract.env import Tree
from rlrep.federated import Server

from ..evaluation import Evaluation
from ..loop import Outlets
from ..pretraining.work import COLUMNS as PRETRAINING
from ..pretraining.work import FIRST, Parts, Pretraining, shown

COLUMNS = ("rounds", *PRETRAINING[1:4], "party", *PRETRAINING[4:])


class Rounds(Pretraining):
    """A run of parties. `learner` never trains: its method shows what the server has."""

    def __init__(self, parts: Parts, server: Server, train: PretrainSettings, outlets: Outlets) -> None:
        super().__init__(parts, train, outlets, total=server.setup.rounds)
        self.server = server

    @property
    def updates(self) -> int:
        return self.server.rounds

    @property
    def where(self) -> str:
        return f"round {self.server.rounds}"

    def step(self) -> bool:
        """One round. A stop in the middle of it leaves it undone."""
        with self.watch.section("update"):
            self.server.round(self._between)
        for lost in self.server.lost:
            line = f"party {lost.party} was lost, its round does not count ({lost.reason})"
            self.outlets.reporter.say(f"warning: {self.where}: {line}")
        self.counters.agent_steps = self.server.rounds
        return False

    def _between(self, done: int) -> None:
        self.outlets.check_stop(self.updates)
        self.outlets.reporter.update(self.progress, self.updates, f"{done} of {self.server.setup.parties} parties")

    def position(self) -> dict[str, float]:
        """Return what every row begins with. images: that all parties have drawn."""
        epoch = self.server.rounds * self.server.setup.epochs
        return {
            "rounds": self.server.rounds,
            "epoch": epoch,
            "images": epoch * len(self.learner.data),
            "wall_seconds": round(self.counters.elapsed_seconds(), 3),
        }

    def metrics(self) -> dict[str, float]:
        images = self.server.setup.epochs * len(self.learner.data)
        return {**self.server.metrics(), **self.watch.report({"rounds": 1, "images": images})}

    def evaluate(self, number: int) -> Evaluation:
        """Probe the model that parties share or, where they share none, each one's; before training they are one."""
        models = islice(self.server.models(), 1 if number == FIRST else None)
        found = [super(Rounds, self).evaluate(number) for _ in models]
        if len(found) == 1:
            return replace(found[0], rows=[{**row, "party": None} for row in found[0].rows])
        rows = [{**row, "party": party} for party, each in enumerate(found) for row in each.rows]
        means = {name: fmean(each.health[name] for each in found) for name in found[0].health}
        self._note = shown({name: value for name, value in means.items() if name.startswith("probe/encoder/")})
        return Evaluation(rows, {}, len(rows), means, f"mean of {len(found)} parties: {self._note}")

    def save_beside(self) -> None:
        """Write the encoder file, where parties share none the first one's. Raises OSError."""
        next(self.server.models())
        super().save_beside()

    def shape(self) -> Tree:
        return {"server": self.server.state()}

    def load_state(self, state: Tree) -> None:
        self.server.load_state(state["server"])
