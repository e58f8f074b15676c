"""Every method on the GPU scores as on the CPU; what trains a network there, trains at every precision."""

from typing import Any

import numpy as np
import pytest
import torch

import methods
from methods.base import CannotRun, Method
from tests.methods.test_contract import ID, OOD, SMALL, training_set


def fitted(name: str, device: str, **more: Any) -> Method:
    try:
        return methods.create(name, **SMALL.get(name, {})).fit(training_set(name), seed=3, device=device, **more)
    except CannotRun as reason:
        pytest.skip(str(reason))


def auroc(method: Method, device: str) -> float:
    known, foreign = (method.score(x.to(device)).cpu().double() for x in (ID, OOD))
    return float((foreign[:, None] > known).double().mean())


@pytest.mark.parametrize("name", methods.names())
def test_scores_are_the_cpus(name: str, device: str) -> None:
    here, there = fitted(name, "cpu"), fitted(name, device)
    found = there.score(ID.to(device))
    assert found.device.type == device
    assert bool(found.isfinite().all())
    if hasattr(here, "epochs"):  # a training's random numbers differ: what it learns is alike
        assert abs(auroc(here, "cpu") - auroc(there, device)) < 0.3
        return
    wanted = here.score(ID).double()
    apart = (found.cpu().double() - wanted).abs().median() / wanted.std().clamp_min(1e-9)
    assert float(apart) < 1e-3
    assert abs(auroc(here, "cpu") - auroc(there, device)) < 2e-3


@pytest.mark.parametrize("name", methods.names())
def test_what_was_fitted_on_one_device_scores_on_the_other(name: str, device: str) -> None:
    method = fitted(name, "cpu")
    moved = methods.create(name, **SMALL.get(name, {})).load_state(method.state(), device=device)
    wanted, found = method.score(ID).double(), moved.score(ID.to(device)).cpu().double()
    assert np.median((found - wanted).abs() / wanted.std().clamp_min(1e-9)) < 1e-3


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.get(name).trains])
def test_a_network_is_trained_at_every_precision(name: str, device: str, exactness: str) -> None:
    method = fitted(name, device, precision=exactness)
    assert bool(method.score(ID.to(device)).isfinite().all())


def test_strict_is_strict_whatever_the_caller_set(device: str) -> None:
    from methods.device.precision import switches

    x = torch.randn((512, 512), generator=torch.Generator().manual_seed(0))
    wanted = x.double() @ x.double()
    with switches("tf32", device):
        with switches("32", device):
            exact = (x.to(device) @ x.to(device)).cpu()
        fast = (x.to(device) @ x.to(device)).cpu()
    assert float((exact - wanted).abs().max()) < 1e-3
    if device != "cpu" and torch.cuda.is_tf32_supported():
        assert float((fast - wanted).abs().max()) > 1e-3
