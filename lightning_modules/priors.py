"""Distributions that the adversary pulls the code to."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_modules.draws import ALONE, Draws


class Prior(nn.Module, ABC):
    """A distribution over codes, and what the discriminator is told about each code."""

    @abstractmethod
    def sample(self, emotion: Tensor, draws: Draws = ALONE) -> Tensor:
        """Draws codes.

        Args:
            emotion: Class of each utterance, (batch,), int64, -1 where unknown.
            draws: The random numbers.

        Returns:
            (batch, code), float32.
        """

    def condition(self, emotion: Tensor) -> Tensor:
        """What the discriminator sees beside a code, (batch, conditions); by default nothing."""
        return emotion.new_empty(len(emotion), 0, dtype=torch.float32)

    @property
    def conditions(self) -> int:
        """Width of ``condition``."""
        return 0

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each coordinate, (code,) each."""


class GaussianPrior(Prior):
    """Standard normal."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def sample(self, emotion: Tensor, draws: Draws = ALONE) -> Tensor:
        """See ``Prior.sample``."""
        return draws.normal_like(emotion.new_empty(len(emotion), self.code, dtype=torch.float32))

    def moments(self) -> tuple[Tensor, Tensor]:
        """See ``Prior.moments``."""
        return torch.zeros(self.code), torch.ones(self.code)


class MixturePrior(Prior):
    """One Gaussian per class; a labelled code is held to its class's, any other to the whole mixture.

    After the semi-supervised prior of Makhzani et al., "Adversarial Autoencoders" (2015): the discriminator is given
    the class as a one-hot vector with one more entry for "unknown". Classes of the whole mixture are drawn with the
    training frequencies, since drawing them uniformly would press a skewed corpus into equal shares.

    Args:
        code: Size of the code.
        frequencies: Share of each class in the training data, (classes,).
        radius: Distance of the components' means from the origin, in their deviations.

    Raises:
        ValueError: There are no classes, or the code has fewer coordinates than there are.
    """

    means: Tensor
    frequencies: Tensor

    def __init__(self, code: int, frequencies: Tensor, radius: float) -> None:
        super().__init__()
        classes = len(frequencies)
        if classes == 0:
            raise ValueError("adversary.prior: a mixture needs emotion classes, of which there are none")
        if code < classes:
            raise ValueError(
                f"adversary.prior: a mixture of {classes} classes needs a code of {classes} or more, not {code}"
            )
        # One axis a class: all pairs are equally far apart.
        self.register_buffer("means", radius * torch.eye(classes, code))
        self.register_buffer("frequencies", frequencies / frequencies.sum())

    def sample(self, emotion: Tensor, draws: Draws = ALONE) -> Tensor:
        """See ``Prior.sample``."""
        anyone = draws.mine(torch.multinomial(self.frequencies, draws.rows(len(emotion)), replacement=True))
        mean = self.means[torch.where(emotion >= 0, emotion, anyone)]
        return mean + draws.normal_like(mean)

    def condition(self, emotion: Tensor) -> Tensor:
        """See ``Prior.condition``."""
        known = torch.where(emotion >= 0, emotion, len(self.means))
        return nn.functional.one_hot(known, self.conditions).float()

    @property
    def conditions(self) -> int:
        """See ``Prior.conditions``."""
        return len(self.means) + 1

    def moments(self) -> tuple[Tensor, Tensor]:
        """See ``Prior.moments``."""
        mean = self.frequencies @ self.means
        variance = 1 + self.frequencies @ self.means.square() - mean.square()
        return mean, variance.sqrt()


class CategoricalPrior(Prior):
    """One-hot vectors drawn with the training frequencies of the classes, for the categorical code beside z."""

    frequencies: Tensor

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies / frequencies.sum())

    def sample(self, emotion: Tensor, draws: Draws = ALONE) -> Tensor:
        """See ``Prior.sample``."""
        drawn = draws.mine(torch.multinomial(self.frequencies, draws.rows(len(emotion)), replacement=True))
        return nn.functional.one_hot(drawn, len(self.frequencies)).float()

    def moments(self) -> tuple[Tensor, Tensor]:
        """See ``Prior.moments``."""
        return self.frequencies, (self.frequencies * (1 - self.frequencies)).sqrt()
