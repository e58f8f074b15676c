"""Quantiles of the beta distribution: closed forms, and scipy's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaincinv

from benchmark.beta import below, quantile

SHARES = (0.005, 0.025, 0.25, 0.5, 0.975, 0.995)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("n", [1.0, 2.5, 40.0, 900.0, 1e6])
def test_closed_forms(n: float, share: float) -> None:
    """Beta(n, 1) is that of the largest of n numbers, Beta(1, n) of the smallest; Beta(n, n) is symmetric."""
    assert quantile(share, n, 1) == pytest.approx(share ** (1 / n), abs=1e-13)
    assert quantile(share, 1, n) == pytest.approx(1 - (1 - share) ** (1 / n), abs=1e-13)
    assert quantile(0.5, n, n) == pytest.approx(0.5, abs=1e-12)
    assert quantile(share, n, n) == pytest.approx(1 - quantile(1 - share, n, n), abs=1e-11)


@given(
    st.floats(0, 6.3).map(lambda power: 10**power),
    st.one_of(st.floats(1e-6, 1 - 1e-6), st.sampled_from([1e-6, 1e-3, 0.5, 0.95, 0.9999])),
    st.sampled_from(SHARES),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_as_scipy_has_them(tosses: float, right: float, share: float, upper: bool) -> None:
    """For the intervals of shares of so many tosses that came out right."""
    a, b = right * tosses + upper, (1 - right) * tosses + (not upper)
    x = quantile(share, a, b)
    assert x == pytest.approx(betaincinv(a, b, share), abs=1e-11)
    if 0 < x < 1:
        assert below(x, a, b) == pytest.approx(betainc(a, b, x), rel=1e-8)
