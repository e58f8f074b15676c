"""The parts of the distance, against scikit-learn's distance; ranks, against scipy's."""

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.covariance import EmpiricalCovariance

from tests.evidence.trained import spearman
from tests.evidence.why import BANDS, Gaussian


def test_the_bands_parts_sum_to_the_mahalanobis_distance_and_hold_all_directions_once():
    torch.manual_seed(0)
    z = torch.randn(400, 10) @ torch.randn(10, 10)
    gaussian = Gaussian(z)
    assert [i for band in gaussian.bands for i in band] == list(range(10))
    assert len(gaussian.bands) == BANDS
    assert (gaussian.variances[:-1] >= gaussian.variances[1:]).all()
    found = sum(gaussian.parts(z)).numpy() * 400 / 399  # scikit-learn divides the covariance by n
    np.testing.assert_allclose(found, EmpiricalCovariance().fit(z.double().numpy()).mahalanobis(z.double().numpy()))


def test_directions_without_variance_are_left_out():
    torch.manual_seed(0)
    z = torch.randn(400, 10)
    z[:, 9] = z[:, 0]
    assert len(Gaussian(z).variances) == 9


def test_rank_correlation_is_spearmans():
    torch.manual_seed(0)
    a = torch.randn(300)
    b = a + torch.randn(300)
    np.testing.assert_allclose(spearman(a, b), spearmanr(a, b).statistic)


def test_a_small_variance_is_a_variance():
    torch.manual_seed(0)
    assert len(Gaussian(torch.randn(50_000, 10) * torch.logspace(0, -2, 10)).variances) == 10
