"""The rows of the table, a file each; to add one: write its file, and its key into ``KEYS``."""

import importlib
import pkgutil

from experiments.bench import core

KEYS = (
    "loop_ratio",
    "loader_ratio",
    "loader_vs_peers",
    "epoch_vs_peer",
    "first_step_seconds",
    "batch_time_growth",
    "memory_growth_mb",
    "manifest_rows_per_s",
    "ravdess_fold_seconds",
    "step_of_floor",
    "real_time_factor",
)
"""Names of the rows, in the order in which they are measured and shown."""

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

ROWS = {key: core.ROWS[key] for key in KEYS if key in core.ROWS}
"""All rows by name, in the order of ``KEYS``."""
