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

def step(number):
    # From 20 to 27 MB each: glibc by itself takes a block larger than any that was freed before straight from the
    # system. What it does with smaller ones depends on what else happens to lie at the end of its heap.
    tensors = [torch.ones((5 << 20) + (number << 17)) for _ in range(4)]
    return sum(tensor[0] for tensor in tensors)

for number in range(3):
    step(number)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(3, 13):
    step(number)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run([sys.executable, "-c", STEPS.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc's own")
def test_freed_memory_is_used_again() -> None:
    # No number of pages: they may be of 4 kB or of 2 MB.
    assert faults(keep=True) < faults(keep=False) / 4
