"""Processes that work for another one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

_PARENT = """
from datamodules.processes import work_off
from tests.test_processes import own_id

if __name__ == "__main__":
    for [number] in work_off(own_id, ([job] for job in range(10**9)), own_id, workers=2):
        print(number, flush=True)
"""


def own_id(_: int) -> int:
    """The number of the process that does the work."""
    return os.getpid()


def test_they_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, script], env=here, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail(f"process {worker} went on without its parent")
