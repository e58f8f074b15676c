"""A network that a caller gives as an object: images come to it as it reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from methods.base import CannotRun, Head
from methods.device import memory
from methods.encoders.base import Encoder, HeadClasses, Images, register
from methods.encoders.networks.given import GivenNetwork, Reader, close
from methods.encoders.networks.inference import Placed, inference


@register("module")
@dataclass
class Module(Encoder):
    """`embedding`, `logits` and `layers`, as far as the network gives them, of images (N, ...) as it reads them.

    given: the network, looked into; no suite can name one. It runs as every other does: fused, its maps channels last,
    if what it then gives is what it gave before; else as it is.
    """

    title = "a module that is given (from Python: benchmark.evaluate)"
    is_given = True

    given: GivenNetwork | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given is None:
            raise ValueError("module: no network is given; from Python: benchmark.evaluate(network, ...)")
        self._placed: Placed[nn.Module] | None = None

    @property
    def network(self) -> GivenNetwork:
        """What was found out about the network."""
        assert self.given is not None
        return self.given

    @property
    def offers(self) -> tuple[str, ...]:
        there = {*self.network.given, *(("logits",) if self.network.head is not None else ())}
        return tuple(name for name in ("embedding", "logits", "layers") if name in there)

    @property
    def resolution(self) -> int:
        return int(self.network.batch.shape[-1])

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self.network.layer_sizes

    @property
    def head(self) -> Head | None:
        return self.network.head

    @property
    def given_classes(self) -> HeadClasses | None:
        return None if self.head is None else HeadClasses(len(self.head.weight))

    @property
    def takes(self) -> str:
        batch = self.network.batch
        kind, shape = str(batch.dtype).removeprefix("torch."), ", ".join(map(str, batch.shape[1:]))
        return f"images as the network reads them: {kind} (N, {shape})"

    @property
    def built_from(self) -> dict[str, Any]:
        """CannotRun: no file can be made of an object."""
        raise CannotRun(
            f"{self.network.title} is an object, of which no file is made: --network NAME --checkpoint FILE"
        )

    @property
    def memory_format(self) -> str | None:
        return None if self._placed is None else self._placed.memory_format

    def arrange(self, memory_format: str) -> None:
        if self._placed is not None:
            self._placed.arrange(memory_format)

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        """Place it so that it still gives what it gave; ValueError where it does not in any way."""
        self._device, given = device, self.network
        self._device_head = None if given.head is None else given.head.to(device)
        read = (*given.maps, *([given.head_name] if given.head_name else []))
        everything = tuple(name for name, _ in given.network.named_modules())
        for listened, memory_format in (
            (read, None),
            (read, "contiguous"),
            (everything, None),
            (everything, "contiguous"),
        ):
            try:
                self._placed = Placed(given.network, given.title, device=device, exactness=precision, read=listened)
                if memory_format is not None:
                    self._placed.arrange(memory_format)
                self._reader = Reader(self._placed.network, given.title, given.head_name, given.maps)
                ours = self._run(given.batch)
            except Exception as error:
                if memory.out_of_memory(error):
                    raise
                continue  # the caller's code may not allow what others do: a view of maps channels last
            if all(close(ours[name].cpu(), values, precision) for name, values in given.given.items()):
                return self
        raise ValueError(
            f"{given.title} gives other outputs for the same images when it runs again on {device}: does it draw, or "
            "depend on the images beside one?"
        )

    def encode(self, images: Images) -> dict[str, Tensor]:
        if self._placed is None:
            raise RuntimeError("open the encoder before encode")
        found = self._run(images if isinstance(images, Tensor) else torch.stack(list(images)))
        if self._device_head is not None:
            with inference(self._device, "32"):  # the head's own arithmetic, so that methods can repeat it
                found["logits"] = self._device_head(found["embedding"])
        return {name: found[name] for name in self.offers}

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        assert self._placed is not None
        x = images.to(self._device)
        with self._placed.running():
            if x.is_floating_point():
                x = self._placed.fed(x) if x.ndim == 4 else x.to(self._placed.dtype)
            return self._reader(x)
