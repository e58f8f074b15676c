"""Distances from the training set: Mahalanobis (against numpy), kNN (against scikit-learn), low-level statistics."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import methods
from methods.base import CannotRun, Features, Head
from methods.lowlevel import describe
from methods.vectors import statistics

WIDTH, CLASSES = 64, 10
LABELS = torch.arange(500) % CLASSES
TRAIN_Z, TEST_Z = (torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(n)).relu() for n in (500, 120))
TRAIN, TEST = Features(embedding=TRAIN_Z, labels=LABELS), Features(embedding=TEST_Z)


def score(name: str, x: Features = TEST, train: Features = TRAIN, **settings: Any) -> Tensor:
    return methods.create(name, **settings).fit(train).score(x)


def same(ours: Tensor, theirs: Any, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=rtol)


def gaussian_score(train: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    centred = x.astype(float) - train.astype(float).mean(axis=0)
    precision = np.linalg.pinv(np.cov(train.astype(float).T, bias=True), hermitian=True, rtol=1e-12)
    result: np.ndarray[Any, Any] = np.einsum("nd,de,ne->n", centred, precision, centred)
    return result


@pytest.mark.parametrize("settings", [{}, {"per_class": False}], ids=["unlabelled", "per_class=False"])
def test_mahalanobis_with_one_gaussian(settings: dict[str, Any]) -> None:
    train = TRAIN if settings else Features(embedding=TRAIN_Z, labels=np.full(500, -1))
    same(score("mahalanobis", TEST, train, **settings), gaussian_score(TRAIN_Z.numpy(), TEST_Z.numpy()), 1e-9)


@pytest.mark.parametrize("name", ["mahalanobis", "knn"])
def test_other_features_than_the_embedding(name: str) -> None:
    generator = torch.Generator().manual_seed(7)
    train, more = torch.randn(300, 12, generator=generator), torch.randn(40, 12, generator=generator)
    embedded = score(name, Features(embedding=more), Features(embedding=train))
    logits = score(name, Features(logits=more), Features(logits=train), feature="logits")
    same(logits, embedded)
    assert methods.create(name).reads == methods.get(name).reads == ("embedding",)
    assert methods.create(name, feature="layers").reads == ("layers",)
    with pytest.raises(ValueError, match=r"feature is 'layer'; it must be 'embedding' or 'logits' or 'layers'"):
        methods.create(name, feature="layer")


def test_mahalanobis_with_a_singular_covariance() -> None:
    z = TRAIN_Z.numpy().copy()
    z[:, 5] = 3.7  # constant
    z[:, 6] = z[:, 7]  # a copy
    for train in (z, z[:20]):  # and D > N
        scores = score("mahalanobis", TEST, Features(embedding=train))
        assert bool(scores.isfinite().all())
        same(scores, gaussian_score(train, TEST_Z.numpy()), rtol=1e-6)


def test_mahalanobis_far_from_the_origin() -> None:
    # float64 holds what float32 leaves of the features: the shift itself must cost nothing more
    z, x = (TRAIN_Z + 4096).numpy(), (TEST_Z + 4096).numpy()
    same(score("mahalanobis", Features(embedding=x), Features(embedding=z)), gaussian_score(z, x), rtol=1e-8)


def test_mahalanobis_with_classes_missing_from_a_subset() -> None:
    rows = (LABELS == 2) | (LABELS == 9)
    subset = Features(embedding=TRAIN_Z[rows], labels=LABELS[rows])
    renumbered = Features(embedding=TRAIN_Z[rows], labels=(LABELS[rows] == 9).long())
    assert torch.equal(score("mahalanobis", TEST, subset), score("mahalanobis", TEST, renumbered))


def test_mahalanobis_of_a_set_that_is_labelled_in_part() -> None:
    part = Features(embedding=TRAIN_Z, labels=torch.where(LABELS == 4, -1, LABELS))
    assert torch.equal(score("mahalanobis", TEST, part), score("mahalanobis", per_class=False))


def test_mahalanobis_of_features_that_say_nothing() -> None:
    with pytest.raises(CannotRun, match="do not vary"):
        score("mahalanobis", TEST, Features(embedding=torch.ones(30, WIDTH)))


def test_a_class_without_images() -> None:
    with pytest.raises(CannotRun, match="class 1 has no training images"):
        statistics.means(torch.ones(3, 2), device="cpu", groups=torch.tensor([0, 2, 2]))


def test_statistics_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BLOCK", 8 * WIDTH * 33)  # 33 rows at a time, 5 in the last
    z = TRAIN_Z.numpy().astype(float)
    assert [len(block) for block in statistics.float64_blocks(TRAIN_Z, "cpu")] == [33] * 15 + [5]
    mean = statistics.means(TRAIN_Z, device="cpu")
    same(mean, z.mean(axis=0, keepdims=True), rtol=1e-12)
    covariance = statistics.covariance(TRAIN_Z, mean, device="cpu")
    np.testing.assert_allclose(covariance.numpy(), np.cov(z.T, bias=True), rtol=1e-10, atol=1e-14)
    by_class = statistics.means(TRAIN_Z, device="cpu", groups=LABELS)
    same(by_class, [z[LABELS.numpy() == label].mean(axis=0) for label in range(CLASSES)], rtol=1e-12)
    within = sum(np.cov(z[LABELS.numpy() == label].T, bias=True) for label in range(CLASSES)) / CLASSES
    shared = statistics.covariance(TRAIN_Z, by_class, device="cpu", groups=LABELS)
    np.testing.assert_allclose(shared.numpy(), within, rtol=1e-10, atol=1e-14)
    head = Head(torch.eye(CLASSES, WIDTH), torch.zeros(CLASSES))
    train, x = (Features(embedding=z, logits=head(z), labels=LABELS[: len(z)], head=head) for z in (TRAIN_Z, TEST_Z))
    for name in ("vim", "klm", "dice", "mahalanobis"):
        blocked = score(name, x, train)
        with monkeypatch.context() as whole:
            whole.setattr(statistics, "BLOCK", 1 << 25)
            same(blocked, score(name, x, train), rtol=1e-9)


# kNN


@pytest.mark.parametrize("k", [1, 50, 500])
def test_knn_equals_scikit_learn(k: int) -> None:
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(normalize(TRAIN_Z.double().numpy()))
    distances, _ = brute.kneighbors(normalize(TEST_Z.double().numpy()))
    same(score("knn", k=k), distances[:, -1])


def test_knn_resolves_small_distances() -> None:
    # At this width faiss's own distances, by |a|^2 + |b|^2 - 2ab, are off by a factor of up to 8 where many images
    # are asked for at once, and right where few are.
    z = torch.randn(300, 512, generator=torch.Generator().manual_seed(0)).relu()
    near = z + 1e-4 * z.norm(dim=1, keepdim=True) * torch.eye(512)[0]
    a, b = (torch.nn.functional.normalize(values.double(), dim=1) for values in (near, z))
    train, x = Features(embedding=z), Features(embedding=near)
    same(score("knn", x, train, k=1), (a - b).norm(dim=1), rtol=1e-3)
    same(score("knn", x[:5], train, k=1), (a - b)[:5].norm(dim=1), rtol=1e-3)


def test_knn_with_a_zero_feature_is_finite() -> None:
    x = Features(embedding=torch.zeros(3, WIDTH))
    same(score("knn", x), [1.0] * 3)


def test_knn_errors() -> None:
    with pytest.raises(CannotRun, match="k is 501 but there are only 500 training images"):
        score("knn", k=501)
    with pytest.raises(ValueError, match="k is 0"):
        methods.create("knn", k=0)


@pytest.mark.parametrize("name", ["knn", "layer_knn"])
def test_knn_needs_no_faiss(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    train, x = (Features(embedding=z, layers=z, layer_sizes=(WIDTH,)) for z in (TRAIN_Z, TEST_Z))
    found = score(name, x, train)
    monkeypatch.setitem(sys.modules, "faiss", None)
    same(score(name, x, train), found, rtol=1e-12)


# Low-level statistics


def pixels(*images: Any) -> Tensor:
    return torch.from_numpy(np.stack([np.broadcast_to(image, (16, 16, 3)) for image in images]).astype(np.uint8))


def test_lowlevel_statistics_of_plain_images() -> None:
    orange, black = describe(pixels([204, 102, 51], [0, 0, 0]))[:, :8].numpy()
    np.testing.assert_allclose(orange, [0.8, 0.4, 0.2, 0, 0, 0, 0.75, 0], atol=1e-6)
    np.testing.assert_allclose(black, 0, atol=1e-12)


def test_lowlevel_statistics_of_stripes() -> None:
    # Columns of 0 and 255: mean 1/2, variance 1/4. The Laplacian is +-2 inside, +-1 in the first and last column.
    stripes = 255 * (np.arange(16) % 2)[None, :, None]
    found = describe(pixels(stripes))[0, :8].numpy()
    np.testing.assert_allclose(found, [0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0, (14 * 4 + 2) / 16], rtol=1e-6)


def test_lowlevel_compressed_size() -> None:
    random = np.random.default_rng(0)
    rows, values = random.integers(256, size=(16, 1, 3)), random.integers(256, size=(16, 16, 3))
    plain, ramp, striped, noise = describe(pixels(90, 9 * np.arange(16)[None, :, None], rows, values))[:, 8]
    assert plain < 0.3  # zlib's container and a few run lengths: about 20 of 768 bytes
    assert ramp < 0.3  # the filter leaves one difference, repeated; unfiltered, it is .67
    assert striped > 0.5  # 48 random bytes, one colour a row: each row's first pixel counts
    assert 8 <= noise < 8.3  # nothing to compress: 8 bits a value, and the container


def test_lowlevel_is_one_gaussian_of_the_statistics() -> None:
    random = np.random.default_rng(1)
    train, x = (torch.from_numpy(random.integers(256, size=(n, 6, 5, 3), dtype=np.uint8)) for n in (300, 9))
    ours = score("lowlevel", Features(pixels=x), Features(pixels=train))
    same(ours, gaussian_score(describe(train).numpy(), describe(x).numpy()), rtol=1e-8)
