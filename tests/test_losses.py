from collections.abc import Callable

import audmetric
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lightning_modules import losses
from tests.small import numpy

Floats = NDArray[np.float64]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


TARGET = torch.tensor([0, 2, -1, 1, 2, -1, 0, 0])
KNOWN = TARGET >= 0
RATED = torch.tensor([[0.1, 0.5, 0.9], [0.4, 0.2, 0.3], [0.8, 0.9, 0.1], [0.3, 0.3, 0.6], [0.6, 0.1, 0.2]])

MASKED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]] = {
    "cross-entropy": (losses.cross_entropy, normal(8, 3), TARGET),
    "weighted cross-entropy": (
        lambda x, y: losses.cross_entropy(x, y, torch.tensor([0.5, 1.0, 2.0]), 0.1),
        normal(8, 3),
        TARGET,
    ),
    "soft cross-entropy": (
        lambda x, y: losses.cross_entropy(x, y, None, 0.1),
        normal(8, 3),
        torch.where(KNOWN[:, None], normal(8, 3, seed=2).softmax(1), torch.nan),
    ),
    "margin": (lambda x, y: losses.additive_angular_margin(x, y, 0.2, 15), normal(8, 3).tanh(), TARGET),
    "concordance": (
        losses.concordance_loss,
        normal(8, 3),
        torch.where(KNOWN[:, None], normal(8, 3, seed=1).sigmoid(), torch.nan),
    ),
}


@pytest.mark.parametrize("name", MASKED)
def test_missing_labels_are_as_if_the_rows_were_not_there(name: str) -> None:
    loss, outputs, target = MASKED[name]
    torch.testing.assert_close(loss(outputs, target), loss(outputs[KNOWN], target[KNOWN]))
    outputs = outputs.clone().requires_grad_()
    torch.autograd.backward(loss(outputs, target))
    assert outputs.grad is not None
    assert (outputs.grad[~KNOWN] == 0).all()
    assert (outputs.grad[KNOWN] != 0).any()


def test_soft_labels_are_shares_of_the_classes() -> None:
    logits = normal(4, 3)
    shares = torch.tensor([[1, 0, 0], [0.5, 0.25, 0.25], [torch.nan] * 3, [0, 0, 1]])
    expected = -(numpy(shares) * log_softmax(numpy(logits)))[[0, 1, 3]].sum(1).mean()
    assert losses.cross_entropy(logits, shares).item() == pytest.approx(expected)
    certain = losses.cross_entropy(logits, torch.tensor([0, -1, -1, 2]))
    shares[1] = torch.nan
    torch.testing.assert_close(losses.cross_entropy(logits, shares), certain)


def test_certain_shares_are_the_same_as_classes() -> None:
    weight = torch.tensor([0.5, 1.0, 4.0])
    shares = torch.where(KNOWN[:, None], F.one_hot(TARGET.clamp(min=0), 3).float(), torch.nan)
    for smoothing in (0.0, 0.1):
        by_class = losses.cross_entropy(normal(8, 3), TARGET, weight, smoothing)
        torch.testing.assert_close(losses.cross_entropy(normal(8, 3), shares, weight, smoothing), by_class)
        reference = F.cross_entropy(normal(8, 3)[KNOWN], TARGET[KNOWN], weight, label_smoothing=smoothing)
        torch.testing.assert_close(by_class, reference)


@pytest.mark.parametrize("name", MASKED)
def test_no_labels_at_all_give_zero_with_a_zero_gradient(name: str) -> None:
    loss, outputs, target = MASKED[name]
    outputs = outputs.clone().requires_grad_()
    missing = torch.full_like(target, torch.nan if target.is_floating_point() else -1)
    nothing = loss(outputs, missing)
    assert nothing == 0
    torch.autograd.backward(nothing)
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


# Cross-entropy


def test_cross_entropy() -> None:
    logits = normal(8, 3)
    log_p = log_softmax(numpy(logits[KNOWN]))
    truth = TARGET[KNOWN].numpy()
    own = -log_p[np.arange(len(truth)), truth]
    assert losses.cross_entropy(logits, TARGET).item() == pytest.approx(own.mean(), rel=1e-5)

    smoothed = 0.9 * own.mean() + 0.1 * -log_p.mean()
    assert losses.cross_entropy(logits, TARGET, label_smoothing=0.1).item() == pytest.approx(smoothed, rel=1e-5)

    weight = np.array([0.5, 1.0, 2.0])
    weighted = (weight[truth] * own).sum() / weight[truth].sum()
    found = losses.cross_entropy(logits, TARGET, torch.from_numpy(weight).float()).item()
    assert found == pytest.approx(weighted, rel=1e-5)


# Concordance


