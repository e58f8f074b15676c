"""How every network of an encoder is run: where, how exactly, and in which memory format."""

import copy
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
def exactly(device: str, exactness: str) -> Iterator[None]:
    """float32 as `exactness` says. bf16 on the CPU is autocast, on a GPU the weights' own (`Placed`)."""
    kind = torch.device(device).type
    autocast = torch.autocast(kind, torch.bfloat16, enabled=exactness == "bf16" and kind == "cpu")
    with precision.switches(exactness, device), autocast:
        yield


@contextmanager
def inference(device: str, exactness: str) -> Iterator[None]:
    """`exactly`, without gradients."""
    memory.keep_freed()
    with torch.inference_mode(), exactly(device, exactness):
        yield


@contextmanager
def differentiation(device: str, exactness: str) -> Iterator[None]:
    """`exactly`, with gradients, whatever the caller had."""
    memory.keep_freed()
    with torch.inference_mode(False), torch.enable_grad(), exactly(device, exactness):
        yield


class Placed(Generic[N]):
    """A copy of a network to encode with: fused, on its device, weights of the type that the precision asks for.

    Its weights take no gradients. read: names of modules whose output someone listens to. fused: whether it is.
    """

    def __init__(
        self, network: N, name: str, *, device: str, exactness: str, read: Collection[str] = (), fused: bool = True
    ) -> None:
        self.device, self.exactness = device, precision.usable(exactness, device)
        # on a GPU not autocast, which would convert weights at every pass
        half = exactness == "bf16" and torch.device(device).type == "cuda"
        self.dtype = torch.bfloat16 if half else torch.float32
        copied = fusing.fuse(network, read=read) if fused else copy.deepcopy(network).eval()
        self.network = copied.to(device=device, dtype=self.dtype).requires_grad_(False)
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

    def differentiating(self) -> AbstractContextManager[None]:
        """`differentiation`, of this network."""
        return differentiation(self.device, self.exactness)
