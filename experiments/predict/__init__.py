"""A trained model applied to recordings: in Python (``load``), and by the command ``predict``."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.predict.recogniser import Recogniser


def load(place: str | Path, *, accelerator: str = "auto", calibrate: bool = True) -> "Recogniser":
    """Reads a trained model.

    Args:
        place: A run folder, a checkpoint in one, or a folder that ``make export`` wrote.
        accelerator: ``auto`` (a GPU if there is one), ``cpu``, ``gpu``, ``cuda`` or ``mps``.
        calibrate: Whether probabilities are calibrated; without, they are those of ``predictions_test.csv``.

    Returns:
        A recogniser, which is called with samples and their rate.

    Raises:
        InputError: There is no model, its files are damaged, or the machine has no such accelerator.
    """
    from experiments.importing import importing

    with importing():  # as late as this: what is wrong with a command line is told before
        from experiments.predict.model import device_of, read_model
        from experiments.predict.recogniser import Recogniser
    return Recogniser(read_model(Path(place), calibrate), device_of(accelerator))