@given(st.integers(3, 40), st.integers(0, 10**6))
def test_concordance_loss_is_one_minus_the_concordance_correlation(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, noise = rng.uniform(size=(size, 3)), rng.uniform(size=(size, 3))
    prediction = 0.3 * truth + 0.5 * noise + rng.uniform(-0.3, 0.3, 3)
    expected = np.mean([1 - audmetric.concordance_cc(truth[:, d], prediction[:, d]) for d in range(3)])
    found = losses.concordance_loss(torch.from_numpy(prediction).float(), torch.from_numpy(truth).float())
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_dimensions_are_masked_one_by_one() -> None:
    prediction, target = normal(5, 3).sigmoid(), RATED.clone()
    target[0, 0] = target[1:, 2] = torch.nan  # one rating is not enough for a correlation
    first = 1 - audmetric.concordance_cc(numpy(RATED[1:, 0]), numpy(prediction[1:, 0]))
    second = 1 - audmetric.concordance_cc(numpy(RATED[:, 1]), numpy(prediction[:, 1]))
    found = losses.concordance_loss(prediction, target)
    assert found.item() == pytest.approx((first + second) / 2, abs=1e-5)


def test_concordance_of_extremes() -> None:
    assert losses.concordance_loss(RATED, RATED).item() == pytest.approx(0, abs=1e-6)
    mirrored = 2 * RATED.mean(0) - RATED
    assert losses.concordance_loss(mirrored, RATED).item() == pytest.approx(2, abs=1e-6)
    constant = torch.full_like(RATED, 0.5).requires_grad_()
    loss = losses.concordance_loss(constant, RATED)
    assert loss.item() == pytest.approx(1, abs=1e-6)
    torch.autograd.backward(loss)
    assert constant.grad is not None
    assert constant.grad.isfinite().all()
    assert losses.concordance_loss(torch.full((4, 1), 0.5), torch.full((4, 1), 0.5)).isfinite()


def test_concordance_gradient_points_to_the_truth() -> None:
    prediction = normal(5, 3, seed=2).sigmoid().requires_grad_()
    before = losses.concordance_loss(prediction, RATED)
    torch.autograd.backward(before)
    assert prediction.grad is not None
    assert losses.concordance_loss(prediction - 0.01 * prediction.grad, RATED) < before


# Angular margin


def test_margin_is_computed_from_the_angles() -> None:
    margin, scale = 0.3, 12.0
    cosine = normal(8, 3).tanh()
    angles = np.arccos(numpy(cosine[KNOWN]))
    truth = TARGET[KNOWN].numpy()
    logits = np.cos(angles)
    logits[np.arange(len(truth)), truth] = np.cos(angles[np.arange(len(truth)), truth] + margin)
    expected = -log_softmax(scale * logits)[np.arange(len(truth)), truth].mean()
    found = losses.additive_angular_margin(cosine, TARGET, margin, scale)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_no_margin_is_cross_entropy_of_scaled_cosines() -> None:
    cosine = normal(8, 3).tanh()
    plain = losses.cross_entropy(10 * cosine, TARGET)
    torch.testing.assert_close(losses.additive_angular_margin(cosine, TARGET, 0.0, 10.0), plain, rtol=1e-4, atol=1e-4)


def test_worse_angles_never_cost_less() -> None:
    cosine = torch.linspace(1, -1, 200)
    cost = [losses.additive_angular_margin(torch.tensor([[c, 0.2]]), torch.tensor([0]), 0.5, 10.0) for c in cosine]
    assert (torch.stack(cost).diff() >= -1e-4).all()


def test_margin_gradient_is_finite_at_the_ends() -> None:
    cosine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    torch.autograd.backward(losses.additive_angular_margin(cosine, torch.tensor([0, 0]), 0.2, 15.0))
    assert cosine.grad is not None
    assert cosine.grad.isfinite().all()


# Reconstruction


def test_reconstruction_counts_each_utterance_the_same_and_no_padding() -> None:
    target, guess, frames = normal(3, 4, 10), normal(3, 4, 10, seed=1), torch.tensor([10, 6, 1])
    each = [
        ((numpy(guess[one, :, :count]) - numpy(target[one, :, :count])) ** 2).mean()
        for one, count in enumerate(frames.tolist())
    ]
    assert losses.reconstruction_loss(guess, target, frames).item() == pytest.approx(np.mean(each), rel=1e-5)
    guess[1, :, 6:] = 1e3
    assert losses.reconstruction_loss(guess, target, frames).item() == pytest.approx(np.mean(each), rel=1e-5)


# Adversary


def test_adversarial_losses_are_binary_cross_entropies() -> None:
    real, fake = normal(5, 1), normal(5, 1, seed=1)
    ones, zeros = torch.ones(5, 1), torch.zeros(5, 1)
    entropy = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(losses.discriminator_loss(real, fake), entropy(real, ones) + entropy(fake, zeros))
    torch.testing.assert_close(losses.generator_loss(fake), entropy(fake, ones))


def test_who_cannot_tell_has_twice_the_logarithm_of_two() -> None:
    nothing = torch.zeros(4, 1)
    assert losses.discriminator_loss(nothing, nothing).item() == pytest.approx(2 * np.log(2))


def test_divergence_is_that_of_two_gaussians() -> None:
    mean, log_variance = normal(2, 5, 7)
    codes = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(losses.divergence_loss(mean, log_variance), expected)
    assert losses.divergence_loss(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


def test_consistency_is_the_cross_entropy_with_a_teacher_who_is_sure() -> None:
    logits, other = normal(2, 6, 4)
    taught = other.softmax(1)
    expected = F.cross_entropy(logits, taught)
    torch.testing.assert_close(losses.consistency_loss(logits, taught, temperature=1, threshold=0), expected)
    # The temperature is that of a softmax.
    sharper = F.cross_entropy(logits, (other / 0.5).softmax(1))
    torch.testing.assert_close(losses.consistency_loss(logits, taught, temperature=0.5, threshold=0), sharper)
    sure = taught.amax(1) >= 0.5
    assert 0 < sure.sum() < len(sure)
    expected = F.cross_entropy(logits[sure], taught[sure])
    torch.testing.assert_close(losses.consistency_loss(logits, taught, temperature=1, threshold=0.5), expected)


def test_a_teacher_who_is_sure_of_nothing_teaches_nothing() -> None:
    logits = normal(3, 4).requires_grad_()
    loss = losses.consistency_loss(logits, torch.full((3, 4), 0.25), temperature=1, threshold=0.9)
    torch.autograd.backward(loss)
    assert loss == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(3, 4))
