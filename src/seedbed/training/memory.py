"""Keep freed memory: malloc otherwise takes fresh pages for each large tensor, a tenth of a step's time."""

from __future__ import annotations

import ctypes

from seedbed.startup import PLAIN

# option numbers of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let malloc reuse freed blocks of up to 1 GiB instead of returning them; no effect without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and not PLAIN:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
