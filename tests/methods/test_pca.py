"""PCA reconstruction against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as Reference

from methods.base import CannotRun, Features
from methods.kpca import KernelPCA
from methods.pca import PCA
from methods.vectors.layers import normalise

SIZES = (7, 13)
GENERATOR = torch.Generator().manual_seed(0)
MIXING = torch.randn(20, 20, generator=GENERATOR) * torch.linspace(0.1, 2, 20)[:, None]


def images(count: int) -> Features:
    return Features(layers=1 + torch.randn(count, 20, generator=GENERATOR) @ MIXING, layer_sizes=SIZES)


TRAIN, TEST = images(500), images(40)


@pytest.mark.parametrize("std", ["biased", "unbiased"])
@pytest.mark.parametrize("components", [1, 5, 17])
def test_scores_are_those_of_scikit_learn(components: int, std: Any) -> None:
    train, test = (normalise(x.layers, SIZES, std).double().numpy() for x in (TRAIN, TEST))
    reference = Reference(components, svd_solver="full").fit(train)
    back = reference.inverse_transform(reference.transform(test))
    errors = ((test - back) ** 2).mean(axis=1)
    similarities = [
        (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        for a, b in zip(np.split(test, [7], axis=1), np.split(back, [7], axis=1), strict=True)
    ]
    method = PCA(components=components, std=std).fit(TRAIN)
    assert np.allclose(method.score(TEST).numpy(), -(similarities[0] + similarities[1]) / 2, atol=1e-6)
    method = PCA(components=components, std=std, measure="mse").fit(TRAIN)
    assert np.allclose(method.score(TEST).numpy(), errors, rtol=1e-4, atol=1e-9)


def test_rows_of_all_components_share_a_fit() -> None:
    assert set(PCA.score_only) == {"components", "measure"}
    many = PCA(components=12, measure="mse")
    assert torch.equal(
        many.load_state(PCA(components=2).fit(TRAIN).state()).score(TEST), PCA(12, "mse").fit(TRAIN).score(TEST)
    )
    errors = [PCA(components=k, measure="mse").fit(TRAIN).score(TEST) for k in (1, 4, 16)]
    assert bool((errors[0] > errors[1]).all())
    assert bool((errors[1] > errors[2]).all())


def test_components_that_leave_no_error() -> None:
    # Normalised layers of 7 and 13 channels vary in 6 and 12 directions.
    with pytest.raises(CannotRun, match="more than 18 directions in the layers; there are 18"):
        PCA(components=18).fit(TRAIN)
    fitted = PCA(components=17).fit(TRAIN)
    with pytest.raises(CannotRun, match="more than 64 directions"):
        PCA().load_state(fitted.state()).score(TEST)


def test_components_that_the_images_do_not_span() -> None:
    # Five images differ from their mean in four directions.
    few = Features(layers=TRAIN.layers[:5], layer_sizes=TRAIN.layer_sizes)
    assert bool((PCA(components=4, measure="mse").fit(few).score(few) < 1e-9).all())
    with pytest.raises(CannotRun, match="images span 4 directions, not 5: lower components"):
        PCA(components=5).fit(few)
    copies = Features(layers=few.layers.repeat(100, 1), layer_sizes=TRAIN.layer_sizes)  # are no more directions
    assert bool((PCA(components=4, measure="mse").fit(copies).score(few) < 1e-9).all())
    with pytest.raises(CannotRun, match="images span 4 directions, not 5: lower components"):
        PCA(components=5).fit(copies)


@pytest.mark.parametrize("copies", [1, 100])  # fewer images than numbers, and more
def test_kernel_components_that_the_images_do_not_span(copies: int) -> None:
    few = Features(embedding=TRAIN.layers[:5].repeat(copies, 1))
    KernelPCA(components=4).fit(few)
    with pytest.raises(CannotRun, match="images span 4 directions, not 5: lower components"):
        KernelPCA(components=5).fit(few)


def test_other_layers_than_those_of_the_fit() -> None:
    with pytest.raises(ValueError, match=r"fitted on layers of \(7, 13\) channels; these have \(20,\)"):
        PCA(components=2).fit(TRAIN).score(Features(layers=TEST.layers, layer_sizes=(20,)))
