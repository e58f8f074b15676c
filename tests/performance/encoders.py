"""The encoder's forward pass against the plain network in eval mode, on the same batch.

plain: the network as timm, or our file, builds it, in eval mode and inference mode. fused: the same as encoders run it,
batch norms folded, channels last. Both with the allocator as encoders set it (methods/device/memory.py); "as it comes"
is the plain network before that. The rate of the operations beside a plain matrix product's shows how much is left.
onnxruntime: the fused network as a graph of ONNX Runtime with as many threads, as encoders run it on the CPU, with what
the export took, and the largest difference of its output from torch's in standard deviations.
bf16: the fused network with `--precision bf16`, and how far its output is from float32's (2-norm, relative).
"""

import time
from collections.abc import Callable
from statistics import median

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from methods.device import exporting, memory
from methods.encoders.networks import cifar, fusing
from tests.performance import paired

REDUCED = {
    "tf_efficientnet_b4": 8,
    "tf_efficientnet_lite0": 16,
    "resnet50": 8,
    "vit_small_patch16_224": 8,
    "resnet18": 16,
    "resnet20": 128,
    "densenet_bc_100_12": 16,
}
SIDE = 2048  # of the plain matrix product
FULL = {
    "tf_efficientnet_lite0": 64,
    "tf_efficientnet_b4": 64,
    "resnet50": 64,
    "vit_small_patch16_224": 64,
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


def on_engine(network: nn.Module, x: Tensor) -> tuple[Callable[[], Tensor], float]:
    """One pass on ONNX Runtime, and the seconds that its export took."""
    started = time.perf_counter()
    session = exporting.session(exporting.exported(network, (x[:2],), ["x"], ["out"]).SerializeToString())
    seconds = time.perf_counter() - started
    return lambda: torch.from_numpy(session.run(["out"], {"x": x.contiguous().numpy()})[0]), seconds


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
    exports: dict[str, float] = {}
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
        passes = {"plain": plain, "fused": forward(fused, x), "bf16": forward(fused, x, "bf16")}
        if given.device == "cpu":
            passes["onnxruntime"], exports[name] = on_engine(fused, x)
        work[name] = passes, batch, each
    memory.keep_freed()
    rows, ratios, engines = [], {}, {}
    for name, (passes, batch, each) in work.items():
        exact, rounded = passes["fused"](), passes["bf16"]().float()
        passes["plain"]()
        seconds = paired.interleaved(5, passes, device=given.device)
        ratios[name] = paired.ratio(seconds["plain"], seconds["fused"])
        alone, ours, bf16 = (batch / median(seconds[how]) for how in ("plain", "fused", "bf16"))
        engine: tuple[object, ...] = ("", "", "", "")
        if "onnxruntime" in passes:
            engines[name] = paired.ratio(seconds["plain"], seconds["onnxruntime"])
            apart = float((passes["onnxruntime"]() - exact).abs().max() / exact.std())
            engine = (batch / median(seconds["onnxruntime"]), engines[name], apart, exports[name])
        came = batch / with_memory_given_back[name]
        error = float((rounded - exact).norm() / exact.norm())
        speeds = came, alone, ours, ours / came, ratios[name], each * ours
        rows.append((f"{name}, batch {batch}", *speeds, *engine, bf16, error))
    heads = (
        "images/s",
        "as it comes",
        "plain",
        "fused",
        "fused / as it comes",
        "fused / plain",
        "GFLOP/s, fused",
        "onnxruntime",
        "onnxruntime / plain",
        "its difference",
        "export, s",
        "bf16",
        "its error",
    )
    title = f"Encoder forward (a plain float32 matrix product: {product_rate(given.device):,.0f} GFLOP/s)"
    paired.finish(title, heads, rows, given.device, full=given.full, ratios=ratios, engines=engines)


if __name__ == "__main__":
    main()
