"""Any timm model with its published weights: pooled feature maps, the embedding, and its own classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Head, Range
from methods.encoders.base import HeadClasses, Images, register
from methods.encoders.images import preprocessing
from methods.encoders.networks import checkpoints, named, timm_models
from methods.encoders.networks.inference import Placed
from methods.encoders.networks.one_network import OneNetwork


@register("pretrained")
@dataclass
class Pretrained(OneNetwork):
    """`embedding` (N, D): the pooled last map. `layers`: one pooled vector a feature map. One forward pass.

    `logits` and the head: those of the model's own classifier, where that is one linear layer behind the embedding and
    the file holds it. model: a timm name with its tag. layers: names of modules, None = all maps that timm lists for
    the model. pooling: "gap", or "grid14": each map is first resized (bilinear, align_corners=True) to the grid of
    stride 16, which is 14 x 14 at 224, then averaged; DLSR's paper says the first, its code does the second
    (paper.md, 2.1).
    resolution: images are stretched to resolution x resolution; or, where `crop` is given as well, their short side
    comes to resolution / crop pixels, and the centre is read. With neither both are the weights' own. Mean and std come
    from the weights file's header, else from timm's configuration of these weights.
    """

    title = "pretrained (timm)"
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
        if self.resolution is None:
            own = named.reading("timm", timm_models.known(self.model))
            self.resolution, self.crop = own.size, self.crop or own.crop
        self._side: int = self.resolution
        self._placed: Placed[nn.Module] | None = None
        self._head: Head | None = None
        self._device_head: Head | None = None
        self._layer_sizes: tuple[int, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "layers", *(("logits",) if named.has_head("timm", self.model) else ()))

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        if self.crop is None:
            return preprocessing.Shrinking(self._side)
        short = math.floor(self._side / self.crop)
        mode = named.reading("timm", self.model).mode
        return preprocessing.Shrinking(short, mode, crop=True, centre=self._side)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self._layer_sizes

    @property
    def head(self) -> Head | None:
        return self._head

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """`<directory>/<model>.safetensors`, with the tag or without, then the Hugging Face cache, then the hub.

        ValueError for a model that timm does not have, CannotRun where there are no weights.
        """
        return timm_models.find_weights(self.model, self._side, directory, download=download)

    def head_in(self, weights: Path) -> HeadClasses | None:
        import timm

        if not named.has_head("timm", self.model):
            return None
        with torch.device("meta"):  # its sizes alone
            like = timm.create_model(self.model, pretrained=False, num_classes=2)
        state, header = checkpoints.read(weights, like)
        names = timm_models.head_names(self.model)
        if not checkpoints.classes_in(state, names):
            return None
        return timm_models.of_imagenet(checkpoints.head_classes(state, header, names, like, weights))

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        if weights is None:
            raise ValueError(f"pretrained: {self.model} needs a weights file")
        self._device, self._file = device, weights
        has_head = named.has_head("timm", self.model)
        network, self._mean, self._std = timm_models.pretrained(self.model, self._side, weights, head=has_head)
        if has_head and not isinstance(network.get_submodule(name := named.head_name("timm", self.model)), nn.Identity):
            self._head = named.take_head(network, name, self.model, self._side, timm_models.embed)
            self._device_head = self._head.to(device)
        read = timm_models.map_names(network, self.model, self.layers)
        self._placed = Placed(network, self.model, device=device, exactness=precision, read=read, fused=self.fused)
        side = self._side // 16 if self.pooling == "grid14" else None
        self._pooled = timm_models.PooledMaps(self._placed.network, self.model, read, side=side)
        self._layer_sizes = self.found_sizes(self._side)
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Read once more: the network here has its norms folded into its convolutions."""
        has_head = named.has_head("timm", self.model)
        network, mean, std = timm_models.pretrained(self.model, self._side, self._file, head=has_head)
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
        return timm_models.embed(self.placed.network, x), self._pooled.take()

    def logits(self, embedding: Tensor) -> Tensor | None:
        return None if self._device_head is None else self._device_head(embedding)
