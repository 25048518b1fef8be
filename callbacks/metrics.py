"""Unweighted average recall and the concordance correlation coefficient, exact for any number of batches and processes.

Each metric is a few pure functions and a thin ``torchmetrics.Metric`` whose state has a constant size: a confusion
matrix of integers, or six moments per dimension. Padded rows are left out by ``valid``, missing truths by -1 or NaN.
"""

import torch
from torch import Tensor
from torchmetrics import Metric


def confusion_matrix(prediction: Tensor, truth: Tensor, classes: int, valid: Tensor | None = None) -> Tensor:
    """Count how often each class was taken for each other.

    Args:
        prediction: Predicted classes, (B,) int64 in [0, classes).
        truth: True classes, (B,) int64 in [0, classes), -1 where it is not known.
        classes: Number of classes K.
        valid: (B,) bool, False for rows that are padding; all rows count if it is left out.

    Returns:
        (K, K) int64; rows are the truth, columns the prediction.

    Raises:
        ValueError: A class lies outside the range.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, -1]), classes=2)
        tensor([[1, 1],
                [0, 1]])
    """
    counted = truth >= 0 if valid is None else (truth >= 0) & valid
    prediction, truth = prediction[counted].long(), truth[counted].long()
    for name, values in (("truth", truth), ("prediction", prediction)):
        if (outside := values[(values < 0) | (values >= classes)]).numel():
            raise ValueError(f"{name} {outside[0].item()} is no class: there are {classes}")
    return torch.bincount(truth * classes + prediction, minlength=classes**2).view(classes, classes)


def recall(confusion: Tensor) -> Tensor:
    r"""Recall of each class, $\mathrm{TP}_k / (\mathrm{TP}_k + \mathrm{FN}_k)$.

    Args:
        confusion: (K, K) int64; rows are the truth.

    Returns:
        (K,) float64 in [0, 1]; NaN for a class that is never true.

    Example:
        >>> recall(torch.tensor([[3, 1], [0, 0]]))
        tensor([0.7500,    nan], dtype=torch.float64)
    """
    return confusion.diagonal().double() / confusion.sum(dim=1).double()


def uar(confusion: Tensor) -> Tensor:
    r"""Unweighted average recall: the mean of the recalls of those classes that occur in the truth.

    $\mathrm{UAR} = \frac{1}{|S|} \sum_{k \in S} \frac{\mathrm{TP}_k}{\mathrm{TP}_k + \mathrm{FN}_k}$, where $S$ holds
    the classes with at least one true utterance. The measure of the field since Schuller, Steidl, Batliner: The
    INTERSPEECH 2009 Emotion Challenge. A class that is predicted but never true lowers the recall of the others and has
    none of its own.

    Args:
        confusion: (K, K) int64; rows are the truth.

    Returns:
        Scalar float64 in [0, 1]; NaN if nothing was counted.

    Example:
        >>> uar(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))
        tensor(0.7500, dtype=torch.float64)
    """
    return recall(confusion).nanmean()


def accuracy(confusion: Tensor) -> Tensor:
    """Share of utterances whose class was recognised (also called weighted accuracy, or weighted average recall).

    Args:
        confusion: (K, K) int64; rows are the truth.

    Returns:
        Scalar float64 in [0, 1]; NaN if nothing was counted.

    Example:
        >>> accuracy(torch.tensor([[8, 0], [1, 1]]))
        tensor(0.9000, dtype=torch.float64)
    """
    return confusion.diagonal().sum().double() / confusion.sum().double()


