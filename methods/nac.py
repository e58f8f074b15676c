"""NAC: how well the training images cover an image's neuron activations, of the last layer or of several."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from methods.base import Count, Features, Method, Positive, Range, register
from methods.vectors.drawing import by_class
from methods.vectors.head import classes, logits


class _Layer(NamedTuple):
    """M, O and a of one layer."""

    edges: int
    full: float
    slope: float


# of the layers before the last, from the image on (the authors' values for a ResNet's first three stages)
_INNER: Mapping[str, tuple[_Layer, ...]] = {
    "cifar10": (_Layer(500, 100, 0.001), _Layer(50, 5, 0.001), _Layer(500, 100, 1000)),
    "cifar100": (_Layer(50, 5, 0.005), _Layer(50, 500, 1), _Layer(1000, 500, 10)),
    "imagenet": (_Layer(1000, 5000, 1), _Layer(500, 50, 0.01), _Layer(50, 500, 300)),
}


@register("nac")
@dataclass
class NAC(Method):
    """-mean_d C_d[bin of s_d], s = sigmoid(a z * g), g = W^T (p - 1/K): the gradient of KL(uniform | p) by z.

    C_d[bin] = min(count / O, 1), the count over `images` / K training images of each class, drawn from the seed (of
    an image without a label: the predicted class); O (`full`) is for `images` and scales with how many there are.
    M (`edges`) edges that crowd around .5, M - 1 bins [left, right): a ReLU's 0 is in the bin that begins at .5.
    layers: the "last" alone, or with those before it, at the authors' M, O and a for that data set: then the score is
    the mean over layers, and z * g of the others is what the encoder `inside` offers as `gradients`, summed over
    positions. A network with fewer layers has the values of those nearest to the head.
    Presets: the authors' values for the last layer. (pytorch-ood has other bins.)
    """

    title: ClassVar[str] = "NAC"
    paper: ClassVar[str] = (
        "Liu et al., Neuron Activation Coverage: Rethinking Out-of-distribution Detection and Generalization, ICLR "
        "2024, https://arxiv.org/abs/2306.02879"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar100": {"slope": 50.0},
        "imagenet": {"full": 10.0, "slope": 3000.0},
    }
    random_fit: ClassVar[bool] = True

    edges: Annotated[int, Range(4)] = 50
    full: Positive = 50.0
    slope: Positive = 100.0
    images: Count = 1000
    layers: Literal["last", "cifar10", "cifar100", "imagenet"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers != "last":
            self.__dict__["reads"] = ("embedding", "head", "gradients")  # hides the class's, which is the default's

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        head, groups = train.need_head(), classes(train, device)
        count = max(len(head.bias), int(groups.max()) + 1)
        rows = by_class(groups, torch.full((count,), max(1, round(self.images / count))), seed=seed)
        self.coverage = []
        for products, layer in self._layers(train[rows.to(train.index.device)].to(device)):
            bins = _bins(products, layer).T
            counts = torch.zeros(len(bins), layer.edges - 1, dtype=torch.float64, device=device)
            counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float64))
            self.coverage.append((counts / (layer.full * len(rows) / self.images)).clamp(max=1))
        return self

    def _layers(self, x: Features) -> list[tuple[Tensor, _Layer]]:
        """z * g (N, c) of each layer, the last one first, and its values."""
        z, head = x.need("embedding"), x.need_head()
        f = logits(z, head)
        last = z.double() * ((f.softmax(dim=1) - 1 / f.shape[1]) @ head.weight.double())
        found = [(last, _Layer(self.edges, self.full, self.slope))]
        if self.layers != "last":
            inner = [part.double() for part in x.split_extra("gradients")][-len(_INNER[self.layers]) :]
            found += zip(inner, _INNER[self.layers][-len(inner) :], strict=True)
        return found

    def score(self, x: Features) -> Tensor:
        parts = [
            coverage.gather(1, _bins(products, layer).T).mean(dim=0)
            for coverage, (products, layer) in zip(self.coverage, self._layers(x), strict=True)
        ]
        return -torch.stack(parts).mean(dim=0)

    def state(self) -> dict[str, Tensor]:
        return {f"coverage.{place}": layer.cpu() for place, layer in enumerate(self.coverage)}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self.coverage = [state[f"coverage.{place}"].to(device) for place in range(len(state))]
        return self


def _bins(products: Tensor, layer: _Layer) -> Tensor:
    edges = bin_edges(layer.edges).to(products.device)
    return torch.searchsorted(edges, (layer.slope * products).sigmoid(), right=True) - 1


def bin_edges(count: int) -> Tensor:
    """M edges (M,), the last two above 1."""
    half = torch.linspace(1, math.sqrt(1000), count // 2, dtype=torch.float64).log() / math.log(1000)
    upper = 1 - half.flip(0)
    upper[0] = 0.5  # exactly
    upper[-1] += 0.01
    return torch.cat([half[:-1], upper, torch.tensor([1.2], dtype=torch.float64)])
