"""Normalisation layers for (batch, channels, bands, frames)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lightning_modules import processes

NORMALISATIONS = ("batch", "group")


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He, ECCV 2018) by the statistics of an utterance's valid frames alone."""

    GROUPS = 8

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = math.gcd(self.GROUPS, channels)
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, bands, frames) to the same; ``mask`` (batch, 1, 1, frames) marks the valid frames."""
        grouped, mask = torch.unflatten(x.float(), 1, (self.groups, -1)), mask[:, None]
        over = (2, 3, 4)
        count = mask.expand_as(grouped).sum(over, keepdim=True)
        mean = (grouped * mask).sum(over, keepdim=True) / count
        centred = grouped - mean
        variance = (centred.square() * mask).sum(over, keepdim=True) / count
        normal = (centred * (variance + 1e-5).rsqrt()).flatten(1, 2)
        return torch.addcmul(self.bias, normal, self.weight)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) by the statistics of the batch that all processes share.

    ``SyncBatchNorm``, which DDP refuses on CPUs, does this on GPUs alone: there, it is what is used.
    """

    alone = False
    """Whether each process goes by what it has itself, which is then to be the same in all of them."""
    process_group = None
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, bands, frames) to the same."""
        # A process group may be there and still not be asked: in evaluation, and in ``statistics_anew``.
        if not self.training or self.alone or processes.count() == 1:
            return super().forward(x)
        if x.is_cuda:
            return nn.SyncBatchNorm.forward(self, x)  # type: ignore[arg-type]
        normal, mean, variance, count = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.eps
        )
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return normal  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """Normalises by mean and variance over all processes; keeps no more in memory than PyTorch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = x.float()
        count = torch.tensor(float(values.numel() // values.shape[1]))
        distributed.all_reduce(count)
        mean = values.sum(_OVER)
        distributed.all_reduce(mean)
        mean /= count
        variance = (values - _wide(mean)).square_().sum(_OVER)
        distributed.all_reduce(variance)
        variance /= count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, count)
        factor = weight * scale
        normal = torch.addcmul(_wide(bias - mean * factor), values, _wide(factor)).to(x.dtype)
        ctx.mark_non_differentiable(mean, variance, count)
        return normal, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, count = ctx.saved_tensors
        gradient = gradients[0].float()
        centred = x.float() - _wide(mean)
        of_bias, of_centred = gradient.sum(_OVER), (gradient * centred).sum(_OVER)
        sums = torch.stack([of_bias, of_centred])
        distributed.all_reduce(sums)
        slope, curve = sums / count
        of_x = gradient - _wide(slope) - centred * _wide(curve * scale.square())
        return (of_x * _wide(weight * scale)).to(x.dtype), of_centred * scale, of_bias, None


_OVER = (0, 2, 3)


def _wide(x: Tensor) -> Tensor:
    return x[:, None, None]


def normalisation(kind: str, channels: int) -> nn.Module:
    """A normalisation layer for (batch, channels, bands, frames)."""
    return BatchNorm(channels) if kind == "batch" else GroupNorm(channels)


def normalise(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Applies what ``normalisation`` made; ``mask`` (batch, 1, 1, frames) marks the valid frames."""
    normal: Tensor = norm(x, mask) if isinstance(norm, GroupNorm) else norm(x)
    return normal


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leaves the running statistics of batch normalisation as they are; batches are still normalised by their own."""
    norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def statistics_anew(module: nn.Module) -> Iterator[None]:
    """Takes the running statistics of batch normalisation as the mean over the batches that go through.

    Each process is to be given all of them.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.alone = True
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.alone = False
            norm.eval()
