"""`ravdess_fold_seconds`: a whole training, and whether its scores are those of the README."""

import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from experiments.bench.core import Bench, Figure, Measurement, Repeats, SkippedError, at_least, at_most, row
from experiments.bench.processes import offline
from experiments.files import read_json

PUBLISHED = Path(__file__).parents[1] / "published.yaml"


@row(
    "ravdess_fold_seconds",
    "training of `ravdess_cat` fold 0, seed 0, on all cores, once, beside the run in the README",
    at_most(240),
)
def ravdess_fold_seconds(bench: Bench) -> Measurement:
    """Trains once, through the command line."""
    root = bench.corpora("ravdess", "librispeech")
    if bench.quick:
        raise SkippedError("takes minutes: leave quick=true out")
    published = cast(DictConfig, OmegaConf.load(PUBLISHED))
    run = f"{datetime.now():%Y%m%d-%H%M%S}-fold0-seed0"  # kept: a score without its run cannot be looked into
    own = [f"data.root={root}", f"output={bench.output}", f"run={run}", "split.fold=0", "seed=0", "trainer.test=true"]
    command = [sys.executable, "-m", "experiments", "train", "ravdess_cat", *bench.settings, *own]
    started = time.monotonic()
    subprocess.run(command, check=True, env=offline(), stdout=sys.stderr)
    wall = time.monotonic() - started
    folder = Path(bench.output, "ravdess_cat", run)
    results = read_json(folder / "results.json")
    here = "this run"
    uar = {
        f"{split}_uar": Figure(
            round(results[split]["uar"], 3),  # as many digits as the README gives
            Repeats(here, "UAR", [results[split]["uar"]]),
            Repeats(published.what, "UAR", [published[f"{split}_uar"]]),
            at_least(published[f"{split}_uar"]),
        )
        for split in ("dev", "test")
    }
    seconds = [
        Figure(value, Repeats(f"{here}, {what}", "s", [value]), Repeats(published.what, "s", [published.train_seconds]))
        for what, value in (("training", results["train_seconds"]), ("from the command to its end", wall))
    ]
    return Measurement(
        seconds[0],
        also={"wall": seconds[1], **uar},
        details={
            "published": OmegaConf.to_container(published),
            "best_epoch": results["best_epoch"],
            "run": str(folder),
        },
    )
