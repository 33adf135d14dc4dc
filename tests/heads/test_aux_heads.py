"""Heads without negatives: closed forms, slow twins, what gets gradient and what does not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from rlrep.contrast import barlow_twins, vicreg
from rlrep.heads import Autoencoder, RedundancyReduction, SelfDistillation, SelfPrediction
from rlrep.heads.autoencoder import FrameDecoder, target_of
from rlrep.heads.transition import roll_out
from rlrep.nn import PixelEncoderConfig
from rlrep.replay import Later, LaterSteps

from .test_aux import BOX, ROWS, WIDTH, Setting, given
from .test_aux_contrast import batch_of


def view_batch() -> tuple[Any, Tensor]:
    view = torch.randn(ROWS, WIDTH)
    return batch_of(given(second_view=view)), view


def assert_trained(head: nn.Module, setting: Setting, loss: Tensor) -> None:
    """Gradient in the online encoder and all trained parameters, none in targets."""
    loss.backward()
    assert setting.online.weight.grad is not None and setting.online.weight.grad.any()
    assert setting.target.weight.grad is None
    trained = {name for name, p in head.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in head.named_parameters() if p.requires_grad}
    assert not any("follow" in name for name in trained)


@pytest.mark.parametrize("predictor", ["mlp", "none"])
def test_byol_is_two_minus_two_cosines(predictor: Any) -> None:
    setting, (batch, view) = Setting(), view_batch()
    head = SelfDistillation(predictor=predictor, hidden_dim=8, embedding_dim=4).make("head", WIDTH, BOX)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert head.branches.follow is not None
    prediction = head.predictor(head.branches.project(setting.online(batch.obs)))
    target = head.branches.follow(setting.target(view))
    torch.testing.assert_close(loss, (2 - 2 * cosine_similarity(prediction, target)).mean())
    torch.testing.assert_close(health["positive_similarity"], cosine_similarity(prediction, target).mean())
    assert_trained(head, setting, loss)


def test_simsiam_target_is_the_online_branch_without_gradient() -> None:
    setting, (batch, view) = Setting(), view_batch()
    head = SelfDistillation(target="online", hidden_dim=8, embedding_dim=4).make("head", WIDTH, BOX)
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    prediction = head.predictor(head.branches.project(setting.online(batch.obs)))
    target = head.branches.project(setting.online(view)).detach()
    expected = (2 - 2 * cosine_similarity(prediction, target)).mean()
    ours, theirs = (torch.autograd.grad(value, setting.online.weight)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_directpred_sets_its_predictor_from_earlier_projections() -> None:
    """Two updates by hand: W comes from the correlation seen up to the update before."""
    setting = Setting()
    config = SelfDistillation(predictor="direct", rho=0.5, eps=0.2, hidden_dim=8, embedding_dim=4, batch_norm=False)
    head = config.make("head", WIDTH, BOX)
    correlation, weight = torch.zeros(4, 4), torch.eye(4)
    for step in range(3):
        batch, view = view_batch()
        loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
        z = head.branches.project(setting.online(batch.obs)).detach()
        assert head.branches.follow is not None
        target = head.branches.follow(setting.target(view))
        torch.testing.assert_close(loss.detach(), (2 - 2 * cosine_similarity(z @ weight.T, target)).mean())
        batch_correlation = z.T @ z / ROWS
        correlation = batch_correlation if step == 0 else 0.5 * correlation + 0.5 * batch_correlation
        values, vectors = torch.linalg.eigh(correlation)
        weight = vectors @ torch.diag((values.clamp(min=0) / values.max()).sqrt() + 0.2) @ vectors.T
        head.after_update()
    head.eval()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())
    assert all(not p.requires_grad for p in head.predictor.parameters())


@pytest.mark.parametrize("objective", ["barlow_twins", "vicreg"])
@pytest.mark.parametrize("target", ["online", "ema"])
def test_redundancy_reduction_is_the_cores(objective: Any, target: Any) -> None:
    setting, (batch, view) = Setting(), view_batch()
    config = RedundancyReduction(objective=objective, target=target, invariance=9.0, hidden_dim=8, embedding_dim=4)
    head = config.make("head", WIDTH, BOX)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    first = head.branches.project(setting.online(batch.obs))
    second = head.branches.other(view, setting.encoders)
    value = barlow_twins(first, second, off_diagonal=0.0051)
    expected = value if objective == "barlow_twins" else vicreg(first, second, invariance=9.0)
    torch.testing.assert_close(loss, expected)
    assert second.requires_grad == (target == "online")
    assert {"feature_std", "feature_correlation", "positive_similarity"} == set(health)
    assert_trained(head, setting, loss)


def make_later(steps: int, *, discrete: bool = False) -> Later:
    valid = torch.ones(steps, ROWS, dtype=torch.bool)
    valid[1:, 2], valid[:, 4] = False, False
    action = torch.randint(3, (steps, ROWS)) if discrete else torch.randn(steps, ROWS, 2)
    return Later(torch.randn(steps, ROWS, WIDTH), valid, action)


@pytest.mark.parametrize("discrete", [False, True])
def test_self_prediction_equals_a_loop(discrete: bool) -> None:
    setting, later = Setting(), make_later(3, discrete=discrete)
    batch = batch_of(given(later=later))
    config = SelfPrediction(steps=3, transition_dim=7, hidden_dim=8, embedding_dim=4)
    head = config.make("head", WIDTH, spaces.Discrete(3) if discrete else BOX)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert head.needs.of(LaterSteps) == [LaterSteps((1, 2, 3))] and head.branches.follow is not None
    errors: list[list[Tensor]] = [[], [], []]
    for row in range(ROWS):
        latent = setting.online(batch.obs[row : row + 1])
        for k in range(3):
            action = later.action[k, row : row + 1]
            code = nn.functional.one_hot(action, 3).float() if discrete else action
            latent = head.transition(torch.cat([latent, code], 1))
            if later.valid[k, row]:
                prediction = head.predictor(head.branches.project(latent))
                target = head.branches.follow(setting.target(later.obs[k, row : row + 1]))
                errors[k].append((normalize(prediction) - normalize(target)).square().sum())
    torch.testing.assert_close(loss, torch.stack([e for step in errors for e in step]).mean())
    torch.testing.assert_close(health["last_similarity"], 1 - torch.stack(errors[2]).mean() / 2)
    assert health["with_later"] == pytest.approx((5 + 4 + 4) / 18)
    assert_trained(head, setting, loss)


def test_self_prediction_as_replayed_is_spr_s_mean() -> None:
    """Over all rows and steps, masked ones as 0, each row by its importance."""
    setting, later = Setting(), make_later(2)
    batch = replace(batch_of(given(later=later)), weight=torch.rand(ROWS))
    torch.manual_seed(0)
    head = SelfPrediction(steps=2, as_replayed=True).make("head", WIDTH, BOX)
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    rolled = roll_out(head.transition, setting.online(batch.obs), later.action, 2).flatten(0, 1)
    predicted = head.predictor(head.branches.project(rolled)).view(2, ROWS, -1)
    assert head.branches.follow is not None and batch.weight is not None
    total = torch.zeros(())
    for k in range(2):
        for row in range(ROWS):
            target = head.branches.follow(setting.target(later.obs[k, row : row + 1]))[0]
            error = (normalize(predicted[k, row], dim=0) - normalize(target, dim=0)).square().sum()
            total = total + error * later.valid[k, row] * batch.weight[row] / (2 * ROWS)
    torch.testing.assert_close(loss, total)


def test_self_prediction_without_a_future_is_zero() -> None:
    setting, later = Setting(), make_later(2)
    nothing = Later(later.obs, torch.zeros_like(later.valid), later.action)
    head = SelfPrediction(steps=2).make("head", WIDTH, BOX)
    batch = batch_of(given(later=nothing))
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    loss.backward()
    assert loss == 0 and setting.online.weight.grad is not None and not setting.online.weight.grad.any()


def test_autoencoder_is_the_error_and_the_decays() -> None:
    setting, (batch, _) = Setting(), view_batch()
    config = Autoencoder(latent_decay=0.3, decoder_decay=0.2, hidden_dim=6).fitted((WIDTH,))
    head = config.make("head", WIDTH, BOX)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    latent = setting.online(batch.obs)
    error = (head.decoder(latent) - batch.obs).square().mean()
    weights = sum(float(p.detach().square().sum()) for p in head.decoder.parameters())
    torch.testing.assert_close(loss, error + 0.15 * latent.square().sum(1).mean() + 0.1 * weights)
    torch.testing.assert_close(health["squared_error"], error.detach())
    assert_trained(head, setting, loss)


@pytest.mark.parametrize(("side", "strides"), [(84, (2, 1, 1, 1)), (21, (2, 2, 1)), (24, (1, 2)), (17, (3, 1))])
def test_decoder_mirrors_the_encoder(side: int, strides: tuple[int, ...]) -> None:
    encoder = PixelEncoderConfig(strides=strides, channels=4).make((9, side, side))
    decoder = FrameDecoder(5, (9, side, side), strides, 4)
    assert decoder.spread.out_features == encoder.feature_dim
    assert decoder(torch.randn(2, 5)).shape == (2, 9, side, side)


def test_drawn_frames_have_five_bits_around_zero() -> None:
    values = target_of(torch.arange(256, dtype=torch.uint8), 5)
    assert len(values.unique()) == 32 and values.min() == 1 / 64 - 0.5 and values.max() == 0.5 - 1 / 64
    assert values[7] == values[0] != values[8]
    exact = torch.arange(256) / 256 - 0.5
    assert ((values - exact).abs() <= 1 / 64 + 1e-6).all()


def test_misfits_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="obs_shape"):
        Autoencoder().make("autoencoder", WIDTH, BOX)
    with pytest.raises(ValueError, match="strides"):
        FrameDecoder(5, (3, 8, 8), (2, 2, 2), 4)
    with pytest.raises(ValueError, match="bits"):
        Autoencoder(bits=0)
    with pytest.raises(ValueError, match="steps"):
        SelfPrediction(steps=0)
    with pytest.raises(ValueError, match="Box or Discrete"):
        SelfPrediction().make("head", WIDTH, spaces.MultiBinary(3))
    given = Autoencoder(obs_shape=(4,))
    assert given.fitted((7,)).obs_shape == (4,) and Autoencoder().fitted((7,)).obs_shape == (7,)
