"""A training step taken apart: its operations, its bytes, and the machine's best at both."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datamodules.batch import LABELLED
from experiments.config import Config
from experiments.run import make_data, make_module, prepare_machine

_MOVES_NOTHING = ("_unsafe_view", "empty", "new_empty")
"""Beside views: what PyTorch does not call a view, or leaves as it was."""


class Bytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operations read and write, each tensor once an operation: no cache could do with less.

    Attributes:
        total: Bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts its tensors."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view and not str(func).removeprefix("aten.").startswith(_MOVES_NOTHING):
            tensors = (leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


class Step:
    """The step of an experiment, on one real batch in memory.

    Args:
        config: Of the experiment; ``trainer.precision`` is settled.

    Attributes:
        batch: The batch.
        precision: What its multiplications are computed in.
    """

    def __init__(self, config: Config) -> None:
        prepare_machine(config.trainer)
        self.precision = torch.bfloat16 if config.trainer.precision == "bf16-mixed" else torch.float32
        data = make_data(config)
        self.module = make_module(config, data).train()
        self.optimiser = self.module.configure_optimizers()["optimizer"]
        self.batch = next(iter(data.train_dataloader()))

    def autocast(self) -> torch.autocast:
        """The context that steps and their parts run in."""
        return torch.autocast("cpu", self.precision, enabled=self.precision == torch.bfloat16)

    def run(self) -> None:
        """Runs the step: forwards, backwards, update."""
        self.optimiser.zero_grad()
        with self.autocast():
            loss = self.module.training_step(self.batch, 0)["loss"]
        torch.autograd.backward(loss)
        self.optimiser.step()

    def parts(self) -> dict[str, Callable[[], Any]]:
        """Parts of the step that can be run by themselves; what is learnt forwards and backwards."""
        module, batch = self.module, self.batch
        view = module.view(batch)
        code = module.encode(view.seen, view.frames, batch.sizes[LABELLED]).detach()
        parts: dict[str, Callable[[], Any]] = {
            "features of all utterances": lambda: module.features(batch.waveform, batch.length),
            "view (features, noise, warp, masks)": lambda: module.view(batch),
            "encoder": lambda: _backward(module.encode(view.seen, view.frames, batch.sizes[LABELLED])),
            "optimiser": self.optimiser.step,
        }
        if module.decoder is not None:
            decoder = module.decoder
            parts["decoder"] = lambda: _backward(decoder(code, view.frames, view.clean.shape[-1]))
        x, frames = view.seen[:, None].contiguous(memory_format=torch.channels_last), view.frames
        for index, block in enumerate(module.encoder.blocks):
            parts[f"encoder, block {index + 1}"] = _both_ways(block, x, frames)
            x, frames = block(x, frames)
            x = x.detach().requires_grad_()
        return parts


def _both_ways(block: nn.Module, x: Tensor, frames: Tensor) -> Callable[[], None]:
    return lambda: _backward(block(x, frames)[0])


def _backward(result: Tensor) -> None:
    torch.autograd.backward(result.sum())


def best_multiplication(precision: torch.dtype, size: int = 1024, times: int = 20) -> float:
    """Operations a second of large matrix products, by all threads: the most that convolutions could reach."""
    a, b = (torch.randn(size, size, dtype=precision) for _ in range(2))
    return times * 2 * size**3 / _seconds(lambda: a @ b, times)


def best_bandwidth(numbers: int = 1 << 26, times: int = 5) -> float:
    """Bytes a second, read and written, of copies that are larger than the caches, by all threads."""
    a, b = torch.zeros(numbers), torch.zeros(numbers)
    return times * 2 * 4 * numbers / _seconds(lambda: a.copy_(b), times)


def _seconds(run: Callable[[], Any], times: int) -> float:
    run()
    started = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - started
