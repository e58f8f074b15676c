"""The image itself as a feature, for methods that read pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from torch import Tensor

from methods.base import Range
from methods.encoders.base import Encoder, Images, register
from methods.encoders.images import preprocessing


@register("pixels")
@dataclass
class Pixels(Encoder):
    """`pixels` (N, R, R, 3) uint8: the short side to `resolution` (antialiased bicubic), then the centre.

    Images that already are R x R come out unchanged. `resolution`: the ID set's size.
    """

    title = "pixels"
    runs_network = False

    resolution: Annotated[int, Range(1, 4096)] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._device = "cpu"

    @property
    def offers(self) -> tuple[str, ...]:
        return ("pixels",)

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        return preprocessing.to_id_size(self.resolution)

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        self._device = device
        return self

    def encode(self, images: Images) -> dict[str, Tensor]:
        return {"pixels": preprocessing.to_size(images, self.resolution, self._device)}
