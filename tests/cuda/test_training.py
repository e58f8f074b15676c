"""Trainings on a GPU: a step that is captured as a graph against one whose kernels are launched one by one.

In a rehearsal the CPU captures, by a graph that runs the function again.
"""

import gc
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import methods
from methods.device import graphs
from methods.training import loop
from methods.training.recipe import Recipe
from tests.methods.training import trainings
from tests.rerun import Rerun

ROUNDING = 1e-3  # of a loss after a few steps: kernels that add up in an order of their own, or in another workspace


@pytest.fixture
def captures(device: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry a capture."""
    made: list[str] = []
    kind: Any = Rerun if device == "cpu" else graphs._Cuda
    record = kind.record

    def noted(self: Any, work: Any) -> Any:
        made.append("captured")
        return record(self, work)

    monkeypatch.setattr(kind, "record", noted)
    if device == "cpu":
        monkeypatch.setattr(graphs, "recorder", lambda device: Rerun())
    return made


def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "recorder", lambda device: None)


def close(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float = ROUNDING) -> None:
    """The losses agree; weights that a step moves by its rate whatever its size (Adam's) may turn the other way."""
    assert one.keys() == other.keys()
    torch.testing.assert_close(one["losses"], other["losses"], rtol=rtol, atol=rtol)
    for name, value in one.items():
        if value.is_floating_point() and value.numel() > 1:
            apart = (value.double() - other[name].double()).abs().mean()
            assert float(apart) <= 0.02 * float(value.double().abs().mean()) + rtol, name


@pytest.mark.parametrize("name", trainings.NAMES)
def test_captured_is_as_eager(name: str, device: str, captures: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    captured = trainings.learned(name, device, "32")
    assert captures
    eager(monkeypatch)
    before = len(captures)
    close(trainings.learned(name, device, "32"), captured)
    assert len(captures) == before


@pytest.mark.parametrize("name", ["dlsr", "vae", "classifier", "simclr"])
def test_captured_in_other_precisions(name: str, device: str, exactness: str, captures: list[str]) -> None:
    losses = trainings.learned(name, device, exactness)["losses"]
    assert captures
    torch.testing.assert_close(losses, trainings.learned(name, device, "32")["losses"], rtol=0.1, atol=0.05)


def _stopped(workdir: Path, step: int, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    update, done = loop._Run.update, []

    def counted(self: Any, *given: Any) -> None:
        done.append(1)
        if len(done) == step:
            signal.raise_signal(signal.SIGINT)
        update(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(loop._Run, "update", counted)
        with pytest.raises(KeyboardInterrupt):
            _fit(workdir, device)


def _fit(workdir: Path | None, device: str) -> dict[str, Tensor]:
    train, settings = trainings.METHODS["dlsr"]
    return methods.create("dlsr", **settings).fit(train, seed=1, device=device, workdir=workdir).state()


@pytest.mark.parametrize(("first", "then"), [("", ""), ("", "cpu"), ("cpu", "")])
def test_a_training_goes_on_on_either_device(
    first: str, then: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, then = first or device, then or device
    _stopped(tmp_path, 4, monkeypatch, first)
    assert (tmp_path / "training.pt").exists()
    resumed, whole = _fit(tmp_path, then), _fit(None, first)
    close(resumed, whole, ROUNDING if first == then else 0.5)


@pytest.mark.parametrize("name", ["glow", "vae", "classifier", "simclr", "oal"])
def test_the_caller_s_generators_stay(name: str, device: str) -> None:
    before = torch.get_rng_state(), torch.cuda.get_rng_state_all()
    trainings.learned(name, device, "32")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(a, b) for a, b in zip(torch.cuda.get_rng_state_all(), before[1], strict=True))


def test_a_training_gives_its_memory_back_at_once(device: str) -> None:
    trainings.learned("dlsr", device, "32")  # libraries keep their workspaces
    gc.collect()
    gc.disable()
    try:
        before = torch.cuda.memory_allocated()  # 0 where no GPU was started
        trainings.learned("dlsr", device, "32")  # it has waited for the device
        assert torch.cuda.memory_allocated() <= before + (1 << 20)
    finally:
        gc.enable()


def test_a_batch_that_does_not_fit_is_one_line(device: str) -> None:
    def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.empty(1 << 50, dtype=torch.uint8, device=device),)

    said = "training test: a batch of 16 does not fit in the memory of cuda: lower batch_size"
    with pytest.raises(RuntimeError, match="allocate" if device == "cpu" else said):
        loop.train(
            torch.nn.Linear(1, 1),
            batch,
            lambda network, x: x.sum(),
            100,
            Recipe(1, 16, "sgd", 0.1),
            seed=0,
            device=device,
            name="test",
        )
