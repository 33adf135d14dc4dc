"""Federated learning of an image method: what is built and said."""

from rlrep.config.federate_config import FederateConfig
from rlrep.federated import Server
from rlrep.settings import UserError, one_line
from rlrep.ssl.data.image_data import class_count

from ..loop import Outlets
from ..pretraining.job import Pretrain
from ..session import Site
from .work import COLUMNS, Rounds


class Federate(Pretrain):
    """A run of parties and a server. Its learner is of all images, and shows the server's model."""

    counted = shown = "rounds"
    columns = COLUMNS

    def __init__(self, config: FederateConfig) -> None:
        super().__init__(config)
        self._parties = config

    def prepare(self, site: Site) -> None:
        """Read the data, deal it, and build what trains on it; every party is tried, so that none fails later."""
        super().prepare(site)
        config, train = self._parties, self._split.train
        setup = config.setup(class_count(train, config.train.label))
        try:
            self._dealt = setup.deal(train)
            for party, rows in enumerate(self._dealt):
                setup.learner(train.rows(rows), party)
            engine = site.stack.enter_context(config.engine.make(setup, train))
            self._server = Server(setup, self._learner, engine, average=config.average)
        except ValueError as error:
            raise UserError(one_line(error)) from error

    def scale(self) -> tuple[int, int]:
        return self._parties.rounds, 1

    def headline(self) -> list[str]:
        *lines, _ = super().headline()
        config, sizes = self._parties, [len(rows) for rows in self._dealt]
        dealt = f"{config.parties} parties of {min(sizes)} to {max(sizes)} images ({config.choices['partition']})"
        length = f"{config.rounds} rounds of {config.local_epochs} epochs"
        return [*lines, f"{dealt}, {'which share a model' if config.average else 'each alone'}; {length}"]

    def work(self, outlets: Outlets) -> Rounds:
        return Rounds(self.parts(outlets), self._server, self._parties.train, outlets)