def moments(prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Count, means and sums of squared deviations: all that the concordance correlation needs of a batch.

    Args:
        prediction: (B, D), any floating type.
        truth: (B, D), NaN where it is not known; those are left out, dimension by dimension.
        valid: (B,) bool, False for rows that are padding; all rows count if it is left out.

    Returns:
        (D, 6) float64: count, mean of the truth, mean of the prediction, sum of squared deviations of the truth, of the
        prediction, and sum of the products of both deviations.

    Example:
        >>> moments(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [4.0]]))
        tensor([[2., 2., 2., 8., 2., 4.]], dtype=torch.float64)
    """
    if len(truth) == 0:
        return torch.zeros(truth.shape[1], 6, dtype=torch.float64, device=truth.device)
    known = ~truth.isnan()
    if valid is not None:
        known &= valid[:, None]
    count = known.sum(dim=0).double()
    first = known.int().argmax(dim=0, keepdim=True)

    def centre(values: Tensor) -> tuple[Tensor, Tensor]:
        # Taken from the first known value before the mean is, so that the deviations of a constant are exactly 0.
        origin = values.double().gather(0, first)
        deviation = torch.where(known, values.double() - origin, 0.0)
        shift = deviation.sum(dim=0) / count.clamp(min=1)
        return torch.where(count > 0, origin[0] + shift, 0.0), torch.where(known, deviation - shift, 0.0)

    truth_mean, truth_deviation = centre(truth)
    prediction_mean, prediction_deviation = centre(prediction)
    sums = (
        truth_deviation.square().sum(dim=0),
        prediction_deviation.square().sum(dim=0),
        (truth_deviation * prediction_deviation).sum(dim=0),
    )
    return torch.stack((count, truth_mean, prediction_mean, *sums), dim=1)


def merge_moments(one: Tensor, other: Tensor) -> Tensor:
    r"""Moments of the union of two sets of utterances.

    $n = n_a + n_b$, $\delta = \bar{x}_b - \bar{x}_a$, $\bar{x} = \bar{x}_a + \delta\, n_b / n$,
    $M = M_a + M_b + \delta^2\, n_a n_b / n$, and likewise for the products. Source: Chan, Golub, LeVeque: Algorithms
    for Computing the Sample Variance, The American Statistician 37(3), 1983. Nothing cancels, as it does in sums of
    squares.

    Args:
        one: (D, 6) float64, as ``moments`` returns it.
        other: The same.

    Returns:
        (D, 6) float64.

    Example:
        >>> both = torch.tensor([[0.0], [4.0], [5.0]])
        >>> parts = moments(both[:1], both[:1]), moments(both[1:], both[1:])
        >>> torch.allclose(merge_moments(*parts), moments(both, both))
        True
    """
    count = one[:, 0] + other[:, 0]
    share = other[:, 0] / count.clamp(min=1)
    delta = other[:, 1:3] - one[:, 1:3]
    mean = one[:, 1:3] + delta * share[:, None]
    between = torch.stack((delta[:, 0] ** 2, delta[:, 1] ** 2, delta[:, 0] * delta[:, 1]), dim=1)
    spread = one[:, 3:] + other[:, 3:] + between * (one[:, 0] * share)[:, None]
    return torch.cat((count[:, None], mean, spread), dim=1)


def concordance(moments: Tensor) -> Tensor:
    r"""Concordance correlation coefficient, by Lin's definition.

    $\rho_c = \frac{2 s_{xy}}{s_x^2 + s_y^2 + (\bar{x} - \bar{y})^2}$ with variances that divide by $n$. Source: Lin:
    A Concordance Correlation Coefficient to Evaluate Reproducibility, Biometrics 45(1), 1989. A constant prediction or
    truth gives 0, also where both are the same constant (0 / 0): agreement without variation shows nothing.

    Args:
        moments: (D, 6) float64, as ``moments`` returns it.

    Returns:
        (D,) float64 in [-1, 1]; NaN for a dimension without any known truth.

    Example:
        >>> concordance(moments(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0.0], [1.0], [2.0]])))
        tensor([0.6667], dtype=torch.float64)
    """
    count, truth_mean, prediction_mean, truth_spread, prediction_spread, product = moments.unbind(dim=1)
    denominator = truth_spread + prediction_spread + count * (truth_mean - prediction_mean) ** 2
    coefficient = torch.where(denominator == 0, 0.0, 2 * product / denominator)
    return torch.where(count == 0, torch.nan, coefficient)


class ConfusionMatrix(Metric):
    """Confusion matrix of all utterances of a pass, in integers: the same for any batch size and number of processes.

    Args:
        classes: Number of classes K, at least 2.

    Example:
        >>> metric = ConfusionMatrix(2)
        >>> metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([1, 1]), torch.tensor([1, 1]), valid=torch.tensor([True, False]))
        >>> metric.compute()
        tensor([[1, 1],
                [0, 1]])
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("counts", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch; the arguments are those of ``confusion_matrix``."""
        self.counts = self.counts + confusion_matrix(prediction, truth, self.classes, valid)

    def compute(self) -> Tensor:
        """Return the (K, K) int64 counts of all processes; rows are the truth."""
        return self.counts


class ConcordanceCorrelation(Metric):
    """Concordance correlation of all utterances of a pass, per dimension, pooled over batches and processes.

    It is never an average over batches, which would be another number. See ``concordance`` for the definition.

    Args:
        dimensions: Number of dimensions D, at least 2 (torchmetrics squeezes a single value to a scalar).

    Example:
        >>> metric = ConcordanceCorrelation(2)
        >>> metric.update(torch.tensor([[0.0, 5.0], [1.0, 5.0]]), torch.tensor([[0.0, 1.0], [1.0, torch.nan]]))
        >>> metric.update(torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, 9.0]]))
        >>> metric.compute()
        tensor([0.6667, 0.0000], dtype=torch.float64)
    """

    is_differentiable = False
    full_state_update = False
    moments: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.add_state("moments", torch.zeros(dimensions, 6, dtype=torch.float64), dist_reduce_fx=_merge_all)

    def update(self, prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> None:
        """Take in a batch; the arguments are those of ``moments``."""
        self.moments = merge_moments(self.moments, moments(prediction, truth, valid))

    def compute(self) -> Tensor:
        """Return the (D,) float64 coefficients over all processes, NaN where no truth is known."""
        return concordance(self.moments)


def _merge_all(moments_of_processes: Tensor) -> Tensor:
    """Merge (processes, D, 6) into (D, 6), in the order of the ranks, so that every rank gets the same bits."""
    merged = moments_of_processes[0]
    for moments_of_process in moments_of_processes[1:]:
        merged = merge_moments(merged, moments_of_process)
    return merged
