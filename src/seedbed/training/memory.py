"""Settings of malloc for training: by default it takes fresh pages for each large tensor, a tenth of a step's time."""

from __future__ import annotations

import ctypes

# constants of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let malloc reuse freed blocks of up to 1 GiB instead of returning them; without glibc do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
