"""The encoder's forward pass against the plain network in eval mode, on the same batch.

plain: the network as timm, or our file, builds it, in eval mode and inference mode. fused: the same as encoders run it,
batch norms folded, channels last. Both with the allocator as encoders set it (methods/memory.py); "as it comes" is the
plain network before that.
"""

from collections.abc import Callable
from statistics import median

import timm
import torch
from torch import Tensor, nn

from methods import memory
from methods.encoders import fusing, networks
from tests.performance import paired

REDUCED = {"tf_efficientnet_lite0": 32, "tf_efficientnet_b4": 8, "resnet18": 32, "densenet_bc_100_12": 32}
FULL = {
    "tf_efficientnet_lite0": 64,
    "tf_efficientnet_b4": 64,
    "resnet50": 64,
    "resnet18": 256,
    "resnet20": 256,
    "resnet56": 256,
    "densenet_bc_100_12": 256,
}


def forward(network: nn.Module, x: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            network(x)

    return run


def main() -> None:
    given = paired.arguments(__doc__)
    work: dict[str, tuple[Callable[[], None], Callable[[], None], int, float]] = {}
    with_memory_given_back = {}
    for name, batch in (FULL if given.full else REDUCED).items():
        torch.manual_seed(0)
        small = name in networks.ARCHITECTURES
        network = networks.build(name, 10) if small else timm.create_model(name, pretrained=False, num_classes=0)
        network.eval().to(given.device)
        x = torch.randn(batch, 3, 32, 32) if small else torch.randn(batch, 3, 224, 224)
        x = x.to(given.device)
        plain = forward(network, x)
        plain()
        with_memory_given_back[name] = median(paired.interleaved(3, {name: plain}, device=given.device)[name])
        fused = fusing.fuse(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        work[name] = plain, forward(fused, x.to(memory_format=torch.channels_last)), batch
    memory.keep_freed()
    rows, ratios = [], {}
    for name, (plain, fused, batch) in work.items():
        plain(), fused()
        seconds = paired.interleaved(5, {"plain": plain, "fused": fused}, device=given.device)
        ratios[name] = paired.ratio(seconds["plain"], seconds["fused"])
        speeds = (batch / with_memory_given_back[name], *(batch / median(taken) for taken in seconds.values()))
        rows.append((f"{name}, batch {batch}", *speeds, ratios[name]))
    heads = ("images/s", "plain, as it comes", "plain", "fused", "fused / plain")
    paired.finish("Encoder forward", heads, rows, given.device, full=given.full, ratios=ratios)


if __name__ == "__main__":
    main()
