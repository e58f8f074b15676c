"""A detector that `evaluate` made: it takes what the network reads, and gives what the table was made of."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import Detector, evaluate
from benchmark.records import names
from methods.base import CannotRun


def test_it_takes_tensors_as_the_network_does_and_says_so(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    train, test, far = torch.randn(400, 3, 8, 8), torch.randn(50, 3, 8, 8), torch.randn(30, 3, 8, 8) + 1
    labels = torch.arange(400) % 3
    result = evaluate(
        network, id=((train, labels), (test, labels[:50])), far={"far": far}, methods=["mahalanobis"], device="cpu"
    )
    detector = result.detector("mahalanobis")
    assert isinstance(detector, Detector)
    assert detector.about["takes"] == "images as the network reads them: float32 (N, 3, 8, 8)"
    kept = np.load(names.scores_path(result.plan.folder, "mahalanobis@Sequential", "far", 0))
    assert np.array_equal(detector.scores(far), kept)
    with pytest.raises(CannotRun, match="Sequential is an object, of which no file is made"):
        detector.save(tmp_path / "saved")
    for wrong, said in (
        (far[0], r"no images of torch.float32 \(8, 8\): "),
        (far[:2].byte(), r"no images of torch.uint8 \(3, 8, 8\): "),
        ([far[0], far[1, :, :7]], r"\(3, 7, 8\), torch.float32 \(3, 8, 8\): "),
        (None, "NoneType: Sequential takes images as the network reads them: float32"),
        ({"images": far}, "dict: Sequential takes images as the network reads them: float32"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            detector(wrong)
        assert "\n" not in str(error.value)
