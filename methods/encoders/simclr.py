"""A network trained without labels: two views of an image are to have near embeddings, others far ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import Count, Features, NotNegative, Positive, Range
from methods.encoders.base import register
from methods.encoders.images import augmentation, preprocessing
from methods.encoders.networks import cifar
from methods.encoders.networks.trainable import OfStages
from methods.training import loop
from methods.training.recipe import Recipe

PROJECTED = 128  # numbers in what the loss compares
BASE_TEMPERATURE = 0.07  # of the SupCon code that SSD trains with


@register("simclr")
@dataclass
class SimCLR(OfStages):
    """`embedding`, and `layers` (the averaged output of every stage): SimCLR by the recipe of SSD.

    Loss: NT-Xent between two views of each image of a batch, on the output of a projection head
    (Linear(d, d), ReLU, Linear(d, 128), L2-normalised), which is dropped afterwards. SGD, momentum .9;
    warm-up, then `epochs` of cosine, per step. lr and weight_decay are meant as in SSD's code, whose loss is
    NT-Xent times c = temperature / 0.07 (7.14 at 0.5): here it is NT-Xent itself, with lr c and
    weight_decay / c, which are the same steps (3.57 and 1.4e-5).

    augment: "ssd": random resized crop (.2 to 1 of the area), flip, colour jitter (.4, .4, .4, .1; p .8),
    greyscale (p .2). "digits": a crop (.5 to 1) alone, as a mirrored digit is none, and has no colour.
    checkpoint: the stem of a file in the weights folder (no head; mean and std in its header); without
    it the network is trained. Mean and std are otherwise those of the training images.
    Images of another size: short side to `resolution`, centre crop. One view, the whole image, to `encode`.
    """

    title = "SimCLR"
    paper = (
        "Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020, "
        "https://arxiv.org/abs/2002.05709; recipe: Sehwag et al., SSD, ICLR 2021, https://arxiv.org/abs/2103.12051"
    )
    supervised = False

    architecture: str = "resnet18"
    resolution: Annotated[int, Range(8, 4096)] = 32
    epochs: Count = 500
    warmup_epochs: Annotated[int, Range(0, 10**6)] = 10
    batch_size: Annotated[int, Range(2, 10**6)] = 512  # images to be compared
    lr: Positive = 0.5
    weight_decay: NotNegative = 1e-4
    temperature: Positive = 0.5
    augment: Literal["ssd", "digits"] = "ssd"

    def __post_init__(self) -> None:
        super().__post_init__()
        cifar.architecture(self.architecture)
        factor = self.temperature / BASE_TEMPERATURE
        self._recipe = Recipe(
            epochs=self.epochs + self.warmup_epochs,
            batch_size=self.batch_size,
            optimizer="sgd",
            lr=self.lr * factor,
            weight_decay=self.weight_decay / factor,
            momentum=0.9,
            schedule="cosine",
            warmup_epochs=self.warmup_epochs,
            drop_last=True,  # so that every image is compared with as many others
        )

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "layers")

    @property
    def network_name(self) -> str:
        return self.architecture

    def _build(self, classes: int) -> cifar.Network:
        return _trunk(self.architecture)[0]

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Train on `pixels`; labels are not looked at."""
        pixels = train.need("pixels")
        if len(pixels) < 2:
            raise ValueError("simclr: needs at least 2 training images, to be compared")
        self._mean, self._std = preprocessing.statistics(pixels)
        with loop.seeded(seed):
            network, width = _trunk(self.architecture)
            model = _Projected(network, width)
        pixels = preprocessing.to_train_on(pixels, device)

        mean, std = (torch.tensor(values, device=device) for values in (self._mean, self._std))

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            images = preprocessing.resize_and_crop(pixels[rows.to(pixels.device)], self.resolution, device)
            views = self._augment(torch.cat([images, images]), generator)
            return (preprocessing.normalise(views, mean, std),)

        def loss(model: nn.Module, views: Tensor) -> Tensor:
            # both views in one pass: batch norm's statistics are those of all 2B
            return nt_xent(model(views), self.temperature)

        self.losses = loop.train(
            model.to(memory_format=torch.channels_last),
            batch,
            loss,
            len(pixels),
            self._recipe,
            seed=seed,
            device=device,
            name=f"SimCLR {self.architecture}",
            workdir=workdir,
            precision=self._precision,
            capture=pixels.device.type == torch.device(device).type,
        )
        self._trained = True
        self._place(network)
        return self

    def _augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each image (N, 3, R, R), from 0 to 255, each with its own random numbers."""
        if self.augment == "digits":
            return augmentation.random_resized_crop(images, (0.5, 1.0), generator)
        images = augmentation.random_resized_crop(images, (0.2, 1.0), generator)
        images = augmentation.random_flip(images, generator)
        images = augmentation.color_jitter(images, generator, strength=(0.4, 0.4, 0.4, 0.1), probability=0.8)
        return augmentation.random_greyscale(images, 0.2, generator)

    def logits(self, embedding: Tensor) -> None:
        """It has no head."""


def nt_xent(projected: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy of SimCLR, equation 1, averaged over all 2B views.

    projected: (2B, D); row i and row i + B are two views of one image, all others are negatives.
    """
    with torch.autocast(projected.device.type, enabled=False):
        z = functional.normalize(projected.float(), dim=1)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        similarity = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
        partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
        return functional.cross_entropy(similarity, partner)


class _Projected(nn.Module):
    """A network with the head that the loss looks through; its output is not normalised yet."""

    def __init__(self, network: cifar.Network, width: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTED))

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.head(self.network.embedding(self.network.stages(x)[-1]))
        return projected


def _trunk(architecture: str) -> tuple[cifar.Network, int]:
    """The network without its linear layer, and the width of its embedding."""
    network = cifar.build(architecture, 2)
    linear = network.head
    name = next(name for name, module in network.named_children() if module is linear)
    delattr(network, name)
    return network, linear.in_features
