"""Settings of the callbacks: plain dataclasses with the defaults, free of heavy imports."""

from dataclasses import dataclass


@dataclass
class ScheduleSettings:
    """The adversarial schedule. Times are shares of the training, so that it keeps its shape when training gets longer.

    Attributes:
        warm_up: Time in which the discriminator learns but does not yet push the encoder.
        ramp: Time after the warm-up in which its push grows to full strength.
        cadence: The discriminator learns at every n-th step only.
        noise: Deviation, at the start, of the noise on everything that the discriminator sees.
        noise_decay: Time until the noise has vanished.
        consistency: Time in which the agreement with a teacher grows to full strength.
        reversal: Full strength of reversed gradients; they start at 0 and grow as in Ganin and Lempitsky (ICML 2015).
    """

    warm_up: float = 0.1
    ramp: float = 0.2
    cadence: int = 1
    noise: float = 0.5
    noise_decay: float = 0.8
    consistency: float = 0.3
    reversal: float = 1.0
