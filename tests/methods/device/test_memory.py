"""Freed memory that stays with the process, and memory that has run out."""

import platform
import resource
from pathlib import Path

import pytest
import torch

from methods.device import memory
from tests.apart import Apart

PAGES = 1 << 14  # of 64 MiB


def faults() -> int:
    """New pages that four blocks of 64 MiB take, one after another."""
    memory.keep_freed()
    for _ in range(20):  # aligned blocks leave gaps: the first few find none that is large enough
        torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_large_block_is_used_again_without_new_pages(tmp_path: Path) -> None:
    """In a process of its own: what others freed before is trimmed with it."""
    status, said, _ = Apart(lambda: print(faults()), tmp_path).wait()
    assert status == 0
    assert platform.libc_ver()[0] != "glibc" or int(said) < PAGES / 4  # other allocators are left as they are


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


def test_what_fails_because_memory_ended_says_so_as_well() -> None:
    """A capture that is cut short raises at its own end; what was told in one line is done with."""

    def capture(*, told: bool) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError:
            if told:
                raise RuntimeError("training vae: lower batch_size") from None
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")  # noqa: B904

    for told in (False, True):
        with pytest.raises(RuntimeError) as found:
            capture(told=told)
        assert memory.out_of_memory(found.value) != told
