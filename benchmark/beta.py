"""Quantiles of the beta distribution: those of `scipy.special.betaincinv`, whose import takes a third of a second."""

from math import exp, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist

_EXACT = 1e-15  # relative, of the fraction
_CLOSE = 1e-8  # relative, of a step after which the next would be of no account: each has twice the digits
_STEPS = 200  # of halving alone, from 1 to far below what matters of a share
_LAST = 1 - 2**-53  # before 1
_TERMS = 100_000  # of the fraction: about sqrt(max(a, b)) are taken


def quantile(share: float, a: float, b: float) -> float:
    """The x of which Beta(a, b) has `share` (0 < share < 1) below it: Newton's steps, and halving where they leave."""
    low, high = 0.0, 1.0
    wide = sqrt((a + b) ** 2 / (a * b * (a + b + 1)))  # of log(x / (1 - x)), about
    x = min(1 / (1 + exp(min(log(b / a) - NormalDist().inv_cdf(share) * wide, 600))), _LAST)
    for _ in range(_STEPS):
        off = below(x, a, b) - share
        low, high = (x, high) if off < 0 else (low, x)
        rate = log(abs(off) or exp(-700)) - (_front(x, a, b) - log(x) - log1p(-x))  # of the step's length
        step = exp(rate) if rate < 0 else inf
        following = x - step if off > 0 else x + step
        if step <= _CLOSE * min(x, 1 - x):
            return following
        x = following if low < following < high else (low + high) / 2
        if x in (0.0, 1.0):  # as near as a double comes
            break
    return x


def below(x: float, a: float, b: float) -> float:
    """The share of Beta(a, b) below x, 0 < x < 1: the continued fraction of Abramowitz and Stegun, 26.5.8, by Lentz."""
    if x > (a + 1) / (a + b + 2):
        return 1 - below(1 - x, b, a)  # where the fraction converges
    upper, lower = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = lower
    for m in range(1, _TERMS):
        before = fraction
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            lower = 1 / (1 + term * lower)
            upper = 1 + term / upper
            fraction *= upper * lower
        if abs(fraction - before) <= _EXACT * fraction:
            break
    return exp(_front(x, a, b)) * fraction / a


def _front(x: float, a: float, b: float) -> float:
    """log of x^a (1 - x)^b / B(a, b)."""
    return a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b)
