"""What a record says of the machine: of GPUs the one that was used, and for the CPU none is asked."""

from pathlib import Path

import pytest
import torch

from benchmark.records import provenance


@pytest.mark.parametrize(
    "said",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 12\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build  (dvs-builder)\n",
    ],
)
def test_a_gpu_is_the_one_of_the_run(said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(said)
    monkeypatch.setattr(provenance, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 << 29)
    wanted = {"gpu": "GPU of cuda:1", "gpu_capability": "9.0", "gpu_driver": "535.104.05", "gpu_peak_gib": 1.5}
    for found in (provenance.provenance(device="cuda:1"), provenance.training("cuda:1")):
        assert {name: found[name] for name in wanted} == wanted
        assert found["device"] == "cuda:1"


def test_without_a_driver_that_says_it_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance, "DRIVER", tmp_path / "absent")
    assert provenance._driver() is None


def test_for_the_cpu_no_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*device: object) -> None:
        pytest.fail("CUDA was touched")

    for name in ("is_available", "get_device_name", "get_device_capability", "max_memory_allocated", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, refused)
    assert provenance.provenance(device="cpu")["gpu"] is None
    assert provenance.training("cpu")["gpu"] is None
