"""Glow, a normalising flow over pixels: how many bits an image takes under a model of the ID images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from methods.base import CannotRun, Count, Features, Method, NotNegative, Positive, Share, register
from methods.networks.glow import GlowNetwork
from methods.pixels.complexity import compressed_bits
from methods.training.loop import seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors.noise import derive, normal, uniform

BLOCK = 128  # images in the network at a time when scoring
FIRST_IMAGES = 256  # set the actnorms, as in the official code
SAMPLES, TEMPERATURE = 16, 0.7


@register("glow")
@dataclass
class Glow(Method):
    """-log2 p(x) / D, bits per dimension; D = 3 H W. With `complexity`, minus the bits that this codec needs.

    p is the density of pixels / 256 - .5 plus noise of one grey level's width, u ~ U(0, 1/256), times 256^-D: a
    bound of the pixels' own probability, 8 bits for the uniform density. The correction is Serra et al.'s S.

    The network, its Adamax and its initialisation by the first images are the official code's (openai/glow);
    `epochs` and `lr` those of the DLSR paper's baseline, with a warm-up of 5 epochs as in y0ast/Glow-PyTorch for
    this `lr` and `batch_size`. No augmentation. `clip`: the gradient's largest norm, `ema`: cap of the decay of
    averaged weights; neither is used in the published runs.
    """

    title: ClassVar[str] = "GLOW"
    paper: ClassVar[str] = (
        "Kingma and Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, NeurIPS 2018, "
        "https://arxiv.org/abs/1807.03039; complexity: Serra et al., Input Complexity and Out-of-distribution "
        "Detection with Likelihood-based Generative Models, ICLR 2020, https://arxiv.org/abs/1909.11480"
    )
    reads: ClassVar[tuple[str, ...]] = ("pixels",)
    score_only: ClassVar[tuple[str, ...]] = ("complexity",)
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    complexity: Literal["none", "png", "webp"] = "none"
    levels: Count = 3
    steps: Count = 32
    width: Count = 512
    epochs: Count = 150
    lr: Positive = 5e-4
    batch_size: Count = 64
    warmup_epochs: NotNegative = 5
    clip: Positive | None = None
    ema: Share | None = None

    @property
    def bits_per_dimension(self) -> bool:
        return self.complexity == "none"

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        self._check_size(x.need("pixels"))
        return torch.cat([self._score(block) for block in x.blocks(BLOCK)])

    def _score(self, x: Features) -> Tensor:
        pixels = x.need("pixels")
        dimensions = math.prod(pixels.shape[1:])
        # One number for each pixel of each image: the generator's own counter is the image and the place in it.
        places = x.index[:, None] * dimensions + torch.arange(dimensions, device=x.index.device)
        noise = uniform(places.flatten(), seed=self._seed, stream=0).view(pixels.shape)
        bits = in_bits(self._network.log_density(dequantise(pixels, noise)), dimensions)
        return bits if self.complexity == "none" else bits - compressed_bits(pixels, self.complexity)

    def fit(
        self,
        train: Features,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        precision: str = "32",
    ) -> Self:
        pixels = train.need("pixels")
        self._check_size(pixels)
        pixels = pixels.to(device)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            images = pixels[rows]
            return (dequantise(images, torch.rand(images.shape, generator=generator, device=images.device)),)

        def loss(network: nn.Module, images: Tensor) -> Tensor:
            return in_bits(cast(GlowNetwork, network).log_density(images), images[0].numel()).mean()

        with seeded(derive(seed)):
            network = GlowNetwork(**self._sizes()).to(device)
            first = torch.randperm(len(pixels))[:FIRST_IMAGES].to(device)
        network.start(*batch(first, torch.Generator(device).manual_seed(derive(seed, 1))))
        recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="adamax",
            lr=self.lr,
            warmup_epochs=self.warmup_epochs,
            clip=self.clip,
            ema=self.ema,
        )
        self.losses = train_network(
            network,
            batch,
            loss,
            len(pixels),
            recipe,
            seed=seed,
            device=device,
            name="glow",
            workdir=workdir,
            precision=precision,
            capture=True,
        )
        self._network, self._seed = network, seed
        return self

    @torch.no_grad()
    def pictures(self, x: Features) -> dict[str, Tensor]:
        """`samples` at temperature .7, of the size of the images in `x`."""
        height, width, channels = x.need("pixels").shape[1:]
        index = torch.arange(SAMPLES, device=x.index.device)
        latents = normal(index, height * width * channels, seed=self._seed, stream=1)
        images = self._network.inverse(TEMPERATURE * latents, (height, width))
        levels = ((images + 0.5) * 256).nan_to_num(0).clamp(0, 255)
        return {"samples": levels.to(torch.uint8).permute(0, 2, 3, 1).cpu()}

    def state(self) -> dict[str, Tensor]:
        state = {"seed": torch.tensor(self._seed), "losses": torch.tensor(self.losses, dtype=torch.float64)}
        return state | {f"network.{name}": value.cpu() for name, value in self._network.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._seed, self.losses = int(state["seed"]), state["losses"].tolist()
        with seeded(0):  # these weights are replaced at once; nobody's random numbers are spent on them
            network = GlowNetwork(**self._sizes())
        prefix = "network."
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        network.load_state_dict(own, assign=True)
        self._network = network.to(device).eval()
        return self

    def _sizes(self) -> dict[str, Any]:
        return {"levels": self.levels, "steps": self.steps, "width": self.width}

    def _check_size(self, pixels: Tensor) -> None:
        unit, (height, width) = 2**self.levels, pixels.shape[1:3]
        if height % unit or width % unit:
            raise CannotRun(f"glow: {self.levels} levels need sides that {unit} divides, not {height} x {width}")


def dequantise(pixels: Tensor, noise: Tensor) -> Tensor:
    """(N, 3, H, W) float32 in [-.5, .5] from uint8 (N, H, W, 3) and noise in [0, 1) of the same shape."""
    return ((pixels + noise) / 256 - 0.5).float().permute(0, 3, 1, 2).contiguous()


def in_bits(log_density: Tensor, dimensions: int) -> Tensor:
    """Bits a pixel value (N,) from the log density, in nats, of values whose grey levels are 1/256 wide."""
    return math.log2(256) - log_density / (dimensions * math.log(2))
