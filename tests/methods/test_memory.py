import platform
import resource

import pytest
import torch

from methods import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_a_large_block_is_used_again_without_new_pages() -> None:
    memory.keep_freed()
    torch.ones(1 << 24)  # 64 MiB: 16,384 pages
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 24)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4000
