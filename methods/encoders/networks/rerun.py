"""What stands on another encoder's network and runs it otherwise: perturbed, with something removed, or listened to."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from methods.base import CannotRun, Head
from methods.encoders.base import Encoder, Images
from methods.encoders.images import preprocessing
from methods.encoders.networks.one_network import OneNetwork


@dataclass
class Rerun(Encoder):
    """An encoder with the weights of another, called `base`, that reads images itself.

    It gives all that its methods read, what its first pass has in common with the base among it, so that the price of a
    row is that of its own passes. A life: `prepare` the base before it is opened, `stand_on` it, `encode`.
    """

    reruns: ClassVar[bool] = True

    base: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base:
            raise ValueError(f"{self.title}: `base` names the encoder whose network it runs")
        self._below: OneNetwork | None = None

    def prepare(self, base: Encoder) -> None:
        """Before it is opened. ValueError where it has no network with a head."""
        if not isinstance(base, OneNetwork) or "logits" not in base.offers:
            raise ValueError("it has no network with a head of its own")

    def stand_on(self, base: Encoder) -> None:
        """The base, open, which is this encoder's own from now on."""
        assert isinstance(base, OneNetwork)
        self._below = base

    @property
    def below(self) -> OneNetwork:
        if self._below is None:
            raise RuntimeError(f"{self.title}: give it an encoder to stand on before encode")
        return self._below

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "logits", "layers")

    @property
    def resolution(self) -> int:
        """That of the network that it runs; 0 before it has one."""
        return 0 if self._below is None else self._below.resolution

    @property
    def shrinking(self) -> preprocessing.Shrinking | None:
        return self.below.shrinking

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self.below.layer_sizes if "layers" in self.offers else ()

    @property
    def memory_format(self) -> str | None:
        return self.below.memory_format

    def arrange(self, memory_format: str) -> None:
        self.below.arrange(memory_format)

    @property
    def head(self) -> Head | None:
        return self.below.head

    @property
    def network(self) -> nn.Module:
        return self.below.placed.network

    def resized(self, images: Images) -> Tensor:
        return self.below.resized(images)

    def encode_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        raise CannotRun(f"{self.title}: it runs its network again, with gradients or with a part removed")

    def logits(self, embedding: Tensor) -> Tensor:
        logits = self.below.logits(embedding)
        assert logits is not None  # `prepare` has looked
        return logits
