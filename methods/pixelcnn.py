"""PixelCNN++ as a detector: how many bits an image costs under a model of the ID images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Count, Features, Method, Positive, Range, Share, register
from methods.networks.pixelcnn import PixelCNN, log_likelihood, sample, to_unit
from methods.training.loop import seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors.noise import derive

_SCORED = 32 * 32 * 32  # pixels scored at once: 32 images of 32 x 32
_INITIAL = 100  # images that set the network's first scales
_SAMPLES = 16


@register("pixelcnn")
@dataclass
class PixelCNNPlusPlus(Method):
    """Bits per dimension, -log2 p(x) / (3 H W), p an autoregressive mixture of discretised logistics.

    `complexity` "png" or "webp": minus the bits per dimension of the compressed image (Serra et al., ICLR
    2020), for a likelihood alone calls smooth images likely, whatever they show. Trained by Adam; the defaults
    are the published network and the DLSR paper's training (a constant lr of 5e-4, 150 epochs). `schedule`
    "cosine" is for short ones: scales as small as a grey level make the loss at a high rate jump to the last.
    `ema`: cap of the decay of averaged weights (the released code: 0.9995), None for none. Height and width
    are multiples of 4.
    """

    title: ClassVar[str] = "PixelCNN++"
    paper: ClassVar[str] = (
        "Salimans et al., PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other "
        "Modifications, ICLR 2017, https://arxiv.org/abs/1701.05517; with complexity: Serra et al., Input Complexity "
        "and Out-of-distribution Detection with Likelihood-based Generative Models, ICLR 2020, "
        "https://arxiv.org/abs/1909.11480"
    )
    reads: ClassVar[tuple[str, ...]] = ("pixels",)
    score_only: ClassVar[tuple[str, ...]] = ("complexity",)
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    complexity: Literal["none", "png", "webp"] = "none"
    blocks: Count = 5
    filters: Count = 160
    mixtures: Count = 10
    dropout: Annotated[float, Range(0, 1, "[)")] = 0.5
    epochs: Count = 150
    lr: Positive = 5e-4
    batch_size: Count = 64
    ema: Share | None = None
    schedule: Literal["constant", "cosine"] = "constant"

    @property
    def bits_per_dimension(self) -> bool:
        return self.complexity == "none"

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        pixels = x.need("pixels")
        height, width = pixels.shape[1:3]
        rows = max(1, _SCORED // (height * width))
        bits = torch.cat([_bits(self._network, pixels[i : i + rows]) for i in range(0, len(pixels), rows)])
        if self.complexity != "none":
            from methods.pixels.complexity import compressed_bits

            bits = bits - compressed_bits(pixels, self.complexity).to(bits.device)
        return bits

    def fit(
        self,
        train: Features,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        precision: str = "32",
    ) -> Self:
        pixels = train.need("pixels").to(device)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            return (pixels[rows],)

        def loss(network: nn.Module, images: Tensor) -> Tensor:
            return _bits(network, images).mean()

        self._seed = seed
        with seeded(derive(seed), device):
            self._network = PixelCNN(**self._sizes()).to(device)
            first = torch.randperm(len(pixels))[:_INITIAL].to(device)
            self._network.initialise(_images(pixels[first]))
        recipe = Recipe(self.epochs, self.batch_size, "adam", self.lr, schedule=self.schedule, ema=self.ema)
        self.losses = train_network(
            self._network,
            batch,
            loss,
            len(pixels),
            recipe,
            seed=seed,
            device=device,
            name="pixelcnn",
            workdir=workdir,
            precision=precision,
            capture=True,
        )
        return self

    def pictures(self, x: Features) -> dict[str, Tensor]:
        """ "samples": images of the size of `x`'s, drawn from the model; H x W passes of the network."""
        height, width = x.need("pixels").shape[1:3]
        generator = torch.Generator().manual_seed(derive(self._seed, 1))
        return {"samples": sample(self._network, _SAMPLES, height, width, generator)}

    def _sizes(self) -> dict[str, Any]:
        return {"blocks": self.blocks, "filters": self.filters, "mixtures": self.mixtures, "dropout": self.dropout}

    def state(self) -> dict[str, Tensor]:
        network = {f"network.{name}": value.cpu() for name, value in self._network.state_dict().items()}
        return {"seed": torch.tensor(self._seed), "losses": torch.tensor(self.losses, dtype=torch.float64), **network}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._seed, self.losses = int(state["seed"]), state["losses"].tolist()
        with seeded(0):  # the weights are replaced at once; nobody else's random numbers may change
            network = PixelCNN(**self._sizes())
        own = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
        network.load_state_dict(own)
        self._network = network.to(device).eval()
        return self


def _images(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) to (N, 3, H, W) in [-1, 1]."""
    return to_unit(pixels.permute(0, 3, 1, 2))


def _bits(network: nn.Module, pixels: Tensor) -> Tensor:
    """Bits per dimension of each image, (N,) float64."""
    x = _images(pixels)
    nats = -log_likelihood(x, network(x).float()).double().sum(dim=(1, 2))
    return nats / (math.log(2) * x[0].numel())
