"""Send a run's metrics to Trackio (`pip install trackio`, in an environment of its own: it wants an older pillow).

python -m rlrep.train env=dmc_cartpole --config-dir examples/callbacks train.callbacks=[trackio_sink.Trackio]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trackio

import rlrep


class Trackio(rlrep.Callback):
    """Sends every row of metrics.jsonl, and what evaluations come to. A resumed run goes on in the same chart."""

    project = "rlrep"

    def on_start(self, folder: Path, learner: Any) -> None:
        config = rlrep.load(folder).config
        self.run = trackio.init(project=self.project, name=str(folder), config=config, resume="allow")

    def on_log(self, row: Any) -> str | None:
        step = row["env_steps"] if "env_steps" in row else row["updates"]
        self.run.log({key: value for key, value in row.items() if value is not None}, step=int(step))
        return None

    def on_evaluation(self, rows: Sequence[Any], summary: Any) -> str | None:
        return self.on_log(summary)

    def on_end(self) -> None:
        self.run.finish()
