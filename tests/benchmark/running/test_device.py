"""Which device is meant, that the CPU touches no other, and that records of another precision are measured anew."""

import json

import pytest
import torch

from benchmark.planning import options
from benchmark.planning.suite import UsageError


@pytest.fixture
def _gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["cuda:", "cuda:²", "cuda:-1", "cuda:1:2", "gpu", "mps", "mps:0", "xpu", "CUDA"])
@pytest.mark.usefixtures("_gpus")
def test_what_is_no_device_is_one_line(name):
    with pytest.raises(UsageError, match=f"^--device {name}: .*valid are auto, cpu, cuda and cuda:0, cuda:1, ...$"):
        options.device_of(name)


@pytest.mark.usefixtures("_gpus")
def test_a_gpu_that_is_not_there_is_one_line():
    with pytest.raises(UsageError, match=r"^--device cuda:2: there are 2 GPUs here; --device cpu runs without one$"):
        options.device_of("cuda:2")


@pytest.mark.parametrize(
    ("name", "wanted", "told"), [("auto", "cuda", 1), ("cuda", "cuda", 1), ("cuda:1", "cuda:1", 0)]
)
@pytest.mark.usefixtures("_gpus")
def test_of_several_gpus_one_is_taken_and_it_is_told(name, wanted, told, capsys):
    assert options.device_of(name) == wanted
    assert capsys.readouterr().err.count("note: there are 2 GPUs here") == told


def test_the_cpu_touches_no_cuda(trial, monkeypatch):
    def refused(*_, **__):
        raise RuntimeError("CUDA was touched")

    # torch's own optimisers ask `is_available`: all that asks for more is ours
    names = ("_lazy_init", "device_count", "current_device", "synchronize", "empty_cache")
    names += ("get_device_name", "get_device_properties", "get_device_capability", "is_tf32_supported")
    for name in names:
        monkeypatch.setattr(torch.cuda, name, refused)
    assert trial.run("--device", "cpu") == 0
    written = [json.loads(path.read_text()) for path in trial.results.rglob("*.seed0.json")]
    assert {record["provenance"]["gpu"] for record in written} == {None}


def test_another_precision_is_measured_anew_and_told_in_one_line(trial, monkeypatch, capsys):
    assert trial.run("--methods", "msp", "lowlevel") == 0
    before = trial.records()
    capsys.readouterr()
    monkeypatch.setattr(options.precision, "resolve", lambda asked, device, **_: "bf16")
    assert trial.run("--methods", "msp", "lowlevel") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert told == ["note: 1 rows were measured with precision 32: they are measured anew with bf16"]
    after = trial.records()
    networks = {name for name, record in after.items() if record["precision"] == "bf16"}
    assert networks == {name for name, record in after.items() if record["row"].startswith("msp")}
    for name in before.keys() - networks:
        assert after[name]["metrics"] == before[name]["metrics"]
