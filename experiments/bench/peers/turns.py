"""How a peer's process talks with the bench: it reads a job, then measures once for each line it is sent."""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NoReturn


class Turns:
    """The peer's side of the talk: one line of JSON each way.

    Attributes:
        job: What is to be measured: ``task`` (``loader`` or ``epoch``), and what that needs.
    """

    def __init__(self) -> None:
        # What libraries print is no answer: from here on it goes where the errors go.
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self.job: dict[str, Any] = json.loads(sys.stdin.readline())

    def next(self, answer: dict[str, Any]) -> None:
        """Answers, and waits to be asked again; ends the process when no one will ask.

        Args:
            answer: At first what there is to tell of the peer, then ``{"value": …}``.
        """
        print(json.dumps(answer), file=self._answers, flush=True)
        if not sys.stdin.readline():
            # Not sys.exit: the training in whose middle this is would tidy up, or go on.
            sys.stdout.flush()
            os._exit(0)


def measure_loader(turns: Turns, loader: Any, size: Callable[[Any], int], **details: Any) -> NoReturn:
    """Goes through a loader once each turn; what it answers are utterances a second.

    Args:
        turns: The talk.
        loader: Yields the batches of an epoch, as often as it is gone through.
        size: Utterances of a batch.
        details: What there is to tell.
    """
    turns.next(details)
    while True:
        started = time.perf_counter()
        utterances = sum(size(batch) for batch in loader)
        turns.next({"value": utterances / (time.perf_counter() - started), "utterances": utterances})


def mega_multiply_adds(model: Any, *inputs: Any) -> float:
    """Millions of multiplications and additions of a forward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(*inputs)
    model.train(training)
    return float(counter.get_total_flops()) / 2e6


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of packages."""
    return {package: version(package) for package in packages}
