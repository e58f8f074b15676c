"""A classifier of the ID set's own classes: from a checkpoint, or trained here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import Count, Features, Head, NotNegative, Positive, Range
from methods.encoders.base import register
from methods.encoders.images import preprocessing
from methods.encoders.images.augmentation import random_crop, random_flip
from methods.encoders.networks import checkpoints, cifar
from methods.encoders.networks.trainable import OfStages
from methods.training import loop
from methods.training.recipe import Recipe


@register("classifier")
@dataclass
class Classifier(OfStages):
    """`embedding`, `logits`, `layers` (the averaged output of every stage) and the head, in one pass.

    checkpoint: the stem of a file in the weights folder. shipped: the name of a safetensors file beside the suite, used
    where no seeds are asked for and for seed 0. With neither the network is trained. classes: None = as many as the
    checkpoint or the labels have; names, in the order of its outputs, for a file that does not say them. augment: a
    random crop from the image padded with black by an eighth (4 pixels at 32), and a flip. held_out: a share of the
    training images (`split`) that it is not trained on, for what starts from it and needs images that are new to it;
    none where `validation` holds such images.
    The default recipe is OpenOOD's (v1.5: SGD, Nesterov .9, cosine, 100 epochs; baselines.md 1 D). Mean and std are
    those of the checkpoint's header, or of the training images. Images of another size: short side to `resolution`,
    centre crop, as in DICE.
    """

    title = "classifier"

    architecture: str = "resnet18"
    classes: Annotated[int, Range(2, 10**6)] | tuple[str, ...] | None = None
    shipped: str | None = None
    resolution: Annotated[int, Range(8, 4096)] = 32
    epochs: Count = 100
    batch_size: Count = 128
    lr: Positive = 0.1
    weight_decay: NotNegative = 5e-4
    augment: Literal["crop_flip", "crop", "none"] = "crop_flip"
    held_out: Annotated[float, Range(0, 1, "[)")] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        cifar.architecture(self.architecture)
        if self.shipped is not None:
            if self.shipped != Path(self.shipped).name or not self.shipped.endswith(".safetensors"):
                raise ValueError(f"classifier: shipped is the name of a .safetensors file, not {self.shipped!r}")
            if self.checkpoint is not None:
                raise ValueError("classifier: the network comes from `checkpoint` or from `shipped`, not from both")
        self._recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="sgd",
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=0.9,
            nesterov=True,
            schedule="cosine",
        )

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "logits", "layers")

    @property
    def head(self) -> Head | None:
        if self._network is None:
            return None
        layer = self._network.head
        return Head(layer.weight.detach().cpu().clone(), layer.bias.detach().cpu().clone())

    @property
    def network_name(self) -> str:
        return self.architecture

    @property
    def head_names(self) -> tuple[str, ...]:
        return cifar.HEADS

    @property
    def given(self) -> int | tuple[str, ...] | None:
        return self.classes

    def _build(self, classes: int) -> cifar.Network:
        return cifar.build(self.architecture, classes)

    def find_shipped(self, folder: Path) -> Path | None:
        return None if self.shipped is None else checkpoints.need(folder, self.shipped)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Train on `pixels` and labels; CannotRun without labels."""
        pixels, labels = train.need("pixels"), train.need_labels()
        found = int(labels.max()) + 1
        if self.outputs is not None and found > self.outputs:
            raise ValueError(f"the labels have {found} classes, more than classes: {self.outputs}")
        if self.held_out and train.validation is None:
            fitted, _ = split(len(labels), self.held_out)
            pixels, labels = pixels[fitted], labels[fitted]
        self._mean, self._std = preprocessing.statistics(pixels)
        with loop.seeded(seed):
            network = self._build(self.outputs or max(found, 2))
        pixels, labels = preprocessing.to_train_on(pixels, device), labels.to(device)

        augmented = self._augmenting(pixels, device)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            return augmented(rows, generator), labels[rows]

        def loss(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
            return functional.cross_entropy(model(images), classes)

        self.losses = loop.train(
            network.to(memory_format=torch.channels_last),
            batch,
            loss,
            len(labels),
            self._recipe,
            seed=seed,
            device=device,
            name=self.architecture,
            workdir=workdir,
            precision=self._precision,
            capture=pixels.device.type == torch.device(device).type,
        )
        self._trained = True
        self._place(network)
        return self

    def _augmenting(self, pixels: Tensor, device: str) -> Callable[[Tensor, torch.Generator], Tensor]:
        """Gives a batch of the training images `pixels` as the network reads it: float32 (n, 3, R, R), normalised."""
        mean, std = (torch.tensor(values, device=device) for values in (self._mean, self._std))

        def augmented(rows: Tensor, generator: torch.Generator) -> Tensor:
            images = preprocessing.resize_and_crop(pixels[rows.to(pixels.device)], self.resolution, device)
            if self.augment != "none":
                images = random_crop(images, self.resolution // 8, generator)
            if self.augment == "crop_flip":
                images = random_flip(images, generator)
            return preprocessing.normalise(images, mean, std)

        return augmented

    def logits(self, embedding: Tensor) -> Tensor:
        assert self._network is not None
        logits: Tensor = self._network.head(embedding)
        return logits


def split(count: int, held_out: float) -> tuple[Tensor, Tensor]:
    """Rows to train on, and a share `held_out` of all, one at least, that is not, by a fixed permutation; ascending."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    held = max(round(held_out * count), int(held_out > 0))
    return order[held:].sort().values, order[:held].sort().values
