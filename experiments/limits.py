"""Which numbers settings may be, so that a wrong one is told at once and not by what it breaks."""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

_ANY = math.inf

RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "data.labelled_seed": (0, 2**32 - 1),
    "data.quota": (1, _ANY),
    "data.auxiliary.*.quota": (1, _ANY),
    "data.labelled_share": (1e-9, 1),
    "data.auxiliary_share": (0, 1),
    "data.steps": (0, _ANY),
    "data.agreeing_raters": (0, _ANY),
    "data.crop_s": (0.1, _ANY),
    "data.evaluation_batch": (1, _ANY),
    "data.workers": (-1, _ANY),
    "data.decoded_gb": (0, _ANY),
    "data.max_bad_fraction": (0, 1),
    "split.adaptation_speakers": (0, _ANY),
    "model.features.sample_rate": (4000, 192_000),
    "model.features.mels": (8, 512),
    "model.features.window_ms": (1, 1000),
    "model.features.hop_ms": (1, 1000),
    "model.augmentation.speed": (0, 0.9),
    "model.augmentation.noise": (0, 1),
    "model.augmentation.noise_snr_db.*": (-100, 100),
    "model.encoder.channels.*": (1, _ANY),
    "model.encoder.layers.*": (1, _ANY),
    "model.encoder.attention": (1, _ANY),
    "model.code.*": (1, _ANY),
    "model.decoder.channels": (1, _ANY),
    "model.adversary.hidden": (1, _ANY),
    "model.heads.*.label_smoothing": (0, 1),
    "model.heads.*.margin": (0, math.pi / 2),
    "model.*.dropout": (0, 0.99),
    "model.consistency.temperature": (0.01, _ANY),
    "model.consistency.threshold": (0, 1),
    "model.window_s": (0.1, _ANY),
    "model.optimiser.*learning_rate": (1e-9, 10),
    "model.optimiser.warm_up": (0, 1),
    "model.*": (0, _ANY),
    "schedule.warm_up": (0, 1),
    "schedule.ramp": (0, 1),
    "schedule.noise_decay": (0, 1),
    "schedule.consistency": (0, 1),
    "schedule.cadence": (1, _ANY),
    "schedule.*": (0, _ANY),
    "trainer.epochs": (1, _ANY),
    "trainer.devices": (1, _ANY),
    "trainer.num_nodes": (1, _ANY),
    "trainer.average": (0, 0.999999),
    "trainer.*": (0, _ANY),
}
"""Lowest and highest value; the first pattern that fits a setting counts, and none may be infinite."""


def leaves(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every single value of nested dicts and lists with its dotted key, as in ``data.auxiliary.0.quota``."""
    if isinstance(settings, dict):
        inner = list(settings.items())
    elif isinstance(settings, list | tuple):
        inner = list(enumerate(settings))
    else:
        yield key, settings
        return
    for name, value in inner:
        yield from leaves(value, f"{key}.{name}" if key else str(name))


def out_of_range(key: str, value: Any) -> str | None:
    """Which numbers the setting ``key`` may be, in words, if ``value`` is a number and none of them."""
    if not isinstance(value, int | float):
        return None
    low, high = next((limits for pattern, limits in RANGES.items() if fnmatchcase(key, pattern)), (-_ANY, _ANY))
    if math.isfinite(value) and low <= value <= high:
        return None
    if math.isinf(low):
        return "a finite number"
    return f"{low:g} or more" if math.isinf(high) else f"a number from {low:g} to {high:.10g}"
