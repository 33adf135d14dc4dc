"""Rounds of parties: what they are equal to, what a party keeps, what a lost one costs, what a resumed server needs."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from rlrep.federated import Reply, Server, weighted_mean
from rlrep.federated import party as party_module
from rlrep.federated.local import LocalMethod
from rlrep.federated.party import Setup, load_shared, shared, train_party
from rlrep.settings import UserError
from rlrep.ssl import ImageBatch
from rlrep.ssl.data import ImageData
from tests.runs import differences
from tests.ssl.ssl_rig import learner

from .federated_rig import PARTIES, after, configured, serve


def models(server: Server) -> list[Mapping[str, Tensor]]:
    found: list[Mapping[str, Tensor]] = server.state()["models"]
    return found


@pytest.mark.parametrize("other", ["method=simclr", "method=fedprox method.base=simclr method.mu=0"])
def test_moon_without_its_contrast_is_fedavg_bit_for_bit(other: str) -> None:
    base = "method.base=simclr"
    moon, plain = after(serve("method=moon", base, "method.mu=0"), 2), after(serve(*other.split()), 2)
    assert differences(models(moon), models(plain)) == []
    assert {"train/cosine_global", "train/cosine_previous"} <= moon.metrics().keys()
    for method in ("method=moon", "method=fedprox"):
        assert differences(models(moon), models(after(serve(method, base, "method.mu=1"), 2))) != []


def test_a_party_of_few_classes_has_the_head_of_all() -> None:
    server = after(serve("method=moon", "partition=by_label", "parties=5", "partition.classes=2"), 2)
    assert models(server)[0]["head.weight"].shape[0] == 10
    assert {"train/accuracy", "train/cosine_global", "train/cosine_previous"} <= server.metrics().keys()


@pytest.mark.parametrize("method", ["simclr", "moco_v2"])
def test_one_party_and_one_round_are_plain_pretraining(method: str) -> None:
    one = ("parties=1", "rounds=1", "local_epochs=2", "partition=iid", "method.splits=4")
    server = after(serve(f"method={method}", *one[: 5 if method == "moco_v2" else 4]), 1)
    words = [word for word in PARTIES if word.split("=")[0] not in ("parties", "rounds", "local_epochs")]
    config = configured(f"method={method}", *one[:4])
    optimiser = [f"optimiser.{name}={getattr(config.optimiser, name)}" for name in ("lr", "warmup", "schedule")]
    alone = learner(method, *words, *optimiser, "train.epochs=2", *one[4 : 5 if method == "moco_v2" else 4])
    for _ in range(alone.length.updates):
        alone.update()
    assert differences(dict(models(server)[0]), shared(alone.method)) == []


def test_the_model_is_the_mean_of_the_parties_by_their_images() -> None:
    server = serve("method=simclr", "partition.beta=0.3")
    received, replies = models(server)[0], []
    setup, data = server.setup, server._whole.data
    for party, rows in enumerate(setup.deal(data)):
        replies.append(train_party(setup, data.rows(rows), party, 0, received, {}))
    assert len({reply.images for reply in replies}) > 1
    mean = weighted_mean([reply.weights for reply in replies], [reply.images for reply in replies])
    after(server, 1)
    assert differences(dict(models(server)[0]), mean) == []
    losses = sum(reply.metrics["train/loss"] * reply.images for reply in replies) / sum(r.images for r in replies)
    assert server.metrics()["train/loss"] == pytest.approx(losses) and server.metrics()["federated/lost"] == 0


def test_parties_that_share_no_model_train_on_alone() -> None:
    server = after(serve("method=simclr", "average=false"), 2)
    trained = models(server)
    assert len(trained) == 3 and differences(trained[0], trained[1]) != []
    kept: Mapping[str, Tensor] = {}
    setup, data = server.setup, server._whole.data
    weights, rows = models(serve("method=simclr"))[0], data.rows(setup.deal(data)[1])
    for number in range(2):
        reply = train_party(setup, rows, 1, number, weights, kept)
        weights, kept = reply.weights, reply.kept
    assert differences(dict(trained[1]), dict(weights)) == []


@pytest.mark.parametrize(
    "words",
    [
        ("method=moon", "method.memory=2"),
        ("method=moon", "method.base=moco_v2", "method.base.splits=1"),
        ("method=suncet", "method.labelled.classes=3", "method.labelled.fraction=0.5"),
        ("method=fedprox", "average=false"),
    ],
    ids=lambda words: words[0] + words[-1],
)
def test_a_resumed_server_goes_on_bit_for_bit(words: tuple[str, ...]) -> None:
    words = (*words, "rounds=4", "partition=iid")
    whole, half = after(serve(*words), 4), after(serve(*words), 2)
    resumed = serve(*words)
    resumed.load_state(half.state())
    assert differences(after(resumed, 2).state(), whole.state()) == []


def test_a_state_of_other_parties_is_refused() -> None:
    with pytest.raises(ValueError, match="it is of 3 parties, this run has 2"):
        serve("method=simclr", "parties=2").load_state(serve("method=simclr").state())


def test_queues_stay_with_their_party_and_the_last_models_too() -> None:
    server = after(serve("method=moon", "method.base=simclr", "method.base=moco_v2", "method.base.splits=1"), 1)
    held = server.state()["kept"]
    assert not any(name.startswith("queue.") for name in models(server)[0])
    assert {"private.queue.bank", "sampler.order", "sampler.generator"} <= held[0].keys()
    assert not torch.equal(held[0]["private.queue.bank"], held[1]["private.queue.bank"])
    assert {name.split(".")[1] for name in held[0] if name.startswith("previous.")} == {"0"}


def die(monkeypatch: pytest.MonkeyPatch, party: int, number: int, error: Exception) -> None:
    """Let a party raise in a round."""
    whole = party_module.train_party

    def dying(setup: Setup, data: ImageData, at: int, now: int, *rest: Any) -> Reply:
        if now == number and party in (at, -1):
            raise error
        reply: Reply = whole(setup, data, at, now, *rest)
        return reply

    monkeypatch.setattr(party_module, "train_party", dying)


def test_a_party_that_dies_costs_its_round_only(monkeypatch: pytest.MonkeyPatch) -> None:
    server = after(serve("method=moon", "method.base=simclr", "rounds=3"), 1)
    before = server.state()
    with monkeypatch.context() as patch:
        die(patch, 1, 1, MemoryError("no room"))
        after(server, 1)
    assert [(lost.party, lost.reason) for lost in server.lost] == [(1, "MemoryError: no room")]
    assert server.metrics()["federated/lost"] == 1
    now = server.state()
    assert now["kept"][1] is before["kept"][1] and now["kept"][0] is not before["kept"][0]
    data = server._whole.data
    others = [
        train_party(server.setup, data.rows(rows), party, 1, before["models"][0], before["kept"][party])
        for party, rows in enumerate(server.setup.deal(data))
        if party != 1
    ]
    mean = weighted_mean([reply.weights for reply in others], [reply.images for reply in others])
    assert differences(dict(now["models"][0]), mean) == []
    assert after(server, 1).lost == []


def test_a_round_without_any_party_ends_the_run_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve("method=simclr")
    before = server.state()
    die(monkeypatch, -1, 0, RuntimeError("gone"))
    with pytest.raises(UserError, match="round 1: all parties were lost, the first one by: RuntimeError: gone"):
        after(server, 1)
    assert differences(server.state(), before) == []


def test_a_loss_that_is_not_finite_enters_no_mean() -> None:
    with pytest.raises(UserError, match=r"not finite: try a lower optimiser\.lr"):
        after(serve("method=autoencoder", "optimiser.name=sgd", "optimiser.lr=1e30"), 1)


def test_what_a_stop_interrupts_has_not_begun() -> None:
    server = after(serve("method=moon", "method.base=simclr"), 1)
    before = server.state()

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.round(stop)
    assert differences(server.state(), before) == [] and server.rounds == 1


def test_moon_looks_at_frozen_copies_and_changes_no_statistics() -> None:
    server = after(serve("method=moon", "method.base=simclr"), 1)
    method, data = server.setup.learner(server._whole.data, 0).method, server._whole.data.images[:8]
    load_shared(method, models(server)[0])
    assert isinstance(method, LocalMethod)
    moved = {n: v * 1.1 if v.is_floating_point() else v for n, v in method.online.state_dict().items()}
    method.begin([moved])
    method.train()
    counts = {name: int(value) for name, value in method.named_buffers() if name.endswith("num_batches_tracked")}
    assert len(counts) > 2
    loss, metrics = method.loss(ImageBatch((data, data.flip(3))))
    torch.autograd.grad(loss, [p for p in method.parameters() if p.requires_grad], allow_unused=True)
    for name, value in method.named_buffers():
        if name in counts:
            own = name.startswith(("online", "base"))
            assert int(value) == counts[name] + own, name
    copies = [p for name, p in method.named_parameters() if name.startswith(("received", "previous"))]
    assert copies and not any(weight.requires_grad for weight in copies)
    assert float(metrics["model_contrast"]) > 0 and -1 <= float(metrics["cosine_previous"]) <= 1


def test_a_previous_model_that_is_the_global_one_pulls_nowhere() -> None:
    server = serve("method=moon", "method.base=simclr", "method.mu=1000")
    method = server.setup.learner(server._whole.data, 0).method
    data = server._whole.data.images[:16]
    assert isinstance(method, LocalMethod)
    batch = ImageBatch((data, data.flip(3)))
    weights = [p for p in method.parameters() if p.requires_grad]

    def gradient() -> list[Tensor]:
        found = torch.autograd.grad(method.loss(batch)[0], weights, allow_unused=True)
        return [torch.zeros(()) if g is None else g for g in found]

    plain = gradient()
    method.begin([dict(method.online.state_dict())])
    for before, now in zip(plain, gradient(), strict=True):
        torch.testing.assert_close(now, before, rtol=1e-3, atol=1e-4)
