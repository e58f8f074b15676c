"""What was measured on a GPU before its issue was worked on, and where the results of `on_gpu` have the same now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MACHINE = "one NVIDIA H200, 16 cores, torch 2.11, 2026-11-26, commit 8e58a07"
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A number of a part of `on_gpu`; `now` takes it from that part's result."""

    part: str
    what: str
    before: float
    now: Callable[[Results], float | None]


def _encoder(name: str, title: str, ours: int, plain: int) -> Figure:
    what = f"{title}: images/s, x plain timm with torch's defaults"
    return Figure(f"encoder_{name}", what, ours / plain, lambda result: result["ratios"].get("ours, tf32"))


FIGURES = (
    _encoder("resnet18", "ResNet-18 at 32", 20_720, 81_044),
    _encoder("densenet_bc_100_12", "DenseNet-BC-100 at 32", 6_920, 19_405),
    _encoder("resnet50", "ResNet-50 at 224", 2_973, 7_207),
    _encoder("tf_efficientnet_b4", "EfficientNet-B4 at 224", 3_055, 3_538),
    _encoder("tf_efficientnet_lite0", "EfficientNet-Lite0 at 224", 9_747, 11_013),
    _encoder("vit_base_patch16_224", "ViT-B/16 at 224", 1_217, 1_235),
    Figure("table", "nine methods beyond the bare pass, s", 1.54 - 0.50, lambda result: result["beyond_seconds"]),
    Figure("table", "pytorch-ood, cached: x our time", 1.7, lambda result: result["peer_ratio_own"]),
    Figure("training", "LFDN, strict float32, steps/s", 66.0, lambda result: result["speeds"].get("captured, 32")),
    Figure("training", "LFDN, TF32, steps/s", 89.0, lambda result: result["speeds"].get("captured, tf32")),
    Figure("search", "10,000 queries on 50,000 x 512, s", 2.87, lambda result: result["seconds"].get("512")),
    Figure("search", "10,000 queries on 50,000 x 2,048, s", 9.57, lambda result: result["seconds"].get("2048")),
    Figure(
        "end_to_end", "EfficientNet-B4, PNG to score, images/s", 1_775.0, lambda result: result["rates"]["end to end"]
    ),
    Figure(
        "loading",
        "CIFAR-10's files to features (before: 1,500 to 2,300), images/s",
        2_300.0,
        lambda result: result["rates"]["job"],
    ),
)
