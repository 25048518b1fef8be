"""How the C library keeps the memory of tensors that are gone."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MEGABYTE = 1 << 20


def keep_freed_memory() -> None:
    """Has glibc keep what tensors free, for the next ones; other C libraries are left as they are.

    By itself glibc asks the system for each large block and gives it back at once. A training step frees and takes
    hundreds of them, and the system clears every page anew: on CPUs that is a tenth of a step and more. What is kept is
    no more than what the step before needed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, 32 * _MEGABYTE)  # more than that is refused
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * _MEGABYTE)
