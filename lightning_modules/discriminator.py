"""The adversary: a discriminator of codes, and the two losses it plays for."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_modules.draws import ALONE, Draws
from lightning_modules.losses import discriminator_loss, generator_loss
from lightning_modules.priors import Prior

PRIORS = ("gaussian", "mixture")


@dataclass
class Contest:
    """One round between encoder and discriminator.

    Attributes:
        generator: Loss of the encoder, a scalar; no gradient reaches the discriminator.
        discriminator: Loss of the discriminator, a scalar; 2 ln 2 = 1.39 where it cannot tell; no gradient reaches the
            encoder.
        accuracy: Share of codes and prior samples that it tells right, a scalar in [0, 1].
    """

    generator: Tensor
    discriminator: Tensor
    accuracy: Tensor


class Adversary(nn.Module):
    """Tells codes from samples of the prior.

    No batch normalisation: its statistics would tell the two apart by themselves.

    Args:
        code: Size of the code.
        prior: What codes should be distributed like.
        hidden: Width of the two hidden layers.
    """

    def __init__(self, code: int, prior: Prior, hidden: int) -> None:
        super().__init__()
        self.prior = prior
        self.discriminator = nn.Sequential(
            nn.Linear(code + prior.conditions, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, code: Tensor, emotion: Tensor, noise: float, draws: Draws = ALONE) -> Contest:
        """Plays one round; both losses can be minimised in one backward pass.

        The encoder's loss goes through a copy of the discriminator whose weights are constants, the discriminator's
        through a code that is one: the gradients are those of two separate passes.

        Args:
            code: (batch, code).
            emotion: Class of each utterance, (batch,), -1 where unknown.
            noise: Deviation of the Gaussian noise on everything that the discriminator sees.
            draws: For samples and noise.

        Returns:
            Both losses and the accuracy.
        """
        condition = self.prior.condition(emotion)
        sample = self.prior.sample(emotion, draws)
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}

        def seen(codes: Tensor) -> Tensor:
            return torch.cat([codes + noise * draws.normal_like(codes), condition], dim=1)

        real = self.discriminator(seen(sample))
        fake = self.discriminator(seen(code.detach()))
        fooled = functional_call(self.discriminator, frozen, (seen(code),))
        right = torch.cat([real > 0, fake < 0]).float().mean()
        return Contest(generator_loss(fooled), discriminator_loss(real, fake), right)
