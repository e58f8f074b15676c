"""What a detector's score costs beside the encoder's pass over the same images, at ResNet-50's size: 2,048 x 1,000.

Each method that trains no network, 4,096 images at a time, a run's block, in per cent of the time that ResNet-50 takes
for them at 224 pixels (as this project runs it: norms folded in, in batches). Methods that keep training images have
50,000 of them; what the others have learned from does not change what a score costs. Beside it the share of the plain
products of the same size, where a method is little else. What reads the images themselves, their layers or Gram
matrices is left out.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

import methods
from methods.base import CannotRun, Features, Head
from methods.encoders import registry
from tests.performance import memory, paired

MODEL, WIDTH, CLASSES = "resnet50.tv_in1k", 2048, 1000
BANK, FEW, ROWS, BATCH = 50_000, 10_000, 4096, 32
KEEPS = ("knn", "relation", "cfood", "combood", "nnguide")  # training images
SHORT: dict[str, int] = {"weiper": 256}  # its fit goes through 100 heads


def products(name: str, z: torch.Tensor, head: Head) -> Callable[[], object] | None:
    """The plain products of a method that is little else, as often and as precise as it does them."""
    wide, bank = z.double(), torch.randn(BANK, WIDTH)
    if name == "weiper":
        weight = head.weight.double().T.contiguous()
        return lambda: [wide @ weight for _ in range(100)]
    if name in ("knn", "combood"):
        return lambda: z @ bank.T
    if name == "relation":
        p = torch.randn(ROWS, CLASSES).double()
        parts = torch.split(bank, BANK // 10)
        return lambda: [(wide @ part.double().T, p @ part[:, :CLASSES].double().T) for part in parts]
    return None


def features(rows: int, offers: Iterable[str]) -> Features:
    """Random features whose classes are mostly predicted rightly, and what encoders offer beside."""
    head = memory._head(CLASSES, WIDTH)
    generator = torch.Generator().manual_seed(rows)
    labels = torch.arange(rows) % CLASSES
    z = torch.randn(rows, WIDTH, generator=generator).relu() + 3 * head.weight[labels]
    sizes = {name: memory.EXTRAS[name] or WIDTH for name in offers}
    extras: dict[str, Any] = {name: torch.randn(rows, size, generator=generator) for name, size in sizes.items()}
    return Features(embedding=z, logits=head(z), labels=labels, head=head, extras=extras)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    given = paired.arguments(__doc__, methods=memory.METHODS)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{MODEL}.safetensors"
        save_file(timm.create_model(MODEL, pretrained=False).state_dict(), weights)
        encoder = registry.create("pretrained", model=MODEL).open(weights, device=given.device)
        pixels = torch.randint(256, (BATCH, 224, 224, 3), dtype=torch.uint8)
        encoder.encode(pixels)
        of_encoder = min(seconds(lambda: encoder.encode(pixels)) for _ in range(3)) / BATCH
    x, train = features(ROWS, memory.EXTRAS), features(FEW, memory.EXTRAS)
    lines, shares = list[tuple[object, ...]](), dict[str, float]()
    names = [name for name in given.methods if not methods.get(name).trains and "layers" not in methods.get(name).reads]
    whole = features(BANK, ["extremes"]) if set(names) & set(KEEPS) else train
    for name in names:
        known = whole if name in KEEPS else train[: SHORT.get(name, FEW)]
        try:
            method = methods.create(name).fit(known, device=given.device)
        except CannotRun as why:
            lines.append((name, "", "", f"{why}"))
            continue
        method.score(x[:64])
        least = products(name, x.embedding, x.need_head())
        cost = seconds(partial(method.score, x)) / ROWS
        floor = None if least is None else seconds(least) / ROWS
        shares[name] = cost / of_encoder
        lines.append(
            (name, 1000 * cost, 100 * shares[name], "" if floor is None else f"{100 * floor / of_encoder:.1f} %")
        )
    heads = ("method", "ms an image", "% of the encoder", "of which products alone, or why not")
    title = f"A score beside ResNet-50 at 224 pixels ({1000 * of_encoder:.1f} ms an image)"
    paired.finish(title, heads, lines, given.device, full=False, shares=shares, encoder_ms=1000 * of_encoder)


if __name__ == "__main__":
    main()
