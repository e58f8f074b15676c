import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from methods.base import CannotRun, Features
from methods.encoders.registry import create


def blobs(n: int = 300, seed: int = 0) -> Features:
    """Four overlapping classes in 12 dimensions of very different scales, far from the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    centres = np.random.default_rng(9).normal(size=(4, 12))
    z = (centres[labels] + rng.normal(size=(n, 12))) * np.geomspace(0.01, 100, 12) + 5
    return Features(embedding=z.astype(np.float32), labels=labels)


@pytest.mark.parametrize("weight_decay", [1e-3, 0.1])
def test_is_scikit_learns_logistic_regression(weight_decay: float) -> None:
    """scikit-learn minimises |W|^2 / 2 + C * sum of losses: C = 1 / (N * weight_decay)."""
    train, test = blobs(), blobs(100, seed=1)
    probe = create("probe", base="b4", weight_decay=weight_decay).open(None).fit(train)
    scaler = StandardScaler().fit(train.embedding)
    reference = LogisticRegression(C=1 / (len(train) * weight_decay), tol=1e-8, max_iter=5000)
    reference.fit(scaler.transform(train.embedding), train.labels)
    ours = probe.encode(test.embedding)["logits"].softmax(1)
    np.testing.assert_allclose(ours, reference.predict_proba(scaler.transform(test.embedding)), atol=2e-3)


def test_the_head_is_for_the_features_as_they_are() -> None:
    probe = create("probe", base="b4").open(None)
    assert probe.head is None
    probe.fit(blobs())
    head = probe.head
    assert head is not None
    z = blobs(20, seed=2).embedding
    torch.testing.assert_close(probe.encode(z)["logits"], z @ head.weight.T + head.bias)
    assert head.weight.shape == (4, 12)
    assert not head.weight.requires_grad


def test_state_goes_to_a_fresh_instance() -> None:
    probe = create("probe", base="b4").open(None).fit(blobs())
    fresh = create("probe", base="b4").open(None)
    assert fresh.state() == {}
    z = blobs(20, seed=2).embedding
    assert torch.equal(fresh.load_state(probe.state()).encode(z)["logits"], probe.encode(z)["logits"])


def test_constant_features_do_no_harm() -> None:
    train, test = blobs(), blobs(50, seed=1).embedding
    plain = create("probe", base="b4").open(None).fit(train).encode(test)["logits"]
    constant = torch.tensor([[0.0, 7.3]])
    wide = Features(embedding=torch.cat([train.embedding, constant.expand(300, 2)], 1), labels=train.labels)
    out = create("probe", base="b4").open(None).fit(wide).encode(torch.cat([test, constant.expand(50, 2)], 1))
    torch.testing.assert_close(out["logits"], plain, rtol=1e-2, atol=1e-2)


def test_labels_are_needed() -> None:
    with pytest.raises(CannotRun, match="labels"):
        create("probe", base="b4").open(None).fit(Features(embedding=blobs().embedding))


def test_what_a_probe_cannot_be() -> None:
    with pytest.raises(ValueError, match="names the encoder"):
        create("probe")
    with pytest.raises(ValueError, match="weight_decay"):
        create("probe", base="b4", weight_decay=-1.0)
    probe = create("probe", base="b4").open(None).fit(blobs())
    with pytest.raises(ValueError, match="not images"):
        probe.encode(torch.zeros((1, 8, 8, 3), dtype=torch.uint8))
