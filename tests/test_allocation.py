"""What tensors free is taken again by the next ones, and not cleared anew by the system."""

import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from experiments.allocation import keep_freed_memory

if {keep}:
    keep_freed_memory()

def step():
    tensors = [torch.ones(5 << 20) for _ in range(4)]  # of 20 MB each
    return sum(tensor[0] for tensor in tensors)

step(), step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run([sys.executable, "-c", STEPS.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc's own")
def test_freed_memory_is_used_again() -> None:
    given_back = faults(keep=False)
    assert given_back > 10_000  # 80 MB are 20 thousand pages: else there would be nothing to gain
    assert faults(keep=True) < given_back / 4
