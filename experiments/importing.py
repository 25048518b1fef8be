"""Imports what is heavy, at the least cost."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(with_wandb: bool = False) -> Iterator[None]:
    """Speeds up the first import of PyTorch and Lightning within the block.

    What modules hold stays for good: to search those many objects for garbage takes a fifth of the time of the imports.
    They are frozen after it, so that no later search, and no worker process that searches, touches them.

    Args:
        with_wandb: Also imports Weights & Biases, which looks at all modules there are for each of its own classes:
            beside those of PyTorch it takes three times as long.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        if with_wandb:
            import wandb.apis.public  # noqa: F401  (wandb.init would import it)
        yield
    finally:
        gc.freeze()
        gc.enable()
