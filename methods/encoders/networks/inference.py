"""How every network of an encoder is run: where, how exactly, and in which memory format."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from methods.device import memory, precision
from methods.encoders.networks import fusing

N = TypeVar("N", bound=nn.Module)

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# Under strict float32 on a GPU, by the beginning of the network's name: fused networks that ran faster so on an H200
# than as they are (images/s: EfficientNet-B4 3,055 and 2,751, Lite0 9,747 and 9,072). ResNet-50 (2,973 and 3,475) and
# DenseNet (6,920 and 12,886) ran slower.
CHANNELS_LAST = ("tf_efficientnet_b4", "efficientnet_b4", "tf_efficientnet_lite0", "efficientnet_lite0")


def memory_format(network: str, device: str, exactness: str) -> str:
    """The memory format, of `FORMATS`, in which a network of that name runs: what is not known runs as it is."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and exactness == "32" and not network.startswith(CHANNELS_LAST):
        return "contiguous"
    return "channels_last"


@contextmanager
def inference(device: str, exactness: str) -> Iterator[None]:
    """No gradients; float32 as `exactness` says. bf16 on the CPU is autocast, on a GPU the weights' own (`Placed`)."""
    memory.keep_freed()
    kind = torch.device(device).type
    with (
        torch.inference_mode(),
        precision.switches(exactness, device),
        torch.autocast(kind, torch.bfloat16, enabled=exactness == "bf16" and kind == "cpu"),
    ):
        yield


class Placed(Generic[N]):
    """A copy of a network to encode with: fused, on its device, weights of the type that the precision asks for.

    read: names of modules whose output someone listens to.
    """

    def __init__(self, network: N, name: str, *, device: str, exactness: str, read: Collection[str] = ()) -> None:
        self.device, self.exactness = device, precision.check(exactness)
        # on a GPU not autocast, which would convert weights at every pass
        half = exactness == "bf16" and torch.device(device).type == "cuda"
        self.dtype = torch.bfloat16 if half else torch.float32
        self.network = fusing.fuse(network, read=read).to(device=device, dtype=self.dtype)
        self.arrange(memory_format(name, device, exactness))

    def arrange(self, memory_format: str) -> None:
        """Run it in this memory format, of `FORMATS`, from now on."""
        self.memory_format = memory_format
        self.network.to(memory_format=FORMATS[memory_format])

    def fed(self, pixels: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) as the network reads them."""
        return pixels.to(dtype=self.dtype, memory_format=FORMATS[self.memory_format])

    def running(self) -> AbstractContextManager[None]:
        """`inference`, of this network."""
        return inference(self.device, self.exactness)
