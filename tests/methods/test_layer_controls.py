"""The simple detectors on the features that DLSR reads, against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from methods.base import Features
from methods.cosine import Cosine
from methods.knn import KNN
from methods.layer_knn import LayerKNN
from methods.mahalanobis import Mahalanobis
from methods.vectors.layers import normalise, normalised

SIZES = (7, 13)
GENERATOR = torch.Generator().manual_seed(3)


def images(count: int) -> Features:
    layers = 2 + torch.randn(count, 20, generator=GENERATOR) * torch.linspace(0.5, 3, 20)
    return Features(layers=layers, layer_sizes=SIZES)


TRAIN, TEST = images(200), images(30)
TRAIN_Z, TEST_Z = (normalise(x.layers, SIZES).numpy() for x in (TRAIN, TEST))


def test_normalised_in_blocks_is_normalised_at_once() -> None:
    many = Features(layers=torch.randn(5000, 20, generator=GENERATOR), layer_sizes=SIZES)
    assert torch.equal(normalised(many), normalise(many.layers, SIZES))


def test_cosine_to_the_mean() -> None:
    mean = TRAIN_Z.astype(float).mean(axis=0)
    cosines = [
        (z * m).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(m)
        for z, m in zip(np.split(TEST_Z, [7], axis=1), np.split(mean, [7]), strict=True)
    ]
    assert np.allclose(Cosine().fit(TRAIN).score(TEST).numpy(), -(cosines[0] + cosines[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("k", [1, 7])
def test_knn_by_layer(k: int) -> None:
    distances = []
    for train, test in zip(np.split(TRAIN_Z, [7], axis=1), np.split(TEST_Z, [7], axis=1), strict=True):
        train, test = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (train, test))
        distances.append(NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train).kneighbors(test)[0][:, -1])
    assert np.allclose(LayerKNN(k).fit(TRAIN).score(TEST).numpy(), np.mean(distances, axis=0), atol=1e-5)


def test_knn_on_layers_reads_what_dlsr_reads() -> None:
    normed = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (TRAIN_Z, TEST_Z)]
    expected = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(normed[0]).kneighbors(normed[1])[0][:, -1]
    assert np.allclose(KNN(5, feature="layers").fit(TRAIN).score(TEST).numpy(), expected, atol=1e-5)


def test_mahalanobis_on_layers_leaves_out_what_the_normalisation_fixes() -> None:
    # Each normalised layer sums to 0: of 20 directions 18 vary, and the float32 noise of the others must not count.
    method = Mahalanobis(per_class=False, feature="layers").fit(TRAIN)
    assert method.whitening.shape == (20, 18)
    precision = np.linalg.pinv(np.cov(TRAIN_Z.astype(float).T, bias=True), hermitian=True, rcond=1e-9)
    centred = TEST_Z.astype(float) - TRAIN_Z.astype(float).mean(axis=0)
    expected = np.einsum("nd,de,ne->n", centred, precision, centred)
    assert np.allclose(method.score(TEST).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("method", [Cosine(), LayerKNN(5)])
def test_other_layers_than_those_of_the_fit(method: Cosine | LayerKNN) -> None:
    method.fit(TRAIN)
    with pytest.raises(ValueError, match=r"fitted on layers of \(7, 13\) channels; these have \(13, 7\)"):
        method.score(Features(layers=TEST.layers, layer_sizes=(13, 7)))
