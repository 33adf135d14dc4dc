"""Samplers: whole epochs, class balance, exact continuation through a checkpoint's tree."""

import json

import pytest
import torch
from torch import Tensor

from rlrep.record.tree import join, split
from rlrep.ssl.data.labels import labelled_subset
from rlrep.ssl.sampling import ClassBalancedSampler, EpochSampler

CPU = torch.device("cpu")


def epochs(seed: int = 0) -> EpochSampler:
    return EpochSampler(10, 3, seed=seed, device=CPU)


def balanced(labels: Tensor, seed: int = 0) -> ClassBalancedSampler:
    return ClassBalancedSampler(labels, classes=3, per_class=4, seed=seed)


def test_an_epoch_shows_every_image_at_most_once_in_changing_order() -> None:
    sampler, passes = epochs(), []
    assert sampler.batches_per_epoch == 3
    for epoch in range(200):
        rows = torch.cat([sampler.next() for _ in range(3)]).tolist()
        assert sampler.epoch == epoch and len(set(rows)) == 9
        passes.append(tuple(rows))
    assert len(set(passes)) > 190
    left_out = {(set(range(10)) - set(rows)).pop() for rows in passes}
    assert left_out == set(range(10)), "every image gets its turn"


def through_a_checkpoint(state: object) -> object:
    """What a checkpoint's JSON and tensors make of it."""
    data, tensors = split(state)
    return join(json.loads(json.dumps(data)), {name: tensor.clone() for name, tensor in tensors.items()})


def test_samplers_continue_exactly() -> None:
    labels = torch.arange(40) % 5
    for make in (lambda seed: epochs(seed), lambda seed: balanced(labels, seed)):
        whole, first, second = make(1), make(1), make(2)
        expected = [whole.next() for _ in range(9)]
        found = [first.next() for _ in range(4)]
        second.load_state(through_a_checkpoint(first.state()))  # type: ignore[arg-type]
        found += [second.next() for _ in range(5)]
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        assert not torch.equal(make(3).next(), expected[0])


def test_class_balanced_batches() -> None:
    labels = torch.tensor([7] * 4 + [2] * 30 + [5] * 9 + [0] * 6)[torch.randperm(49)]
    sampler, used, classes = balanced(labels), set(), set()
    for _ in range(300):
        rows = sampler.next()
        assert rows.unique().numel() == 12, "no image twice"
        grouped = labels[rows].view(3, 4)
        assert (grouped == grouped[:, :1]).all() and grouped[:, 0].unique().numel() == 3
        used.update(rows.tolist())
        classes.add(tuple(sorted(grouped[:, 0].tolist())))
    assert used == set(range(49)) and len(classes) == 4, "every image and every triple of classes comes up"


def test_labelled_subsets_are_stratified_and_seeded() -> None:
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 3)
    tenth = labelled_subset(labels, seed=0, fraction=0.1)
    assert labels[tenth].bincount().tolist() == [10, 5, 1]
    assert labels[labelled_subset(labels, seed=0, per_class=3)].bincount().tolist() == [3, 3, 3]
    assert torch.equal(tenth, labelled_subset(labels, seed=0, fraction=0.1)) and torch.equal(tenth, tenth.sort().values)
    assert not torch.equal(tenth, labelled_subset(labels, seed=1, fraction=0.1))


def test_what_does_not_fit_is_named() -> None:
    labels = torch.arange(40) % 5
    with pytest.raises(ValueError, match="batch_size=11 does not fit 10 images"):
        EpochSampler(10, 11, seed=0, device=CPU)
    with pytest.raises(ValueError, match="classes=6 does not fit 5"):
        ClassBalancedSampler(labels, classes=6, per_class=1, seed=0)
    with pytest.raises(ValueError, match="per_class=9 does not fit a class of 8"):
        ClassBalancedSampler(labels, classes=2, per_class=9, seed=0)
    with pytest.raises(ValueError, match="per_class=9 does not fit class 0"):
        labelled_subset(labels, seed=0, per_class=9)
    for fraction, per_class in ((None, None), (0.1, 2), (1.5, None)):
        with pytest.raises(ValueError, match="fraction"):
            labelled_subset(labels, seed=0, fraction=fraction, per_class=per_class)
    with pytest.raises(ValueError, match="had 10 images, there are 12"):
        EpochSampler(12, 3, seed=0, device=CPU).load_state(epochs().state())
