"""A cluster for the tests of this folder."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Nothing is installed here: what is missing is told."""
    if names := missing():
        pytest.exit(
            f"SLURM is not complete on this machine: there is no {', '.join(names)}. On Debian: "
            "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge",
            returncode=2,
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the cluster is ended then, too
    # Short, and not pytest's: a socket's path has a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Cluster(Path(folder)) as found:
        yield found
