"""CLUB: an upper bound of the mutual information of two paired samples (Cheng et al., ICML 2020)."""

import torch
from torch import Tensor, nn


class CLUB(nn.Module):
    """mean_i sum_d [mean_j (y_jd - mu_id)^2 - (y_id - mu_id)^2] / (2 exp(logvar_id)), mu and logvar MLPs of x.

    A bound where N(mu, exp(logvar)) is p(y | x), which a likelihood step of its own would teach the MLPs; OAL
    has none: it minimises this value over y *and* over the MLPs. With pairs at random, as OAL draws them, x and y
    are independent, and its expectation is 0.
    https://arxiv.org/abs/2006.12013; the MLPs, half of `hidden` wide, are those of its code.
    """

    def __init__(self, x_width: int, y_width: int, hidden: int = 512) -> None:
        super().__init__()
        half = hidden // 2
        self.mu = nn.Sequential(nn.Linear(x_width, half), nn.ReLU(), nn.Linear(half, y_width))
        self.logvar = nn.Sequential(nn.Linear(x_width, half), nn.ReLU(), nn.Linear(half, y_width), nn.Tanh())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The value for pairs x (N, x_width), y (N, y_width)."""
        mu, logvar = self.mu(x), self.logvar(x)
        paired = (y - mu).square()
        # mean_j (y_j - mu)^2 without the N x N x D tensor of all pairs
        unpaired = (y.mean(0) - mu).square() + y.var(0, correction=0)
        value: Tensor = ((unpaired - paired) / (2 * torch.exp(logvar))).sum(1).mean()
        return value
