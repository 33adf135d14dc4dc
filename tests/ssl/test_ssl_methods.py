"""Methods against the same thing written out: what is composed, what gets gradient, what moves when."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlrep.contrast import DirectPredictor, MemoryQueue, MomentumTarget, cacr, info_nce, nt_xent, suncet
from rlrep.contrast.parts import (
    HardMixing,
    InfoNCE,
    LearnedPredictor,
    Momentum,
    NTXent,
    Projection,
    Queue,
    Regression,
    SetPredictor,
    SquaredDistance,
    Suncet,
    SupCon,
    Transport,
    Whitening,
    spread,
)
from rlrep.nn import Encoder, PixelEncoderConfig
from rlrep.settings import UserError
from rlrep.ssl import (
    AdversarialContrast,
    Autoencoder,
    DataShape,
    ImageBatch,
    JointEmbedding,
    LabelledContrast,
    LabelledSubset,
    TargetEmbedding,
)
from rlrep.ssl.adversarial import AdversarialContrastMethod
from rlrep.ssl.labelled import LabelledContrastMethod
from rlrep.ssl.target import TargetEmbeddingMethod

from .ssl_rig import (
    ABOUT,
    METHODS,
    SAME,
    SHAPE,
    conv_encoder,
    equal,
    gradients,
    images,
    learner,
    resnet,
    statistics,
    views,
)

HEAD = Projection(hidden_dim=8, out_dim=5)
MOCO = TargetEmbedding(SAME, HEAD, InfoNCE(0.2), target=Momentum(0.1), queue=Queue(20), directions="one")
BYOL = TargetEmbedding(SAME, HEAD, Regression(), target=Momentum(0.1), predictor=LearnedPredictor(7))


def target_method(config: TargetEmbedding) -> TargetEmbeddingMethod:
    method = config.make(conv_encoder(), ABOUT)
    assert isinstance(method, TargetEmbeddingMethod)
    return method


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_and_reaches_the_encoder(name: str) -> None:
    run = learner(name)
    before = [parameter.clone() for parameter in run.method.encoder.parameters()]
    frozen = {
        id(p) for module in run.method.modules() if isinstance(module, MomentumTarget) for p in module.parameters()
    }
    assert frozen.isdisjoint(id(parameter) for parameter in run._parameters)
    for _ in range(3):
        run.update()
        assert run.nonfinite() == []
    first_layer, *_ = zip(before, run.method.encoder.parameters(), strict=True)
    assert not torch.equal(*first_layer)
    assert all(not torch.equal(a, b) for a, b in zip(before, run.method.encoder.parameters(), strict=True))
    assert all(math.isfinite(value) for value in run.metrics().values())


def test_joint_views_share_batch_norm_and_single_ones_do_not() -> None:
    batch, losses = views(), []
    for forward in ("together", "apart"):
        method = replace(JointEmbedding(SAME, HEAD, NTXent()), forward=forward).make(conv_encoder(), ABOUT)
        tracked = [module for module in method.modules() if isinstance(module, nn.BatchNorm1d)]
        losses.append(method.loss(batch)[0])
        assert [int(norm.num_batches_tracked or 0) for norm in tracked] == [1 if forward == "together" else 2]
    method = JointEmbedding(SAME, HEAD, NTXent(), forward="together").make(conv_encoder(), ABOUT)
    z = method.embed(torch.cat(batch.views)).chunk(2)
    torch.testing.assert_close(method.loss(batch)[0], nt_xent(z[0], z[1], temperature=0.5))


def test_every_view_is_whitened_on_its_own() -> None:
    config = JointEmbedding(SAME, HEAD, SquaredDistance(), whitening=Whitening(groups=1, shuffle=False))
    method = config.make(conv_encoder(), ABOUT)
    batch = views(16)
    white = []
    for view in batch.views:
        z = method.embed(view).double()
        z = z - z.mean(0)
        values, vectors = torch.linalg.eigh(z.T @ z / len(z))
        white.append(z @ vectors @ torch.diag(values.clamp_min(1e-5).rsqrt()) @ vectors.T)
    expected = (white[0] - white[1]).square().sum(1).mean()
    torch.testing.assert_close(method.loss(batch)[0].double(), expected, rtol=1e-3, atol=1e-3)
    same = ImageBatch((batch.views[0], batch.views[0]))
    assert float(method.loss(same)[0].detach()) == pytest.approx(0.0, abs=1e-4)


def test_transport_sees_all_views() -> None:
    method = JointEmbedding(SAME * 2 + SAME[:1], HEAD, Transport(), forward="apart").make(conv_encoder(), ABOUT)
    batch = views(number=5)
    expected = cacr(torch.stack([method.embed(view) for view in batch.views]), t_pos=1.0, t_neg=2.0)
    assert method.needs.views == 5
    torch.testing.assert_close(method.loss(batch)[0], expected)


def test_labels_reach_the_objective_that_uses_them() -> None:
    method = JointEmbedding(SAME, HEAD, SupCon()).make(conv_encoder(), ABOUT)
    batch = views()
    assert method.needs.labels
    unique = method.loss(replace(batch, labels=torch.arange(8)))[0]
    torch.testing.assert_close(unique, method.loss(batch)[0])
    assert not torch.allclose(method.loss(replace(batch, labels=torch.arange(8) // 2))[0], unique)


def test_simsiam_stops_the_gradient_of_the_target() -> None:
    method = target_method(replace(BYOL, target=None, objective=Regression(0.25)))
    batch = views()
    z = [method.embed(view) for view in batch.views]
    p = [method.predictor(each) for each in z]
    twin = 1.0 - torch.stack([F.cosine_similarity(p[i], z[1 - i].detach()).mean() for i in (0, 1)]).mean()
    loss = method.loss(batch)[0]
    torch.testing.assert_close(loss, twin)
    torch.testing.assert_close(gradients(loss, method.online), gradients(twin, method.online))
    open_loss = 1.0 - torch.stack([F.cosine_similarity(p[i], z[1 - i]).mean() for i in (0, 1)]).mean()
    twins = gradients(open_loss, method.online)
    assert not torch.allclose(twins[0], gradients(method.loss(batch)[0], method.online)[0])


def test_byol_predicts_the_target_network_in_both_directions() -> None:
    method = target_method(BYOL)
    assert method.target is not None
    with torch.no_grad():
        for parameter in method.target.module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = views()
    keys = [method.target(view) for view in batch.views]
    p = [method.predictor(method.embed(view)) for view in batch.views]
    expected = torch.stack([2 - 2 * F.cosine_similarity(p[i], keys[1 - i]).mean() for i in (0, 1)]).sum()
    loss = method.loss(batch)[0]
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is None for parameter in method.target.parameters())


def test_the_target_moves_after_the_step_only_and_by_the_schedule() -> None:
    method = target_method(replace(BYOL, target=Momentum(0.1, "cosine")))
    assert method.target is not None
    old = [parameter.clone() for parameter in method.target.module.parameters()]
    with torch.no_grad():
        for parameter in method.online.parameters():
            parameter.add_(1.0)
    method.loss(views())
    assert equal(old, method.target.module.parameters())
    method.after_step(0.5)
    moved = [a + 0.05 * (b - a) for a, b in zip(old, method.online.parameters(), strict=True)]
    torch.testing.assert_close(list(method.target.module.parameters()), moved)
    method.after_step(1.0)
    torch.testing.assert_close(list(method.target.module.parameters()), moved)
    assert Momentum(0.1).at(0.7) == Momentum(0.1, "cosine").at(0.0) == 0.1


def test_the_queue_is_read_before_it_is_written() -> None:
    method = target_method(MOCO)
    assert isinstance(method.queue, MemoryQueue) and method.target is not None
    earlier = F.normalize(torch.randn(20, 5), dim=1)
    method.queue.push(earlier)
    batch = views()
    query, key = method.embed(batch.views[0]), method.target(batch.views[1])
    loss = method.loss(batch)[0]
    torch.testing.assert_close(loss, info_nce(query, key, temperature=0.2, negatives=earlier))
    torch.testing.assert_close(method.queue.keys(), earlier)
    method.after_step(0.1)
    torch.testing.assert_close(method.queue.keys(), torch.cat([earlier[8:], F.normalize(key, dim=1)]))


def test_moco_encodes_only_the_first_view_online_and_splits_batch_norm() -> None:
    method = replace(MOCO, splits=4).make(resnet(), ABOUT).train()
    norms = [module for module in method.online.modules() if isinstance(module, _BatchNorm)]
    assert norms and all(getattr(norm, "splits", 1) == 4 for norm in norms)
    method.loss(views())
    assert {int(norm.num_batches_tracked or 0) for norm in norms} == {1}
    assert not method.sync_batch_norm


def test_keys_share_no_part_of_a_split_batch_norm_with_their_queries_and_come_back_in_order() -> None:
    """Images are their number, so that the order in which the networks see them can be read."""
    numbers = torch.arange(64, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    batch, seen = ImageBatch((numbers, numbers)), list[Tensor]()
    for config in (MOCO, replace(MOCO, directions="both"), replace(BYOL, target=None, objective=InfoNCE())):
        method = replace(config, splits=8).make(resnet(), ABOUT).train()
        assert isinstance(method, TargetEmbeddingMethod)
        for network in [method.online, *([method.target.module] if method.target else [])]:
            network.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, 0, 0, 0].long()))
        for _ in range(2):
            method.loss(batch)
        orders = [order for order in seen if not torch.equal(order, torch.arange(64))]
        queries = len(seen) - len(orders)
        assert len(orders) == queries and not torch.equal(orders[0], orders[-1]), "a new order every time"
        for order in orders:
            assert torch.equal(order.sort().values, torch.arange(64))
            part = order.argsort() % 8  # of every image's key; that of its query is its number mod 8
            assert max(int(part[k::8].bincount(minlength=8).max()) for k in range(8)) < 8, (
                "no query's part stays together"
            )
        method.eval()  # now an image's embedding depends on nothing but the image
        keys = method._key(numbers, method._online(numbers, 1))
        network = method.target or method.online
        torch.testing.assert_close(keys, network(numbers).detach())
        seen.clear()


def test_mixed_negatives_come_with_their_share_of_training() -> None:
    mixing = HardMixing(hardest=8, mixed=6, query_mixed=4, after=0.5)
    method = target_method(replace(MOCO, queue=Queue(20, mixing)))
    assert isinstance(method.queue, MemoryQueue) and method.target is not None
    method.queue.push(torch.randn(20, 5))
    batch = views()
    query, key = method.embed(batch.views[0]), method.target(batch.views[1])
    plain = info_nce(query, key, temperature=0.2, negatives=method.queue.keys())
    torch.testing.assert_close(method.loss(batch)[0], plain)
    method.after_step(0.5)
    method.queue = MemoryQueue(20, 5)
    method.queue.push(torch.randn(20, 5))
    plain = info_nce(query, method.target(batch.views[1]), temperature=0.2, negatives=method.queue.keys())
    assert bool(method.loss(batch)[0] > plain)


def test_a_set_predictor_lags_one_step_and_gets_no_gradient() -> None:
    method = target_method(replace(BYOL, predictor=SetPredictor(rho=0.5, eps=0.1)))
    predictor = method.predictor
    assert isinstance(predictor, DirectPredictor)
    assert not predictor.weight.requires_grad
    first = views()
    z = torch.cat([method.embed(view) for view in first.views]).detach()
    method.loss(first)
    assert torch.equal(predictor.weight, torch.eye(5))
    method.after_step(0.1)
    torch.testing.assert_close(predictor.correlation, z.T @ z / len(z))
    set_once = predictor.weight.clone()
    assert not torch.equal(set_once, torch.eye(5))
    method.loss(ImageBatch((images(8, 5), images(8, 6))))
    assert torch.equal(predictor.weight, set_once)


def test_a_clean_network_never_sees_adversarial_statistics() -> None:
    adversarial = AdversarialContrast(SAME, HEAD, NTXent(), epsilon=0.05).make(resnet(), ABOUT).train()
    plain = JointEmbedding(SAME, HEAD, NTXent()).make(resnet(), ABOUT).train()
    plain.online.load_state_dict(adversarial.online.state_dict())
    assert isinstance(adversarial, AdversarialContrastMethod)
    batch = views()
    adversarial.loss(batch)
    plain.loss(batch)
    clean = statistics(adversarial.online)
    assert len(clean) > 6 and clean.keys() == statistics(plain.online).keys()
    for name, value in statistics(plain.online).items():
        torch.testing.assert_close(clean[name], value)
    twins = [norm for norm in adversarial.adversarial_norms.values() if isinstance(norm, _BatchNorm)]
    assert {int(norm.num_batches_tracked or 0) for norm in twins} == {3} and {norm.momentum for norm in twins} == {0.01}
    assert {name for name in adversarial.encoder.state_dict()} == {name for name in plain.encoder.state_dict()}


def test_adversarial_norms_are_trained_and_clean_ones_put_back_after_an_error() -> None:
    method = AdversarialContrast(SAME, HEAD, NTXent()).make(resnet(), ABOUT).train()
    assert isinstance(method, AdversarialContrastMethod)
    found = gradients(method.loss(views())[0], method.adversarial_norms)
    assert any(bool(gradient.abs().sum() > 0) for gradient in found)
    before = list(method.online.modules())
    with pytest.raises(KeyError), method.adversarial():
        raise KeyError
    assert list(method.online.modules()) == before


def test_the_attack_is_one_sign_step_that_raises_the_loss() -> None:
    config = AdversarialContrast(SAME, replace(HEAD, norm="none"), NTXent(), epsilon=0.004)
    method = config.make(conv_encoder(), ABOUT)
    assert isinstance(method, AdversarialContrastMethod)
    view = images(8)
    moved = method.attack(view, None)
    steps = (moved - view.float()).abs()
    assert float(steps.max()) == pytest.approx(0.004 * 255, rel=1e-3)
    assert float((steps > 0).float().mean()) > 0.5
    z = [method.embed(x) for x in (view, view, moved)]
    assert float(nt_xent(z[0], z[2], temperature=0.5)) > float(nt_xent(z[0], z[1], temperature=0.5))


def test_without_a_step_the_adversarial_term_is_the_view_with_itself() -> None:
    config = AdversarialContrast(SAME, replace(HEAD, norm="none"), NTXent(), epsilon=0.0, weight=2.0)
    method = config.make(conv_encoder(), ABOUT)
    batch = views()
    z = [method.embed(view) for view in batch.views]
    expected = nt_xent(z[0], z[1], temperature=0.5) + 2.0 * nt_xent(z[0], z[0], temperature=0.5)
    torch.testing.assert_close(method.loss(batch)[0], expected)


def test_labelled_images_are_classified_beside_the_contrast_until_they_are_not() -> None:
    config = LabelledContrast(
        SAME, replace(HEAD, norm="none"), NTXent(), Suncet(0.1), LabelledSubset(0.5, 2, 3), weight=0.5, until=0.6
    )
    method = config.make(conv_encoder(), ABOUT)
    assert isinstance(method, LabelledContrastMethod)
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    batch = replace(views(), labelled=images(6, 9), labelled_classes=classes)
    assert batch.labelled is not None
    z = [method.embed(view) for view in batch.views]
    contrast = nt_xent(z[0], z[1], temperature=0.5)
    known = suncet(method.embed(batch.labelled), classes, temperature=0.1)
    torch.testing.assert_close(method.loss(batch)[0], contrast + 0.5 * known)
    method.after_step(0.6)
    torch.testing.assert_close(method.loss(batch)[0], contrast)


def test_labelled_batches_come_from_a_small_balanced_subset() -> None:
    run = learner("suncet", "method.labelled.fraction=0.1", "method.labelled.classes=5", "method.labelled.per_class=3")
    assert len(run._known) == pytest.approx(0.1 * len(run.data), rel=0.1)
    for _ in range(3):
        batch = run.next_batch()
        assert batch.labelled_classes is not None and batch.labelled is not None
        assert batch.labelled_classes.unique(return_counts=True)[1].tolist() == [3] * 5
        assert len(batch.labelled) == 15


@pytest.mark.parametrize("shape", [(1, 16, 16), (9, 84, 84), (3, 30, 21)])
def test_a_decoder_gives_the_shape_of_the_images(shape: tuple[int, ...]) -> None:
    encoder = resnet() if shape[0] == 1 else conv_like(shape)
    method = Autoencoder(SAME[:1], channels=4).make(encoder, DataShape(shape, 0, 2))
    view = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    loss, metrics = method.loss(ImageBatch((view,)))
    assert all(bool(g.abs().sum() > 0) for g in gradients(loss, method.encoder)[:1])
    assert float(metrics["reconstruction"]) <= float(loss)


def conv_like(shape: tuple[int, ...]) -> Encoder:
    return PixelEncoderConfig(strides=(2, 2), channels=4, latent_dim=6).make(shape)


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("byol", ("method.views=[mild]",), "needs two views"),
        ("simclr", ("method.views=[mild]",), "needs two views"),
        ("simclr", ("method.views=[mild,mild,mild]",), ""),
        ("autoencoder", ("method.views=[mild,mild]",), "one view"),
        ("supcon", ("train.label=name",), "valid: digit"),
        ("simclr", ("train.batch_size=5000",), "more than the 1438 images"),
        ("suncet", ("method.labelled.classes=11",), "10 labelled classes"),
        ("simclr", ("encoder=mlp",), "flat states"),
    ],
)
def test_parts_that_do_not_fit_are_named(method: str, words: tuple[str, ...], message: str) -> None:
    if not message:
        with pytest.raises(ValueError, match="compares two views, not 3"):
            learner(method, *words).update()
        return
    with pytest.raises(UserError, match=message):
        learner(method, *words)


def trained_spread(method: str, *words: str) -> float:
    """Return the spread of embeddings after a short, fast training."""
    run = learner(method, "optimiser.lr=0.01", "optimiser.schedule=constant", "train.updates=60", *words)
    for _ in range(60):
        run.update()
    with torch.no_grad():
        return float(spread(run.method.eval().embed(run.data.images[:200])))


def test_without_predictor_the_prediction_of_oneself_collapses() -> None:
    kept = trained_spread("simsiam", "method.projector.last_norm=none")
    gone = trained_spread("simsiam", "method.projector.last_norm=none", "method.predictor=null")
    assert kept > 0.4 and gone < 0.2 * kept, (kept, gone)


def test_without_whitening_the_distance_of_views_collapses() -> None:
    kept, gone = trained_spread("shuffled_dbn"), trained_spread("shuffled_dbn", "method.whitening=null")
    assert kept > 0.4 and gone < 0.2 * kept, (kept, gone)
