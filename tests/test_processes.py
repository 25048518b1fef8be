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


UNGUARDED = """
from pathlib import Path
from datamodules.freshness import lock
from datamodules.processes import work_off

with lock(Path("held.lock")):
    print(list(work_off(abs, [[-1]] * 8, abs, 2)))
"""


def test_a_script_that_its_own_processes_would_run_again_ends(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert f"{script}: put what it does below `if __name__" in done.stderr
    assert "InputError: the processes that are to help do not start" in done.stderr
    assert not done.stdout
