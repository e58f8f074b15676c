"""The encoder of features in files: what the head gives, and how far logits may be from that."""

import numpy as np
import pytest
import torch

from methods.encoders import registry
from methods.encoders.base import BadFile

D, K = 512, 20


@pytest.fixture
def head(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"weight": rng.normal(size=(K, D)).astype(np.float32), "bias": rng.normal(size=K).astype(np.float32)}
    np.savez(tmp_path / "head.npz", **arrays)
    return tmp_path / "head.npz", arrays


def block(arrays, kind=np.float32):
    """Features as a network wrote them: logits in float32, both then stored as `kind`."""
    embedding = np.random.default_rng(1).normal(size=(64, D)).astype(np.float32)
    logits = embedding @ arrays["weight"].T + arrays["bias"]
    return {"embedding": embedding.astype(kind).astype(np.float32), "logits": logits.astype(kind).astype(np.float32)}


@pytest.mark.parametrize(("kind", "rounding"), [(np.float32, 2.0**-24), (np.float16, 2.0**-11)])
def test_rounding_is_no_other_head(head, kind, rounding):
    path, arrays = head
    registry.create("features", embedding=D, logits=K).open(path).check_head(block(arrays, kind), rounding)


def test_half_precision_is_more_than_the_rounding_of_float32(head):
    path, arrays = head
    with pytest.raises(ValueError, match="not what the head gives"):
        registry.create("features", embedding=D, logits=K).open(path).check_head(block(arrays, np.float16), 2.0**-24)


@pytest.mark.parametrize("change", [lambda w, b: (w, b + 0.2), lambda w, b: (w[::-1], b), lambda w, b: (1.01 * w, b)])
def test_another_head_is_told(head, change, tmp_path):
    _, arrays = head
    weight, bias = change(arrays["weight"], arrays["bias"])
    np.savez(tmp_path / "other.npz", weight=weight, bias=bias)
    encoder = registry.create("features", embedding=D, logits=K).open(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="they differ by up to"):
        encoder.check_head(block(arrays), 2.0**-24)


def test_logits_that_are_there_stay_and_others_are_computed(head):
    path, arrays = head
    encoder = registry.create("features", embedding=D, logits=K).open(path)
    given = block(arrays)
    assert torch.equal(encoder.given(given)["logits"], torch.from_numpy(given["logits"]))
    computed = encoder.given({"embedding": given["embedding"]})["logits"]
    exact = given["embedding"].astype(np.float64) @ arrays["weight"].T.astype(np.float64) + arrays["bias"]
    assert computed.dtype == torch.float32
    assert np.allclose(computed, exact, atol=1e-4)
    assert encoder.head is not None


def test_what_cannot_be(head, tmp_path):
    path, arrays = head
    with pytest.raises(ValueError, match="name the columns of embedding, logits or layers"):
        registry.create("features")
    with pytest.raises(BadFile, match="a head for 512 columns; embedding has 8"):
        registry.create("features", embedding=8).open(path)
    np.savez(tmp_path / "nan.npz", weight=np.full((K, D), np.nan), bias=arrays["bias"])
    with pytest.raises(BadFile, match="weight holds NaN or infinity"):
        registry.create("features", embedding=D).open(tmp_path / "nan.npz")
    with pytest.raises(ValueError, match="not images"):
        registry.create("features", embedding=D).encode(torch.zeros((1, 8, 8, 3), dtype=torch.uint8))
