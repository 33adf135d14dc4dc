"""A party as a Flower ClientApp: its last model and samplers stay in its context; weights travel as ArrayRecords."""

import json
from functools import lru_cache

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from rlrep.settings import coerce
from rlrep.ssl.data import ImageData

from .average import Weights
from .party import Lost, Setup, try_party

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator, unused-ignore]
def train(message: Message, context: Context) -> Message:
    """Do the round that the message asks for."""
    order, given = message.content.config_records["order"], message.content.array_records
    setup, data, dealt = _whole(str(order["setup"]), str(order["device"]))
    party = int(str(order["party"]))
    held = given.get("kept") or context.state.array_records.get("kept")
    kept = {} if held is None else tensors(held)
    mine = data.rows(dealt[party])
    found = try_party(setup, mine, party, int(str(order["number"])), tensors(given["weights"]), kept)
    if isinstance(found, Lost):
        return Message(RecordDict({"lost": ConfigRecord({"reason": found.reason})}), reply_to=message)
    context.state["kept"] = arrays(found.kept)
    said: dict[str, ArrayRecord | MetricRecord] = {"weights": arrays(found.weights), "kept": arrays(found.kept)}
    said["metrics"] = MetricRecord(dict(found.metrics))
    said["size"] = MetricRecord({"images": found.images})
    return Message(RecordDict(dict(said)), reply_to=message)


def arrays(weights: Weights) -> ArrayRecord:
    """Return tensors as Flower sends them."""
    return ArrayRecord({name: value.detach().cpu() for name, value in weights.items()})


def tensors(record: ArrayRecord) -> dict[str, Tensor]:
    """Return what was sent."""
    return dict(record.to_torch_state_dict())


@lru_cache(maxsize=1)
def _whole(setup: str, device: str) -> tuple[Setup, ImageData, list[Tensor]]:
    """Read the data once in each process."""
    known: Setup = coerce(json.loads(setup), Setup, "setup")
    data = known.data.make(torch.device(device)).train
    return known, data, known.deal(data)
