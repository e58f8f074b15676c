"""What becomes of freed memory: kept for the next use, as the maps of a network are the same from batch to batch."""

import ctypes
import sys
from functools import cache

KEPT_BYTES = 1 << 30
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


@cache
def keep_freed() -> None:
    """Have this process keep up to 1 GiB of freed memory, in place of giving every large block back at once.

    glibc asks the kernel anew for each block above 32 MiB, and the kernel clears it page by page: on 2 cores
    three quarters of a forward pass (64 images, EfficientNet-Lite0 at 224) went there. Other systems' malloc is
    left as it is.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
