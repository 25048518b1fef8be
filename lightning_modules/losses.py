"""Loss functions: stateless, on tensors, blind to missing labels.

Means are those of the batch that all processes share (see ``processes``). Where no utterance of a batch carries a
label, a loss is zero but still has a (zero) gradient: plain DDP needs one from every head at every step. None looks
into its tensors to choose its way, since a GPU would have to be waited for.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules import processes
from lightning_modules.features import frame_mask


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the labelled utterances.

    Args:
        logits: (batch, classes).
        target: Class of each utterance, (batch,), int64, -1 where missing; or the share of each class,
            (batch, classes), float, NaN where missing.
        weight: Weight of each class, (classes,); the mean is weighted by it, as in PyTorch.
        label_smoothing: Share of the target that is spread over all classes.

    Returns:
        A scalar, at least 0.
    """
    if target.dim() == 1:
        known = target >= 0
        counted = known if weight is None else weight[target.clamp(min=0)] * known
        loss = F.cross_entropy(
            logits.float(), target, weight, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )
    else:
        known = ~target.isnan().any(dim=1)
        target = target.nan_to_num()
        # PyTorch would divide the weighted sum by the number of utterances.
        counted = known if weight is None else (target @ weight) * known
        loss = F.cross_entropy(logits.float(), target, weight, reduction="none", label_smoothing=label_smoothing)
    return (loss * known).sum() / _positive(counted.sum())


def concordance_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """One minus the concordance correlation coefficient (Lin, Biometrics 1989), averaged over the dimensions.

    With means m, variances v (over n, not n - 1) and the covariance c: ``1 - 2 c / (v_x + v_y + (m_x - m_y)^2)``.

    Args:
        prediction: (batch, dimensions).
        target: (batch, dimensions), NaN where missing.

    Returns:
        A scalar in [0, 2]; dimensions with fewer than two labels in the batch are left out.
    """
    total = processes.total  # a correlation is that of the whole batch, whoever has it
    known = ~target.isnan()
    count = total(known.sum(0))
    usable = count > 1
    n = count.clamp(min=1)
    x = prediction.float() * known
    y = target.nan_to_num() * known
    mean_x, mean_y = total(x.sum(0)) / n, total(y.sum(0)) / n
    dx, dy = (x - mean_x) * known, (y - mean_y) * known
    covariance = total((dx * dy).sum(0)) / n
    spread = total(dx.square().sum(0)) / n + total(dy.square().sum(0)) / n + (mean_x - mean_y).square()
    ccc = 2 * covariance / spread.clamp(min=1e-8)
    return ((1 - ccc) * usable).sum() / _positive(usable.sum())


def additive_angular_margin(cosine: Tensor, target: Tensor, margin: float, scale: float) -> Tensor:
    """Cross-entropy with an additive angular margin (Deng et al., "ArcFace", CVPR 2019).

    Args:
        cosine: Cosines between utterance and class vectors, (batch, classes).
        target: (batch,), int64, -1 where missing.
        margin: Angle in radians that the true class is set back by.
        scale: What cosines are multiplied by to become logits.

    Returns:
        A scalar, at least 0.
    """
    cosine = cosine.float()
    own = cosine.gather(1, target.clamp(min=0)[:, None])
    angle = own.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    # Past pi the cosine would rise again and reward the worst angles.
    set_back = (angle + margin).clamp(max=torch.pi).cos()
    return cross_entropy(scale * cosine.scatter(1, target.clamp(min=0)[:, None], set_back), target)


def reconstruction_loss(reconstruction: Tensor, target: Tensor, frames: Tensor) -> Tensor:
    """Mean squared error over the valid frames and all bands, each utterance counting the same.

    Args:
        reconstruction: (batch, mels, frames).
        target: (batch, mels, frames).
        frames: Valid frames, (batch,).

    Returns:
        A scalar, at least 0; 1 is what the mean of a normalised log-mel would give.
    """
    mask = frame_mask(frames, target.shape[-1])[:, None]
    error = (reconstruction - target).square() * mask
    return (error.mean(1).sum(1) / frames).mean()


def divergence_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of Gaussian codes from the standard normal (Kingma and Welling, ICLR 2014).

    ``(mean^2 + variance - log variance - 1) / 2``, averaged over utterances and coordinates.

    Args:
        mean: (batch, code).
        log_variance: (batch, code).

    Returns:
        A scalar, at least 0.
    """
    return (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2


def consistency_loss(logits: Tensor, taught: Tensor, temperature: float, threshold: float) -> Tensor:
    """Mean cross-entropy with a teacher's probabilities, over the utterances that it is sure of.

    Args:
        logits: (batch, classes).
        taught: Probabilities, (batch, classes).
        temperature: What their logarithms are divided by, before they are normalised again.
        threshold: An utterance counts where the largest of ``taught`` is no less.

    Returns:
        A scalar, at least 0.
    """
    sure = taught.amax(1) >= threshold
    if temperature != 1:
        taught = (taught.clamp(min=1e-8).log() / temperature).softmax(1)
    loss = -(taught * logits.float().log_softmax(1)).sum(1)
    return (loss * sure).sum() / _positive(sure.sum())


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator (Goodfellow et al., NeurIPS 2014): 2 ln 2 = 1.39 where it cannot tell.

    Args:
        real: Logits of prior samples, (batch, 1).
        fake: Logits of codes, (batch, 1).

    Returns:
        A scalar, at least 0.
    """
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of the encoder, a scalar: how far from "prior" the logits (batch, 1) of its codes are."""
    return F.softplus(-fake.float()).mean()


def _positive(count: Tensor) -> Tensor:
    """What to divide by, the even share of what all processes count: where nothing was counted, the sum is zero too."""
    count = processes.mean(count)
    return count.clamp(min=1) if not count.is_floating_point() else torch.where(count > 0, count, 1.0)
