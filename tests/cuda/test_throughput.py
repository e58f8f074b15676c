"""A repeat ends when the GPU has ended, not when it has been told."""

import pytest
import torch

from benchmark.records.throughput import measure


def test_a_real_gpu_is_waited_for(device: str) -> None:
    if device == "cpu":
        pytest.skip("a CPU has no events")
    matrix = torch.ones(4096, 4096, device=device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def work() -> None:
        start.record()
        for _ in range(20):
            matrix @ matrix
        end.record()

    speed = measure(work, 1, device=device, repeats=1)
    assert speed.seconds[0] >= start.elapsed_time(end) / 1000
