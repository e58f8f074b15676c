"""Any model of timm or torchvision with its published weights: pooled maps, the embedding, its own classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Head, Range
from methods.encoders.base import HeadClasses, Images, register
from methods.encoders.images import preprocessing
from methods.encoders.networks import checkpoints, named, timm_models, torchvision_models
from methods.encoders.networks.inference import Placed
from methods.encoders.networks.one_network import OneNetwork


@register("pretrained")
@dataclass
class Pretrained(OneNetwork):
    """`embedding` (N, D): the pooled last map. `layers`: one pooled vector a feature map. One forward pass.

    `logits` and the head: those of the model's own classifier, where that is one linear layer behind the embedding and
    the file holds it. model: a name of timm with its tag, else of torchvision (`vit_b_16`, `swin_t`), with the tag of
    its weights or without. layers: names of modules, None = all maps that timm lists for the model, of torchvision's
    the last of each size. pooling: "gap", or "grid14": each map is first resized (bilinear, align_corners=True) to the
    grid of stride 16, which is 14 x 14 at 224, then averaged; DLSR's paper says the first, its code does the second
    (paper.md, 2.1).
    resolution: images are stretched to resolution x resolution; or, where `crop` is given as well, their short side
    comes to resolution / crop pixels, and the centre is read. With neither both are the weights' own. Mean and std come
    from the weights file's header, else from what the library says of these weights.
    """

    title = "pretrained (timm, torchvision)"
    paper = "Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models"

    model: str = "tf_efficientnet_b4.aa_in1k"
    layers: tuple[str, ...] | None = None
    pooling: Literal["gap", "grid14"] = "gap"
    resolution: Annotated[int, Range(16, 4096)] | None = None  # type: ignore[assignment]  # a number, once created
    crop: Annotated[float, Range(0, 1, "(]")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers == ():
            raise ValueError("pretrained: layers is empty; leave it out for all of the model's maps")
        self._library = named.library_of(self.model)
        self._models = timm_models if self._library == "timm" else torchvision_models
        if self._library == "torchvision":
            named.head_name(self._library, self.model)  # else its embedding is not known
        if self.resolution is None:
            own = named.reading(self._library, self.model)
            self.resolution, self.crop = own.size, self.crop or own.crop
        self._side: int = self.resolution
        self._placed: Placed[nn.Module] | None = None
        self._head: Head | None = None
        self._device_head: Head | None = None
        self._layer_sizes: tuple[int, ...] = ()

    @property
    def _has_head(self) -> bool:
        return named.has_head(self._library, self.model)

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "layers", *(("logits",) if self._has_head else ()))

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        if self.crop is None:
            return preprocessing.Shrinking(self._side)
        short = math.floor(self._side / self.crop)
        mode = named.reading(self._library, self.model).mode
        return preprocessing.Shrinking(short, mode, crop=True, centre=self._side)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self._layer_sizes

    @property
    def head(self) -> Head | None:
        return self._head

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """`<directory>/<model>.safetensors`, with the tag or without, then the library's cache, then its server.

        CannotRun where there are no weights.
        """
        found: Path = self._models.find_weights(self.model, self._side, directory, download=download)
        return found

    def head_in(self, weights: Path) -> HeadClasses | None:
        if not self._has_head:
            return None
        with torch.device("meta"):  # its sizes alone
            like = named.build(self._library, self.model, 2)
        state, header = checkpoints.read(weights, like)
        names = self._models.head_names(self.model)
        if not checkpoints.classes_in(state, names):
            return None
        return timm_models.of_imagenet(checkpoints.head_classes(state, header, names, like, weights))

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        if weights is None:
            raise ValueError(f"pretrained: {self.model} needs a weights file")
        self._device, self._file = device, weights
        has_head = self._has_head
        network, self._mean, self._std = self._models.pretrained(self.model, self._side, weights, head=has_head)
        name = named.head_name(self._library, self.model) if has_head else ""
        if has_head and not isinstance(network.get_submodule(name), nn.Identity):
            self._head = named.take_head(network, name, self.model, self._side, self._models.embed)
            self._device_head = self._head.to(device)
        read = self._models.map_names(network, self.model, self.layers)
        self._placed = Placed(network, self.model, device=device, exactness=precision, read=read, fused=self.fused)
        side = self._side // 16 if self.pooling == "grid14" else None
        self._pooled = timm_models.PooledMaps(self._placed.network, self.model, read, side=side)
        self._layer_sizes = self.found_sizes(self._side)
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Read once more: the network here has its norms folded into its convolutions."""
        network, mean, std = self._models.pretrained(self.model, self._side, self._file, head=self._has_head)
        return network.state_dict(), checkpoints.said(mean, std)

    @property
    def placed(self) -> Placed[nn.Module]:
        if self._placed is None:
            raise RuntimeError("open the encoder before encode")
        return self._placed

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._mean, self._std

    @property
    def maps(self) -> tuple[str, ...]:
        return self._pooled.names

    def resized(self, images: Images) -> Tensor:
        if self.crop is None:
            return preprocessing.stretch(images, self._side, self._device)
        return preprocessing.prepared(images, self.shrinking, self._device)

    def passed(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._models.embed(self.placed.network, x), self._pooled.take()

    def logits(self, embedding: Tensor) -> Tensor | None:
        return None if self._device_head is None else self._device_head(embedding)
