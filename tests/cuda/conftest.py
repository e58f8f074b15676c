"""Tests of a GPU against the CPU: skipped, in one line, where there is none.

`OOD_REHEARSE=cpu python -m pytest tests/cuda` runs their bodies on the CPU in its place.
"""

import os
from pathlib import Path

import pytest
import torch

from methods.device import precision

DEVICE = os.environ.get("OOD_REHEARSE", "cuda")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        here = [item for item in items if Path(__file__).parent in item.path.parents]
        for item in here[:1]:  # one line for all
            item.add_marker(pytest.mark.skip(reason=f"{len(here)} tests of tests/cuda: there is no GPU here"))
        config.hook.pytest_deselected(items=here[1:])
        items[:] = [item for item in items if item not in here[1:]]


@pytest.fixture
def device() -> str:
    return DEVICE


@pytest.fixture(params=precision.PRECISIONS)
def exactness(request: pytest.FixtureRequest, device: str) -> str:
    """A precision that the device has; in a rehearsal also the one that the CPU has not, as 32."""
    if device == "cpu":
        return "32" if request.param == "tf32" else str(request.param)
    try:
        return precision.resolve(request.param, device)
    except ValueError as why:
        pytest.skip(str(why))
