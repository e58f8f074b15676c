"""Freed memory that stays with the process, and memory that has run out."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from methods.device import memory

# In a process of its own: what others freed before is trimmed with it. It asks for blocks as torch does, whose
# import would take two seconds.
SCRIPT = """
import ctypes, resource, runpy, sys, types
sys.modules["torch"] = types.ModuleType("torch")
runpy.run_path("methods/device/memory.py")["keep_freed"]()
libc, block = ctypes.CDLL(None), ctypes.c_void_p()
def ones():
    libc.posix_memalign(ctypes.byref(block), ctypes.c_size_t(64), ctypes.c_size_t(64 << 20))  # 16,384 pages
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
for _ in range(20):  # aligned blocks leave gaps: the first few find none that is large enough
    ones()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    ones()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_large_block_is_used_again_without_new_pages() -> None:
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    assert platform.libc_ver()[0] != "glibc" or int(run.stdout) < 4000  # other allocators are left as they are


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_every_form_of_out_of_memory_is_known(error: BaseException) -> None:
    assert memory.out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        ValueError("out of memory"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not memory.out_of_memory(error)
