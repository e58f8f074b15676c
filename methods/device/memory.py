"""What becomes of freed memory, which is kept for the next use, and how one sees that there is none left."""

import ctypes
import sys
from functools import cache

import torch

KEPT_BYTES = 1 << 30
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
# A GPU's memory can also end in a library that asks for a workspace of its own, and then tells it in its own words.
_OUT_OF_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine",  # cuDNN, where no algorithm's workspace fits
)


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


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device has no memory left, in whichever of the forms that torch has for it.

    Or follows one that does: a capture that memory ended then fails to end as well, and that is what arrives.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    before = None if error.__suppress_context__ else error.__context__
    said = any(form.lower() in str(error).lower() for form in _OUT_OF_MEMORY)
    return said or (before is not None and out_of_memory(before))
