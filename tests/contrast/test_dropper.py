"""The adversary that drops frames, and the queue that fades, against loops and closed forms."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from rlrep.contrast import MemoryQueue
from rlrep.contrast.parts import Among, Dropped, Dropper, Estimator, FrameDropper, HardMixing, InfoNCE, KeyQueue, Queue

SHAPE = (8, 6, 6)


def dropper(drop: int = 2, estimator: Estimator = "score_function", frames: int = 4) -> FrameDropper:
    torch.manual_seed(0)
    made = Dropper(frames, drop, estimator).make(SHAPE[0])
    torch.nn.init.normal_(made.score.weight, std=0.3)
    return made


def clips(count: int = 5) -> Tensor:
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("estimator", ["score_function", "straight_through", "random"])
def test_just_so_many_frames_become_their_own_mean(estimator: Estimator) -> None:
    whole = clips()
    drop: Dropped = dropper(2, estimator)(whole, torch.rand(5, 4))
    before, after = (clip.float().unflatten(1, (4, 2)) for clip in (whole, drop.clip))
    assert drop.mask.sum(1).tolist() == [2] * 5 and not drop.clip.requires_grad
    for row in range(5):
        for frame in range(4):
            if drop.mask[row, frame]:
                torch.testing.assert_close(after[row, frame], before[row, frame].mean().expand(2, 6, 6))
            else:
                assert torch.equal(after[row, frame], before[row, frame])
    if estimator == "straight_through":
        assert torch.equal(drop.mask, drop.scores <= drop.scores.sort(1).values[:, 1:2])


def test_the_probability_of_a_drop_is_plackett_luces() -> None:
    """A loop over the frames as they go; and over all orders it sums to 1, which is also how often each is drawn."""
    made = dropper()
    drop: Dropped = made(clips(), torch.rand(5, 4))
    order, _ = made._draw(drop.scores, torch.full((5, 4), 0.5))  # equal noise: by the scores alone
    _, found = made._draw(drop.scores, torch.full((5, 4), 0.5))
    for row in range(5):
        weights = (-drop.scores[row].detach()).exp()
        left, expected = float(weights.sum()), 0.0
        for frame in order[row, :2].tolist():
            expected += math.log(float(weights[frame]) / left)
            left -= float(weights[frame])
        assert float(found[row].detach()) == pytest.approx(expected, rel=1e-4)
    scores = torch.tensor([0.0, 1.0, -1.0, 0.5])
    drawn, _ = made._draw(scores.expand(20_000, 4), torch.rand(20_000, 4))
    weights = (-scores).exp()
    for pair in permutations(range(4), 2):
        share = weights[pair[0]] / weights.sum() * weights[pair[1]] / (weights.sum() - weights[pair[0]])
        counted = (drawn[:, :2] == torch.tensor(pair)).all(1).float().mean()
        assert float(counted) == pytest.approx(float(share), abs=0.015)


def test_the_adversary_alone_learns_and_by_its_rule() -> None:
    made, whole = dropper(), clips().float().requires_grad_()
    drop: Dropped = made(whole, torch.rand(5, 4))
    change = torch.tensor([1.0, 2.0, 4.0, 8.0, 3.0], requires_grad=True)
    standard = (change - change.mean()) / change.std(correction=0)
    loss = made.loss(drop, change)
    torch.testing.assert_close(loss, -(standard.detach() * drop.log_probability).mean())
    assert all(g is None for g in torch.autograd.grad(loss, [whole, change], allow_unused=True, retain_graph=True)[1:])
    (by_scores,) = torch.autograd.grad(made.straight_loss(drop, torch.ones(5, *SHAPE)), drop.scores)
    torch.testing.assert_close(by_scores, torch.zeros(5, 4), atol=1e-4, rtol=0)  # a softmax moves by differences alone
    pixels = torch.zeros(5, *SHAPE)
    pixels[:, 2:4] = 0.5  # of the second frame
    (by_scores,) = torch.autograd.grad(made.straight_loss(drop, pixels), drop.scores)
    share = drop.scores.softmax(1)
    torch.testing.assert_close(by_scores[:, 1], -0.5 * 72 * share[:, 1] * (1 - share[:, 1]))
    assert float(dropper(2, "random").loss(drop, change).detach()) == 0.0


def test_reinforce_finds_the_frames_that_matter() -> None:
    """Only the last frame counts; the adversary comes to drop it mostly, from one clip in four."""
    made = dropper(1)
    adam = torch.optim.Adam(made.parameters(), 1e-2)
    whole = clips(32)
    for _ in range(40):
        drop: Dropped = made(whole, torch.rand(32, 4))
        adam.zero_grad()
        made.loss(drop, drop.mask[:, 3].float()).backward()
        adam.step()
    assert float(made(whole, torch.rand(32, 4)).mask[:, 3].float().mean()) > 0.5


def test_a_queue_that_fades_is_read_as_the_paper_says() -> None:
    torch.manual_seed(2)
    settings, memory = Queue(7, decay=0.9), MemoryQueue(7, 3)
    staged = KeyQueue(settings, 3)
    for _ in range(3):  # the first keys have gone
        keys = torch.randn(3, 3)
        memory.push(keys)
        staged.memory.push(keys)
    query, key = torch.randn(4, 3), torch.randn(4, 3)
    cosine = torch.cosine_similarity(query[:, None], memory.keys()[None], dim=2)
    logits = cosine * 0.9 ** memory.ages()
    positive = torch.cosine_similarity(query, key, dim=1)
    expected = (torch.cat([positive[:, None], logits], 1) / 0.2).logsumexp(1) - positive / 0.2
    negatives = settings.negatives(memory, query, 1.0)
    loss = InfoNCE(0.2)([query, key], Among(negatives=negatives, faded=True))
    torch.testing.assert_close(loss, expected.mean())
    stored, valid = staged.negatives(query, None, None)
    torch.testing.assert_close(InfoNCE(0.2)([query, key], Among(negatives=stored, valid=valid, faded=True)), loss)
    assert memory.ages().tolist() == [3, 2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropper(4, 4), "leaves nothing"),
        (lambda: Dropper(4, -1), "leaves nothing"),
        (lambda: Dropper(3).make(8), "no 3 frames"),
        (lambda: Dropper(after=1.5), "after"),
        (lambda: Dropper(bound=0.0), "bound"),
        (lambda: Queue(decay=0.0), r"\(0, 1\]"),
        (lambda: Queue(decay=0.9, mixing=HardMixing()), "mixing=null"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
