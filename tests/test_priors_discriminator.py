import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.discriminator import Adversary, Contest
from lightning_modules.draws import Dropout
from lightning_modules.priors import CategoricalPrior, GaussianPrior, MixturePrior, Prior

COUNTS = torch.tensor([60.0, 30.0, 10.0])
SHARES = COUNTS / 100
RADIUS = 4.0
MANY = 40_000
UNKNOWN = torch.full((MANY,), -1)
PRIORS: dict[str, Callable[[], Prior]] = {
    "gaussian": lambda: GaussianPrior(5),
    "mixture": lambda: MixturePrior(5, COUNTS, RADIUS),
    "categorical": lambda: CategoricalPrior(COUNTS),
}
WIDTHS = {"gaussian": 5, "mixture": 5, "categorical": 3}


@pytest.fixture(params=PRIORS)
def prior(request: pytest.FixtureRequest) -> Prior:
    torch.manual_seed(0)
    return PRIORS[request.param]()


# Priors


def test_samples_of_unlabelled_speech_have_the_moments_that_the_prior_names(prior: Prior) -> None:
    sample = prior.sample(UNKNOWN)
    assert sample.dtype == torch.float32
    mean, deviation = prior.moments()
    torch.testing.assert_close(sample.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(sample.std(0), deviation, rtol=0, atol=0.05)


def test_gaussian_is_standard_normal() -> None:
    torch.manual_seed(0)
    sample = GaussianPrior(4).sample(UNKNOWN)
    torch.testing.assert_close(sample.T.cov(), torch.eye(4), rtol=0, atol=0.03)
    torch.testing.assert_close(sample.mean(0), torch.zeros(4), rtol=0, atol=0.03)
    assert sample.pow(4).mean().item() == pytest.approx(3, abs=0.1)  # the fourth moment of a normal variable


def test_mixture_conditioned_on_a_class_is_that_component() -> None:
    torch.manual_seed(0)
    prior = MixturePrior(5, COUNTS, RADIUS)
    centres = torch.stack([prior.sample(torch.full((MANY,), one)).mean(0) for one in range(3)])
    torch.testing.assert_close(centres.norm(dim=1), torch.full((3,), RADIUS), rtol=0, atol=0.05)
    torch.testing.assert_close(torch.pdist(centres), torch.full((3,), RADIUS * math.sqrt(2)), rtol=0, atol=0.05)
    for one in range(3):
        sample = prior.sample(torch.full((MANY,), one))
        torch.testing.assert_close(sample.T.cov(), torch.eye(5), rtol=0, atol=0.05)


def test_whole_mixture_has_the_training_frequencies() -> None:
    torch.manual_seed(0)
    prior = MixturePrior(5, COUNTS, 20.0)  # so far apart that the nearest centre tells the component
    centres = torch.stack([prior.sample(torch.full((100,), one)).mean(0) for one in range(3)])
    nearest = torch.cdist(prior.sample(UNKNOWN), centres).argmin(1)
    torch.testing.assert_close(nearest.bincount() / MANY, SHARES, rtol=0, atol=0.01)


def test_labelled_and_unlabelled_rows_of_one_batch() -> None:
    torch.manual_seed(0)
    emotion = torch.tensor([2, -1, 0]).repeat(MANY // 4)
    prior = MixturePrior(5, COUNTS, RADIUS)
    sample = prior.sample(emotion)
    assert sample[emotion == 2].mean(0)[:3].argmax() == 2
    assert sample[emotion == 0].mean(0)[:3].argmax() == 0
    torch.testing.assert_close(sample[emotion == -1].mean(0), prior.moments()[0], rtol=0, atol=0.1)


def test_the_mixture_tells_the_discriminator_the_class() -> None:
    prior = MixturePrior(5, COUNTS, RADIUS)
    condition = prior.condition(torch.tensor([2, -1, 0]))
    assert condition.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert prior.conditions == 4


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_the_other_priors_tell_it_nothing(name: str) -> None:
    prior = PRIORS[name]()
    assert prior.condition(torch.tensor([2, -1])).shape == (2, 0)
    assert prior.conditions == 0


def test_categorical_codes_are_one_hot_with_the_training_frequencies() -> None:
    torch.manual_seed(0)
    sample = CategoricalPrior(COUNTS).sample(UNKNOWN)
    assert (sample.sum(1) == 1).all()
    assert (sample.max(1).values == 1).all()
    torch.testing.assert_close(sample.mean(0), SHARES, rtol=0, atol=0.01)


@pytest.mark.parametrize(("code", "counts", "message"), [(2, COUNTS, "needs a code of"), (2, COUNTS[:0], "none")])
def test_mixtures_that_cannot_be(code: int, counts: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixturePrior(code, counts, RADIUS)


# The adversary


class Player(nn.Module):
    """An encoder of one layer and its adversary."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(6, WIDTHS[name])
        self.adversary = Adversary(WIDTHS[name], PRIORS[name](), 16)
        self.speech = torch.randn(10, 6)
        self.emotion = torch.tensor([0, 1, 2, -1, -1, 0, 0, 1, -1, -1])

    def play(self, noise: float = 0.3) -> Contest:
        torch.manual_seed(2)  # the same samples and noise each time
        contest: Contest = self.adversary(self.encoder(self.speech), self.emotion, noise)
        return contest

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: weight.grad for name, weight in self.named_parameters()}


@pytest.mark.parametrize("name", PRIORS)
def test_one_backward_gives_the_gradients_of_two_passes(name: str) -> None:
    together = Player(name)
    contest = together.play()
    torch.autograd.backward(0.7 * contest.generator + contest.discriminator)

    # The textbook's way: the encoder's loss through a discriminator that stands still, then the discriminator's own.
    apart = Player(name)
    apart.adversary.requires_grad_(False)
    torch.autograd.backward(0.7 * apart.play().generator)
    apart.adversary.requires_grad_(True)
    apart.encoder.requires_grad_(False)
    torch.autograd.backward(apart.play().discriminator)

    expected = apart.gradients()
    for weight, gradient in together.gradients().items():
        other = expected[weight]
        assert gradient is not None
        assert other is not None
        assert gradient.abs().sum() > 0
        assert torch.equal(gradient, other), weight


@pytest.mark.parametrize("name", PRIORS)
def test_neither_loss_reaches_the_other_side(name: str) -> None:
    player = Player(name)
    torch.autograd.backward(player.play().generator)
    assert all(weight.grad is None for weight in player.adversary.parameters())
    assert all(weight.grad is not None for weight in player.encoder.parameters())
    player.zero_grad()
    torch.autograd.backward(player.play().discriminator)
    assert all(weight.grad is not None for weight in player.adversary.parameters())
    assert all(weight.grad is None for weight in player.encoder.parameters())


def test_a_step_of_each_side_helps_it() -> None:
    player = Player("gaussian")
    before = player.play()
    torch.autograd.backward(before.generator + before.discriminator)
    torch.optim.SGD(player.encoder.parameters(), lr=0.05).step()
    assert player.play().generator < before.generator

    player = Player("gaussian")
    torch.autograd.backward(player.play().discriminator)
    torch.optim.SGD(player.adversary.parameters(), lr=0.05).step()
    assert player.play().discriminator < before.discriminator


def test_accuracy_and_losses_of_a_discriminator_that_knows() -> None:
    adversary = Adversary(1, GaussianPrior(1), 2)
    adversary.discriminator = nn.Sequential(nn.Linear(1, 1))
    line = adversary.discriminator[0]
    assert isinstance(line, nn.Linear)
    nn.init.constant_(line.weight, -1.0)
    nn.init.constant_(line.bias, 10.0)  # "prior" below 10
    contest = adversary(torch.tensor([[20.0], [20.0], [20.0], [0.0]]), torch.full((4,), -1), 0.0)
    assert contest.accuracy.item() == pytest.approx(7 / 8)
    generator = (3 * math.log1p(math.exp(10)) + math.log1p(math.exp(-10))) / 4
    assert contest.generator.item() == pytest.approx(generator, rel=1e-4)


def test_the_class_matters_to_a_mixture() -> None:
    player = Player("mixture")
    before = player.play().generator
    player.emotion = player.emotion.roll(1)
    assert player.play().generator != before


def test_noise_is_on_everything_that_it_sees() -> None:
    torch.manual_seed(0)
    adversary = Adversary(3, GaussianPrior(3), 4)
    seen: list[Tensor] = []
    adversary.discriminator.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    adversary(torch.zeros(MANY, 3), UNKNOWN, 2.0)
    adversary(torch.zeros(MANY, 3), UNKNOWN, 0.0)
    deviations = [codes.std().item() for codes in seen]
    assert deviations == pytest.approx([5**0.5, 2, 2, 1, 0, 0], abs=0.03)


def test_no_batch_normalisation_in_it() -> None:
    adversary = Adversary(5, MixturePrior(5, COUNTS, RADIUS), 8)
    kinds = (nn.modules.batchnorm._BatchNorm, nn.Dropout, Dropout)
    assert not [module for module in adversary.modules() if isinstance(module, kinds)]
    assert {name.split(".")[0] for name, _ in adversary.named_parameters()} == {"discriminator"}
