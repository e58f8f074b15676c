"""Whole runs: one device's cache serves the other, little memory is enough, two processes share one GPU."""

import copy
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import run_all
from tests.performance import paired

ROOT = Path(__file__).parents[2]
SUITE: dict[str, Any] = {
    "title": "A trial on digits",
    "id": {"set": "digits"},
    "ood": [{"set": "letters"}],
    "encoders": {
        "net": {"kind": "classifier", "settings": {"architecture": "resnet8", "epochs": 1, "augment": "none"}},
        "pixels": {"kind": "pixels", "settings": {"resolution": 32}},
    },
    "rows": [
        {"method": "msp", "encoder": "net"},
        {"method": "knn", "encoder": "net", "settings": {"k": 5}},
        {"method": "mahalanobis", "encoder": "net"},
        {"name": "mse", "method": "dlsr", "encoder": "net", "settings": {"measure": "mse", "blocks": 1, "epochs": 2}},
        {"method": "lowlevel", "encoder": "pixels"},
    ],
}


def command(suite: dict[str, Any], folder: Path, limit: int) -> list[str]:
    path = folder / "mini.yaml"
    path.write_text(yaml.safe_dump(suite))
    where = ["--results", str(folder / "results"), "--data", str(folder), "--weights", str(folder)]
    return ["--id", str(path), *where, "--limit", str(limit), "--limit-train", "120", "--precision", "32"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return command(SUITE, tmp_path, 60)


def metrics(folder: Path) -> dict[str, float]:
    found = [json.loads(path.read_text()) for path in (folder / "results").rglob("*.seed0.json")]
    assert {record["status"] for record in found} == {"done"}
    return {record["row"]: record["metrics"]["auroc"] for record in found}


@pytest.mark.parametrize("first", [True, False])
def test_the_cache_of_one_device_serves_the_other(
    first: bool, arguments: list[str], device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = (device, "cpu") if first else ("cpu", device)
    assert run_all.main([*arguments, "--no-speed", "--device", devices[0]]) == 0
    before = metrics(tmp_path)
    for path in (tmp_path / "results").rglob("*.seed0.json"):
        path.unlink()  # the records, not the cache
    capsys.readouterr()
    assert run_all.main([*arguments, "--no-speed", "--device", devices[1]]) == 0
    assert "images encoded" not in capsys.readouterr().err
    assert metrics(tmp_path) == before


def test_little_memory_is_enough(device: str, tmp_path: Path) -> None:
    """Encode, fit, score and time with what is there now and 192 MiB more.

    Libraries take 64 of these for their workspaces; a map of the first stage has 64 KiB an image, 256 MiB for a batch
    of 4,096. The network comes from a file: a training that does not fit is an error.
    """
    suite = copy.deepcopy(SUITE)
    suite["encoders"]["net"]["settings"] = {"architecture": "resnet8", "checkpoint": "net"}
    paired.save_classifier(tmp_path / "net.safetensors", "resnet8")
    if device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        share = (torch.cuda.memory_reserved(device) + (192 << 20)) / total
        torch.cuda.set_per_process_memory_fraction(share)
    try:
        assert run_all.main([*command(suite, tmp_path, 700), "--device", device, "--batch-size", "4096"]) == 0
    finally:
        if device != "cpu":
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(metrics(tmp_path)) == len(suite["rows"])
    speeds = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("speed.json")]
    used = [speed["batch_size"] for speed in speeds if speed["encoder"] == "net"]
    assert len(used) == len(suite["rows"]) - 1
    assert device == "cpu" or max(used) < 4096


@pytest.mark.timeout(1200)  # two whole runs: on a machine with other work each takes minutes
def test_two_processes_share_one_gpu(arguments: list[str], device: str, tmp_path: Path) -> None:
    run = [sys.executable, "run_all.py", *arguments, "--no-speed", "--device", device]
    how: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(run, **how) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(metrics(tmp_path)) == len(SUITE["rows"])
