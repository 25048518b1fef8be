"""What every test relies on: one thread, no GPU, no network, and nothing written outside pytest's temporary folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

# Set before anything imports torch, and inherited by the processes that tests start: two workers share two cores.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", MPLBACKEND="Agg")

# The same examples in every run, however slow the machine: a failure is there again when one looks for it.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

# Read here, since the product reads it too: no test but those of real corpora may find the user's.
REAL_DATA = os.environ.get("SER_AAE_DATA")

# A cluster's variables would make Lightning believe that it was started by the cluster's launcher.
LAUNCHER_PREFIXES = ("SLURM_", "TORCHELASTIC_", "OMPI_", "PMI_")
# `make test` would hand its own variables to those that tests call.
OF_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", "SBATCH_ARGS"}
LAUNCHER_NAMES = {"RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def pytest_configure(config: pytest.Config) -> None:
    """Keep hypothesis's files with pytest's own, out of the project's root."""
    if config.pluginmanager.hasplugin("cacheprovider") and config.cache is not None:
        set_hypothesis_home_dir(config.cache.mkdir("hypothesis"))


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's W&B account, corpora and cluster out of the tests, from before the first fixture on."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in LAUNCHER_NAMES | OF_MAKE or name.startswith((*LAUNCHER_PREFIXES, "WANDB_", "SER_AAE_")):
                patch.delenv(name)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(folder))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora, for the tests that look at them."""
    if not REAL_DATA:
        pytest.skip("real corpora are looked at only where SER_AAE_DATA names their folder")
    return Path(REAL_DATA).resolve()
