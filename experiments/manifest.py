"""Reads and checks the corpora of an experiment without training."""

import sys
from pathlib import Path

from rich.console import Console

from datamodules.datamodule import SpeechDataModule
from datamodules.report import print_report
from experiments.config import Config
from experiments.files import check_ours, make_folder, write_json


def manifest(config: Config) -> Path:
    """Builds the manifests, splits and checks; prints the data report, and last where it was saved.

    Returns:
        The file that the report was saved in.
    """
    data = SpeechDataModule(
        config.data, config.split, config.model.features.sample_rate, config.seed, config.model.tasks
    )
    data.prepare_data()
    data.setup()
    # In a file or a pipe rich would take 80 columns, and break most words of the tables.
    print_report(data.report, Console(width=None if sys.stdout.isatty() else 120))
    path = Path(config.output) / config.experiment / "data_report.json"
    make_folder(path.parent, new=False)
    check_ours(path, '"corpora": {')
    write_json(path, data.report)
    print(path, flush=True)
    return path
