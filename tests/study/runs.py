"""Run folders as a training leaves them, as far as records are made of them."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.config import Config, save
from experiments.files import BEST, digest

ROWS = (
    ("a", "calm", "calm"),
    ("a", "calm", "happy"),
    ("b", "happy", "happy"),
    ("a", "happy", "happy"),
    ("b", "sad", "calm"),
)
"""Speaker, truth and prediction of test utterances."""


def write_run(folder: Path, config: Config, uar: float = 0.5, command: str = "python -m experiments train") -> Path:
    """Writes the folder of a finished run.

    Args:
        folder: New.
        config: Of the run.
        uar: On development speakers.
        command: That made it.
    """
    folder.mkdir(parents=True)
    save(config, folder / "config.yaml")
    results = {
        "best_epoch": 3,
        "parameters": 1234,
        "labelled": 960,
        "device": "cpu",
        "train_seconds": 61.26,
        "dev": {"uar": uar, "ccc": {"activation": 0.5, "valence": 0.25, "dominance": None}},
    }
    environment = {
        "command": command,
        "git": {"commit": "4c1b09c", "dirty": True},
        "machine": {"cpu_capability": "AVX2"},
        "teachers": {teacher: digest(Path(teacher, BEST)) for teacher in config.trainer.teachers},
    }
    (folder / BEST).parent.mkdir()
    (folder / BEST).write_text(repr(config))
    for name, content in (("results", results), ("environment", environment)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    write_predictions(folder, ["speaker", "truth", "prediction"], ROWS)
    return folder


def write_predictions(folder: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Writes the predictions of test utterances."""
    lines = [",".join(map(str, row)) for row in (header, *rows)]
    (folder / "predictions_test.csv").write_text("\n".join([*lines, ""]))
