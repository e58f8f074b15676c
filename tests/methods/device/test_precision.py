"""Which precision is meant, and the process' switches, which are as they were afterwards."""

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

from methods.device import precision
from methods.encoders.networks.inference import Placed
from methods.training.loop import train
from methods.training.recipe import Recipe


class GPU:
    """torch.cuda of a machine with GPUs of these abilities, as far as `resolve` asks."""

    def __init__(self, *tf32: bool) -> None:
        self.tf32, self.current = tf32, 0

    @contextlib.contextmanager
    def device(self, name: str) -> Any:
        before, self.current = self.current, torch.device(name).index or 0
        yield
        self.current = before

    def is_tf32_supported(self) -> bool:
        return self.tf32[self.current]

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return including_emulation or self.tf32[self.current]

    def get_device_name(self, name: str) -> str:
        return "Tesla T4"

    def device_count(self) -> int:
        return len(self.tf32)


@pytest.fixture
def _gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", GPU(True, False))


@pytest.mark.parametrize(
    ("asked", "device", "wanted"),
    [
        ("auto", "cpu", "32"),
        ("auto", "cuda", "tf32"),
        ("auto", "cuda:1", "32"),
        ("32", "cuda", "32"),
        ("tf32", "cuda:0", "tf32"),
        ("bf16", "cuda", "bf16"),
        ("bf16", "cpu", "bf16"),
    ],
)
@pytest.mark.usefixtures("_gpus")
def test_auto_is_tf32_where_that_gpu_has_it(asked: str, device: str, wanted: str) -> None:
    assert precision.resolve(asked, device) == wanted


@pytest.mark.parametrize(
    ("asked", "device", "said"),
    [
        ("tf32", "cpu", "precision tf32: only a GPU has it; take 32, or bf16"),
        ("tf32", "cuda:1", "precision tf32: Tesla T4 has none; take 32"),
        ("bf16", "cuda:1", "precision bf16: Tesla T4 has none; take 32"),
        ("16", "cpu", r"precision '16': did you mean 'bf16'\?"),
    ],
)
@pytest.mark.usefixtures("_gpus")
def test_what_a_device_has_not_is_refused_in_one_line(asked: str, device: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        precision.resolve(asked, device)


def test_where_a_job_may_get_any_gpu_all_must_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for tf32, wanted in (((True, True), "tf32"), ((True, False), "32")):
        monkeypatch.setattr(torch, "cuda", GPU(*tf32))
        assert precision.resolve("auto", "cuda", every=True) == wanted
    with pytest.raises(ValueError, match=r"^precision bf16: Tesla T4 has none; take 32$"):
        precision.resolve("bf16", "cuda", every=True)
    assert precision.resolve("auto", "cpu", every=True) == "32"


@pytest.mark.usefixtures("_gpus")
def test_an_older_gpu_that_a_job_gets_computes_nothing_under_another_name() -> None:
    """A cluster's worker has GPUs of its own, which the driver did not see."""
    assert [precision.usable(*known) for known in (("tf32", "cuda:0"), ("32", "cuda:1"))] == ["tf32", "32"]
    network, how = nn.Linear(2, 2), {"seed": 0, "name": "net", "precision": "tf32"}
    nothing: Any = None
    with pytest.raises(ValueError, match=r"^precision tf32: Tesla T4 has none; take 32$"):
        Placed(network, "net", device="cuda:1", exactness="tf32")
    with pytest.raises(ValueError, match=r"^precision tf32: Tesla T4 has none; take 32$"):
        train(network, nothing, nothing, 4, Recipe(1, 2, "sgd", 0.1), device="cuda:1", **how)


def _set() -> list[str]:
    return [switch.fp32_precision for switch in precision._switches()]


@pytest.fixture
def _put_back() -> Any:
    before = _set()
    yield
    for switch, value in zip(precision._switches(), before, strict=True):
        switch.fp32_precision = value


@pytest.mark.parametrize("matmul", ["none", "ieee", "tf32"])
@pytest.mark.parametrize("convolution", ["ieee", "tf32"])
@pytest.mark.usefixtures("_put_back")
def test_inside_it_is_what_is_asked_for_and_outside_what_the_caller_set(matmul: str, convolution: str) -> None:
    for switch, value in zip(precision._switches(), (matmul, convolution, convolution), strict=True):
        switch.fp32_precision = value
    for asked, inside in (("32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")):
        with precision.switches(asked, "cuda:1"):
            assert _set() == [inside] * 3
            with precision.switches("32", torch.device("cuda")):  # a head in the midst of a pass
                assert _set() == ["ieee"] * 3
            assert _set() == [inside] * 3
        assert _set() == [matmul, convolution, convolution]
    with pytest.raises(RuntimeError, match="meanwhile"), precision.switches("32", "cuda"):
        raise RuntimeError("meanwhile")
    assert _set() == [matmul, convolution, convolution]


@pytest.mark.usefixtures("_put_back")
def test_who_set_the_older_switches_finds_them_as_they_were() -> None:
    matmul: Any = torch.backends.cuda.matmul
    matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, False
    with precision.switches("32", "cuda"):
        assert _set() == ["ieee"] * 3
    assert matmul.allow_tf32 is True
    assert torch.backends.cudnn.allow_tf32 is False
    matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    with precision.switches("tf32", "cuda"):
        assert _set() == ["tf32"] * 3
    assert matmul.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is True


def test_nothing_is_switched_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_switches", lambda: pytest.fail("the CPU has no such switch"))
    with precision.switches("tf32", "cpu"):
        pass


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="precision '16': did you mean 'bf16'"), precision.switches("16", "cpu"):
        pass
