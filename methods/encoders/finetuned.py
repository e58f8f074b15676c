"""A timm model with a classifier of the ID set's own classes, trained whole from its published weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import Count, Features, Head, NotNegative, Positive, Range
from methods.encoders.base import HeadClasses, Images, register
from methods.encoders.images import preprocessing
from methods.encoders.images.augmentation import random_flip
from methods.encoders.networks import checkpoints, timm_models
from methods.encoders.networks.trainable import Trainable
from methods.training import loop
from methods.training.recipe import Recipe


@register("finetuned")
@dataclass
class Finetuned(Trainable[nn.Module]):
    """`embedding`, `logits`, `layers` (every map that timm lists, averaged) and the head, in one pass.

    The setting of MSP, energy, DICE and ASH-S in DLSR's Tables 3 and 6; `probe` is its cheap form. The paper
    does not say how it trained; the recipe here is ours: AdamW, a classifier that starts at zero (BiT), one
    epoch of warm-up where there is more than one, cosine per step. Batch norms keep the mean and variance
    that they came with (gain and bias are trained): some files have theirs folded into the weights, and with
    a batch's own statistics such a network is no longer the one that was pretrained.

    model: a timm name with its tag, whose weights are found as those of `pretrained`. checkpoint: the stem of
    a file in the weights folder with the whole network under timm's names; without it the network is
    trained. classes: None = as many as the checkpoint or the labels have. Images are stretched to resolution
    x resolution. Mean and std are those of the file's header, else timm's for the model.
    augment: mirror half of the training images, or "none".
    """

    title = "fine-tuned (timm)"
    paper = "Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models"

    model: str = "tf_efficientnet_b4.aa_in1k"
    classes: Annotated[int, Range(2, 10**6)] | tuple[str, ...] | None = None
    resolution: Annotated[int, Range(16, 4096)] = 224
    epochs: Count = 10
    batch_size: Count = 64
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-2
    augment: Literal["flip", "none"] = "flip"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="adamw",
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule="cosine",
            warmup_epochs=1 if self.epochs > 1 else 0,
        )
        self._start: Path | None = None
        self._layer_sizes: tuple[int, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "logits", "layers")

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        return preprocessing.Shrinking(self.resolution)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self._layer_sizes

    @property
    def head(self) -> Head | None:
        if self._network is None:
            return None
        layer = timm_models.classifier(self._network, self.model)
        return Head(layer.weight.detach().cpu().clone(), layer.bias.detach().cpu().clone())

    @property
    def network_name(self) -> str:
        return self.model

    @property
    def head_names(self) -> tuple[str, ...]:
        return (f"{timm_models.configuration(self.model, self.resolution).classifier}.weight",)

    @property
    def given(self) -> int | tuple[str, ...] | None:
        return self.classes

    def _build(self, classes: int) -> nn.Module:
        import timm

        network: nn.Module = timm.create_model(self.model, pretrained=False, num_classes=classes)
        return network

    def _normalisation(self, header: Mapping[str, str], weights: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
        config = timm_models.configuration(self.model, self.resolution)
        return checkpoints.normalisation(header, weights) or (tuple(config.mean), tuple(config.std))

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        timm_models.configuration(self.model, self.resolution)
        return super().find_weights(directory, download=download)

    def head_in(self, weights: Path) -> HeadClasses | None:
        head = super().head_in(weights)
        return head and timm_models.of_imagenet(head)

    def find_start(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """The published weights of the model, as `pretrained` finds them; CannotRun where there are none."""
        return timm_models.find_weights(self.model, self.resolution, directory, download=download)

    def start_from(self, weights: Path) -> Self:
        self._start = weights
        return self

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Train on `pixels` and labels; CannotRun without labels."""
        pixels, labels = train.need("pixels"), train.need_labels()
        if self._start is None:
            raise RuntimeError(f"finetuned: give it the weights of {self.model} with `start_from` before fit")
        found = int(labels.max()) + 1
        if self.outputs is not None and found > self.outputs:
            raise ValueError(f"the labels have {found} classes, more than classes: {self.outputs}")
        network: Any
        with loop.seeded(seed):
            network, self._mean, self._std = timm_models.pretrained(self.model, self.resolution, self._start)
            network.reset_classifier(self.outputs or max(found, 2))
        layer = timm_models.classifier(network, self.model)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        pixels, labels = preprocessing.to_train_on(pixels, device), labels.to(device)

        mean, std = (torch.tensor(values, device=device) for values in (self._mean, self._std))
        norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            images = preprocessing.stretch(pixels[rows.to(pixels.device)], self.resolution, device)
            if self.augment == "flip":
                images = random_flip(images, generator)
            return preprocessing.normalise(images, mean, std), labels[rows]

        def loss(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
            for norm in norms:
                norm.eval()
            return functional.cross_entropy(model(images), classes)

        # Not captured: what the forward pass of any of timm's models does, nobody has looked at.
        self.losses = loop.train(
            network.to(memory_format=torch.channels_last),
            batch,
            loss,
            len(labels),
            self._recipe,
            seed=seed,
            device=device,
            name=f"finetuned {self.model}",
            workdir=workdir,
            precision=self._precision,
        )
        self._trained = True
        self._place(network)
        return self

    def resized(self, images: Images) -> Tensor:
        return preprocessing.stretch(images, self.resolution, self._device)

    def passed(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return timm_models.embed(self.placed.network, x), self._pooled.take()

    def logits(self, embedding: Tensor) -> Tensor:
        logits: Tensor = timm_models.classifier(self._network, self.model)(embedding)
        return logits

    @property
    def maps(self) -> tuple[str, ...]:
        return self._pooled.names

    def _listened(self, network: nn.Module) -> tuple[str, ...]:
        return timm_models.map_names(network, self.model)

    def _place(self, network: nn.Module) -> None:
        """Ready to encode, with a fused copy whose maps are listened to."""
        super()._place(network)
        self._pooled = timm_models.PooledMaps(self.placed.network, self.model)
        self._layer_sizes = self.found_sizes(self.resolution)
