"""Any timm model with its published weights: pooled feature maps, and the embedding before its classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Range
from methods.encoders.base import Encoder, Images, register
from methods.encoders.images import preprocessing
from methods.encoders.networks import checkpoints, timm_models
from methods.encoders.networks.inference import Placed


@register("pretrained")
@dataclass
class Pretrained(Encoder):
    """`embedding` (N, D): the pooled last map. `layers`: one pooled vector a feature map. One forward pass.

    model: a timm name with its tag. layers: names of modules, None = all maps that timm lists for the model.
    pooling: "gap", or "grid14": each map is first resized (bilinear, align_corners=True) to the grid of
    stride 16, which is 14 x 14 at 224, then averaged; DLSR's paper says the first, its code does the second
    (paper.md, 2.1). Images are stretched to resolution x resolution. Mean and std come from the weights
    file's header, else from timm's configuration of these weights.
    """

    title = "pretrained (timm)"
    paper = "Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models"

    model: str = "tf_efficientnet_b4.aa_in1k"
    layers: tuple[str, ...] | None = None
    pooling: Literal["gap", "grid14"] = "gap"
    resolution: Annotated[int, Range(16, 4096)] = 224

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers == ():
            raise ValueError("pretrained: layers is empty; leave it out for all of the model's maps")
        self._placed: Placed[nn.Module] | None = None
        self._layer_sizes: tuple[int, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "layers")

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        return preprocessing.Shrinking(self.resolution)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self._layer_sizes

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """`<directory>/<model>.safetensors`, with the tag or without, then the Hugging Face cache, then the hub.

        ValueError for a model that timm does not have, CannotRun where there are no weights.
        """
        return timm_models.find_weights(self.model, self.resolution, directory, download=download)

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        if weights is None:
            raise ValueError(f"pretrained: {self.model} needs a weights file")
        self._device, self._file = device, weights
        network, self._mean, self._std = timm_models.pretrained(self.model, self.resolution, weights)
        read = timm_models.map_names(network, self.model, self.layers)
        self._placed = Placed(network, self.model, device=device, exactness=precision, read=read)
        side = self.resolution // 16 if self.pooling == "grid14" else None
        self._maps = timm_models.PooledMaps(self._placed.network, self.model, read, side=side)
        self._run(torch.zeros((1, 3, self.resolution, self.resolution), device=self._device))
        self._layer_sizes = tuple(pooled.shape[1] for pooled in self._maps.take())
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Read once more: the network here has its norms folded into its convolutions."""
        network, mean, std = timm_models.pretrained(self.model, self.resolution, self._file)
        return network.state_dict(), checkpoints.said(mean, std)

    @property
    def memory_format(self) -> str | None:
        return None if self._placed is None else self._placed.memory_format

    def arrange(self, memory_format: str) -> None:
        if self._placed is not None:
            self._placed.arrange(memory_format)

    def encode(self, images: Images) -> dict[str, Tensor]:
        return self.encode_pixels(preprocessing.stretch(images, self.resolution, self._device))

    def encode_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"embedding": self._run(pixels), "layers": torch.cat(self._maps.take(), 1)}

    def _run(self, pixels: Tensor) -> Tensor:
        """One forward pass: returns the embedding, and leaves the layers in `_maps`."""
        if self._placed is None:
            raise RuntimeError("open the encoder before encode")
        with self._placed.running():
            x = self._placed.fed(preprocessing.normalise(pixels, self._mean, self._std))
            return timm_models.embed(self._placed.network, x).float()
