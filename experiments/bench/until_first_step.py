"""A training that ends after its first step: ``python -m experiments.bench.until_first_step <experiment> key=value``.

It does what ``python -m experiments train`` does, and prints when the step was done, in seconds of the system's clock
that never goes back.
"""

import sys
import time

from experiments.config import load
from experiments.hush import hush


def main() -> None:
    """Trains for a step."""
    hush()
    config = load(sys.argv[1], sys.argv[2:])
    import torch
    from lightning import Callback, LightningModule, Trainer

    from experiments.run import train

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)
            print(time.monotonic(), flush=True)
            raise SystemExit(0)

    train(config, [Stop()])


if __name__ == "__main__":
    main()
