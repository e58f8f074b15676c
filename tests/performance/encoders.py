"""The encoder's forward pass against the plain network in eval mode, on the same batch.

plain: the network as timm, or our file, builds it, in eval mode and inference mode. fused: the same as encoders run it,
batch norms folded, channels last. Both with the allocator as encoders set it (methods/device/memory.py); "as it comes"
is the plain network before that. The rate of the operations beside a plain matrix product's shows how much is left.
bf16: the fused network with `--precision bf16`, and how far its output is from float32's (2-norm, relative).
"""

from collections.abc import Callable
from statistics import median

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from methods.device import memory
from methods.encoders.networks import cifar, fusing
from tests.performance import paired

REDUCED = {"tf_efficientnet_lite0": 32, "tf_efficientnet_b4": 8, "resnet18": 32, "densenet_bc_100_12": 32}
SIDE = 2048  # of the plain matrix product
FULL = {
    "tf_efficientnet_lite0": 64,
    "tf_efficientnet_b4": 64,
    "resnet50": 64,
    "resnet18": 256,
    "resnet20": 256,
    "resnet56": 256,
    "densenet_bc_100_12": 256,
}


def forward(network: nn.Module, x: Tensor, precision: str = "32") -> Callable[[], Tensor]:
    """One pass; unlike the encoders' own it leaves the allocator as it is."""

    def run() -> Tensor:
        with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            out: Tensor = network(x)
            return out

    return run


def operations(network: nn.Module, x: Tensor) -> float:
    """Floating-point operations an image, in units of 10^9; a multiplication and an addition are two."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        network(x)
    total: int = counted.get_total_flops()
    return total / len(x) / 1e9


def product_rate(device: str) -> float:
    """10^9 operations a second of a plain float32 matrix product."""
    x = torch.randn(SIDE, SIDE, device=device)
    seconds = paired.interleaved(7, {"product": lambda: x @ x}, device=device)["product"]
    return 2 * SIDE**3 / median(seconds) / 1e9


def main() -> None:
    given = paired.arguments(__doc__)
    work: dict[str, tuple[dict[str, Callable[[], Tensor]], int, float]] = {}
    with_memory_given_back = {}
    for name, batch in (FULL if given.full else REDUCED).items():
        torch.manual_seed(0)
        small = name in cifar.ARCHITECTURES
        network = cifar.build(name, 10) if small else timm.create_model(name, pretrained=False, num_classes=0)
        network.eval().to(given.device)
        x = torch.randn(batch, 3, 32, 32) if small else torch.randn(batch, 3, 224, 224)
        x = x.to(given.device)
        plain = forward(network, x)
        plain()
        with_memory_given_back[name] = median(paired.interleaved(3, {name: plain}, device=given.device)[name])
        fused = fusing.fuse(network).to(memory_format=torch.channels_last)
        each = operations(network, x[:1])
        x = x.to(memory_format=torch.channels_last)
        work[name] = {"plain": plain, "fused": forward(fused, x), "bf16": forward(fused, x, "bf16")}, batch, each
    memory.keep_freed()
    rows, ratios = [], {}
    for name, (passes, batch, each) in work.items():
        exact, rounded = passes["fused"](), passes["bf16"]().float()
        passes["plain"]()
        seconds = paired.interleaved(5, passes, device=given.device)
        ratios[name] = paired.ratio(seconds["plain"], seconds["fused"])
        plain, fused, bf16 = (batch / median(taken) for taken in seconds.values())
        came = batch / with_memory_given_back[name]
        error = float((rounded - exact).norm() / exact.norm())
        speeds = came, plain, fused, fused / came, ratios[name], each * fused
        rows.append((f"{name}, batch {batch}", *speeds, bf16, error))
    heads = (
        "images/s",
        "as it comes",
        "plain",
        "fused",
        "fused / as it comes",
        "fused / plain",
        "GFLOP/s, fused",
        "bf16",
        "its error",
    )
    title = f"Encoder forward (a plain float32 matrix product: {product_rate(given.device):,.0f} GFLOP/s)"
    paired.finish(title, heads, rows, given.device, full=given.full, ratios=ratios)


if __name__ == "__main__":
    main()
