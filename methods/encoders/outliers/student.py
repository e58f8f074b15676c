"""The network that outlier-aware learning trains: a whole classifier, or a small adapter on a frozen one."""

import torch
from torch import Tensor, nn

from methods.encoders.networks.cifar import Network


class Adapter(nn.Module):
    """e + scale * W2 ReLU(W1 (e - mean) / scale), W2 zero at the start: then it changes nothing. (N, D)."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        width = len(mean)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.scale, Tensor)
        hidden = torch.relu(self.first((embedding - self.mean) / self.scale))
        changed: Tensor = embedding + self.scale * self.second(hidden)
        return changed


class Student(nn.Module):
    """Features and logits in training; `network` is trained whole without an `adapter`, else its head alone.

    `terms`: modules of the loss that are trained with it.
    """

    def __init__(self, network: Network, adapter: Adapter | None, terms: dict[str, nn.Module]) -> None:
        super().__init__()
        self.adapter, self.terms = adapter, nn.ModuleDict(terms)
        self.body = network if adapter is None else network.head

    @property
    def head(self) -> nn.Linear:
        return self.body.head if isinstance(self.body, Network) else self.body

    def features(self, x: Tensor) -> Tensor:
        """(N, D) float32, from normalised images (N, 3, H, W), or behind an adapter from embeddings (N, D)."""
        if isinstance(self.body, Network):
            return self.body.embedding(self.body.stages(x)[-1]).float()
        return self.at_outliers(x)

    def at_outliers(self, outliers: Tensor) -> Tensor:
        """What the head reads for outliers (N, D): they enter behind the convolutions."""
        changed: Tensor = outliers if self.adapter is None else self.adapter(outliers).float()
        return changed
