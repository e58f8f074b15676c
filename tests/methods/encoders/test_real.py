"""The real networks of ../shared/weights (`pytest -m real`, with that folder beside the checkout)."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from scipy.stats import binom

from methods.encoders.registry import create

SHARED = Path(__file__).parents[4] / "shared"
pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("checkpoint", "architecture", "classes", "embedding"),
    [
        ("cifar10_resnet20", "resnet20", 10, 64),
        ("cifar10_resnet56", "resnet56", 10, 64),
        ("cifar10_densenet_bc_100_12", "densenet_bc_100_12", 10, 342),
        ("cifar100_densenet_bc_100_12", "densenet_bc_100_12", 100, 342),
    ],
)
def test_classifiers_load(checkpoint: str, architecture: str, classes: int, embedding: int) -> None:
    encoder = create("classifier", architecture=architecture, checkpoint=checkpoint)
    encoder.open(encoder.find_weights(SHARED / "weights"))
    assert encoder.head is not None
    assert encoder.head.weight.shape == (classes, embedding)
    out = encoder.encode(torch.zeros((1, 32, 32, 3), dtype=torch.uint8))
    assert out["logits"].shape == (1, classes)


def test_accuracy_of_resnet20() -> None:
    """91.73 % on the whole test set (weights/SOURCES.md): 200 images lie in the binomial 99.9 % interval."""
    files = sorted((SHARED / "data" / "cifar10").glob("test-*.parquet"))
    rows = parquet.read_table(files[0]).slice(0, 200).to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows]
    encoder = create("classifier", architecture="resnet20", checkpoint="cifar10_resnet20")
    encoder.open(encoder.find_weights(SHARED / "weights"))
    predicted = encoder.encode(torch.from_numpy(np.stack(pixels)))["logits"].argmax(1)
    right = int((predicted == torch.tensor([row["label"] for row in rows])).sum())
    low, high = binom.interval(0.999, 200, 0.9173)
    assert low <= right <= high


def test_lite0_has_the_papers_five_maps() -> None:
    encoder = create("pretrained", model="tf_efficientnet_lite0")
    encoder.open(encoder.find_weights(SHARED / "weights"))
    assert encoder.layer_sizes == (16, 24, 40, 112, 320)
    out = encoder.encode(torch.zeros((1, 32, 32, 3), dtype=torch.uint8))
    assert out["layers"].shape == (1, 512)
    assert out["embedding"].shape == (1, 1280)
    # (127 - 127) / 128: mid-grey is exactly 0 with the header's mean and std, not with timm's .5 and .5
    grey = encoder.encode(torch.full((1, 8, 8, 3), 127, dtype=torch.uint8))["embedding"]
    with torch.no_grad():
        network = encoder._network
        expected = network.forward_head(network.forward_features(torch.zeros(1, 3, 224, 224)), pre_logits=True)
    torch.testing.assert_close(grey, expected, rtol=1e-4, atol=1e-5)
