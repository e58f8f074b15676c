"""Images per second from image to score, against the encoder alone: every registered method on its features.

end to end / encoder = t(encoder) / (t(encoder) + t(method)), the loader left out: the encoder in batches, the method in
a block of the features that it wrote, as in a run. Methods are fitted on 50,000 random features of the right shapes,
those that are trained on a few for one epoch: what they learn does not change what a score costs.
DLSR's bound: the same, if it did its matrix products at the rate of a plain one of its size, and nothing else.
ResNet-18 at 32 pixels; DLSR, with MSP for the paper's ratio of the two, with EfficientNet-B4 at 224 too, on a CPU on
torch and on ONNX Runtime. With --full also the generators on pixels, whose encoder is the image itself: on a CPU that
takes hours.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

import methods
from methods.base import Features, Head, Method
from methods.encoders.base import Encoder
from methods.encoders.classifier import Classifier
from methods.encoders.networks.engine import OnnxRuntime, graph_of
from methods.encoders.pretrained import Pretrained
from tests.performance import paired

TRAIN, TRAINED_ON, BATCH, BLOCK = 50_000, 256, 64, 1024
B4 = "tf_efficientnet_b4.aa_in1k"


def train_features(encoder: Encoder, width: int) -> Features:
    """Random features as the encoder's, behind a ReLU."""
    generator = torch.Generator().manual_seed(0)

    def draw(columns: int) -> torch.Tensor:
        return torch.randn(TRAIN, columns, generator=generator).relu()

    head = encoder.head or Head(torch.randn(10, width, generator=generator), torch.zeros(10))
    embedding = draw(width)
    return Features(
        embedding=embedding,
        logits=head(embedding),
        layers=draw(sum(encoder.layer_sizes)),
        layer_sizes=encoder.layer_sizes,
        labels=torch.arange(TRAIN) % 10,
        head=head,
    )


def speeds(
    title: str, encoder: Encoder, width: int, size: int, images: int, rows: dict[str, dict[str, Any]], device: str
) -> list[tuple[Any, ...]]:
    """A line for each method of `rows` on one encoder."""
    pixels = torch.randint(256, (images, size, size, 3), dtype=torch.uint8, device=device)
    train = train_features(encoder, width)
    block = train[:BLOCK].to(device)
    lines = []

    def encode() -> None:
        for batch in torch.split(pixels, BATCH):
            encoder.encode(batch)

    encode()
    for name, settings in rows.items():
        method = methods.create(name.partition(" ")[0], **settings)
        method.fit(train[:TRAINED_ON] if hasattr(method, "epochs") else train, device=device)
        method.score(block)
        work: dict[str, Callable[[], object]] = {"encoder": encode, "method": partial(method.score, block)}
        taken = paired.interleaved(3, work, device=device)
        encoder_alone = [seconds / images for seconds in taken["encoder"]]
        method_alone = [seconds / BLOCK for seconds in taken["method"]]
        both = [a + b for a, b in zip(encoder_alone, method_alone, strict=True)]
        bound: float | str = "-"
        if name.startswith("dlsr"):
            least = products_alone(method, block, device)
            bound = median(a / (a + least) for a in encoder_alone)
        speeds = median(1 / a for a in encoder_alone), median(1 / a for a in method_alone)
        lines.append((f"{name} on {title}", *speeds, paired.ratio(encoder_alone, both), bound))
    return lines


def products_alone(method: Method, x: Features, device: str) -> float:
    """Seconds an image of the method's operations, at the rate of one plain matrix product of LFDN's size."""
    with FlopCounterMode(display=False) as counted:
        method.score(x)
    width = 2 * sum(x.layer_sizes)
    z, weight = torch.randn(len(x), width, device=device), torch.randn(width, width, device=device)

    def product() -> None:
        for _ in range(8):
            z @ weight

    product()
    seconds = median(paired.interleaved(5, {"product": product}, device=device)["product"]) / 8
    operations: int = counted.get_total_flops()
    return operations / (2 * len(x) * width**2) * seconds / len(x)


def main() -> None:
    given = paired.arguments(__doc__, methods=methods.names())
    device, images = given.device, 2048 if given.full else 128
    shortly = {name: {"epochs": 1} for name in methods.names() if hasattr(methods.get(name), "epochs")}
    rows = {name: shortly.get(name, {}) for name in given.methods if "pixels" not in methods.get(name).reads}
    dlsr = {f"dlsr {measure}": {"measure": measure, "epochs": 1} for measure in ("mse", "mfsim")}
    of_paper = {name: how for name, how in {"msp": {}, **dlsr}.items() if name.partition(" ")[0] in rows}
    with tempfile.TemporaryDirectory() as folder:
        weights = paired.save_classifier(Path(folder) / "resnet18.safetensors")
        small = Classifier(architecture="resnet18", checkpoint="resnet18").open(weights, device=device)
        lines = speeds("resnet18@32", small, 512, 32, images, rows, device)
        weights = Path(folder) / f"{B4}.safetensors"
        save_file(timm.create_model(B4, pretrained=False).state_dict(), weights)
        large = Pretrained(model=B4, resolution=224).open(weights, device=device)
        lines += speeds("EfficientNet-B4@224", large, 1792, 224, images // 2, of_paper, device)
        if device == "cpu":
            large.run_on(OnnxRuntime(graph_of(large)))
            lines += speeds("EfficientNet-B4@224, ONNX Runtime", large, 1792, 224, images // 2, of_paper, device)
    if given.full:
        pixels = {name: shortly.get(name, {}) for name in given.methods if "pixels" in methods.get(name).reads}
        lines += on_pixels(pixels, device)
    heads = ("images/s", "encoder", "method alone", "end to end / encoder", "bound")
    ratios = {line[0]: line[3] for line in lines}
    some = {} if given.methods == methods.names() else {"methods": given.methods}
    paired.finish("Scoring, against the encoder alone", heads, lines, device, full=given.full, ratios=ratios, **some)


def on_pixels(rows: dict[str, dict[str, Any]], device: str) -> list[tuple[Any, ...]]:
    """A line for each method that reads the images themselves: its images per second."""
    pixels = torch.randint(256, (TRAINED_ON, 32, 32, 3), dtype=torch.uint8)
    lines = []
    for name, settings in rows.items():
        method = methods.create(name, **settings).fit(Features(pixels=pixels), device=device)
        x = Features(pixels=pixels[:BATCH]).to(device)
        seconds = paired.interleaved(1, {name: partial(method.score, x)}, device=device)[name]
        lines.append((f"{name} on pixels@32", "-", BATCH / seconds[0], "-", "-"))
    return lines


if __name__ == "__main__":
    main()
