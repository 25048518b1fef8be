"""What the processes that share a batch know together; a single process knows it all by itself.

Lightning's DDP averages the gradients of the processes. So that these are the gradients of the whole batch, each
process divides its sums by its even share of what all of them count (``mean``), and what is no sum over utterances,
such as a correlation, is made from the sums of all (``total``).
"""

import torch
import torch.distributed.nn.functional
from torch import Tensor, distributed


def count() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this one, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def leave() -> None:
    """Ends what connects the processes: the interpreter's own end may come upon its threads and abort."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def total(x: Tensor) -> Tensor:
    """Sum over the processes, through which gradients come back from all of them."""
    if count() == 1:
        return x
    summed: Tensor = torch.distributed.nn.functional.all_reduce(x)  # type: ignore[no-untyped-call]
    return summed


def mean(x: Tensor) -> Tensor:
    """Mean over the processes, without gradient; float32 where there are several."""
    if count() == 1:
        return x
    summed = x.detach().float().clone()
    distributed.all_reduce(summed)
    return summed / count()


def stacked(x: Tensor) -> Tensor:
    """What each process has, (processes, …), without gradient."""
    x = x.detach().contiguous()
    if count() == 1:
        return x[None]
    parts = [torch.empty_like(x) for _ in range(count())]
    distributed.all_gather(parts, x)
    return torch.stack(parts)
