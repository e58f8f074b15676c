"""An encoder that is one network on normalised images: what it shares with others, and with what stands on it."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.encoders.base import Encoder, Images
from methods.encoders.images import preprocessing
from methods.encoders.networks.inference import Placed, exactly


@dataclass
class OneNetwork(Encoder):
    """The pass in its steps, so that encoders which stand on it can run the network otherwise.

    `fused`: whether batch norms become part of the convolutions before them; to be set before it is opened.
    """

    fused = True  # no annotation: it is no setting

    def __post_init__(self) -> None:
        super().__post_init__()
        self._engine: Callable[[Tensor], dict[str, Tensor]] | None = None

    def run_on(self, engine: Callable[[Tensor], dict[str, Tensor]] | None) -> None:
        """Have `encode` take this in the place of `encode_pixels` from now on; None: torch."""
        self._engine = engine

    @property
    @abstractmethod
    def placed(self) -> Placed[nn.Module]:
        """The network to encode with; RuntimeError where there are no weights yet."""

    @property
    @abstractmethod
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std a channel, of pixels from 0 to 1; once there are weights."""

    @property
    @abstractmethod
    def maps(self) -> tuple[str, ...]:
        """The modules whose outputs are its feature maps, from the image on; once there are weights."""

    @abstractmethod
    def resized(self, images: Images) -> Tensor:
        """float32 (N, 3, R, R) from 0 to 255, on the device."""

    @abstractmethod
    def passed(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The embedding (N, D), and each feature map averaged (N, c), of `normalised` images; in `placed.running()`."""

    @abstractmethod
    def logits(self, embedding: Tensor) -> Tensor | None:
        """What the head makes of the embedding (N, K); None without a head."""

    def normalised(self, pixels: Tensor) -> Tensor:
        """`resized` images as the network reads them."""
        return self.placed.fed(preprocessing.normalise(pixels, *self.normalisation))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """What `encode` returns, of `normalised` images: in `placed.running()`, or where gradients are asked for."""
        embedding, layers = self.passed(x)
        embedding = embedding.float()
        with exactly(self.placed.device, "32"):  # the head's own arithmetic, so that methods can repeat it
            logits = self.logits(embedding)
            given = {"embedding": embedding, "layers": torch.cat([layer.float() for layer in layers], 1)}
            return given if logits is None else {**given, "logits": logits}

    @property
    def memory_format(self) -> str | None:
        return self.placed.memory_format

    def arrange(self, memory_format: str) -> None:
        self.placed.arrange(memory_format)

    def found_sizes(self, side: int) -> tuple[int, ...]:
        """The channels of each map, of a pass over a black image of that side."""
        with self.placed.running():
            black = self.normalised(torch.zeros((1, 3, side, side), device=self.placed.device))
            return tuple(layer.shape[1] for layer in self.passed(black)[1])

    def encode(self, images: Images) -> dict[str, Tensor]:
        pixels = self.resized(images)
        return self.encode_pixels(pixels) if self._engine is None else self._engine(pixels)

    def encode_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        with self.placed.running():
            return self.features(self.normalised(pixels))
