"""Exponential average of the weights, which development and test see."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class ExponentialAverage(WeightAveraging):
    """Averages the weights over the last ``1 / (1 - decay)`` steps or so; checkpoints hold the average as weights.

    Early in training the average is over as many steps as there were, not over the random start.

    Args:
        decay: Share of the average that each step keeps.
    """

    def __init__(self, decay: float) -> None:
        def average(mean: Tensor, weight: Tensor, steps: Tensor | int) -> Tensor:
            if not mean.is_floating_point():  # counters, such as those of batch normalisation
                return weight
            keep = min(decay, (1 + int(steps)) / (10 + int(steps)))
            return mean.lerp(weight, 1 - keep)

        super().__init__(avg_fn=average)
