"""What each optimisation gives: the same work without it and with it, in turn, each time in a process of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import timm
import torch
from safetensors.torch import save_file

import methods
from datasets.images import ImageSet
from methods.base import Features
from methods.device import memory
from methods.encoders import registry
from methods.encoders.networks import fusing
from methods.vectors import neighbours as neighbour_search
from tests.performance import loaders, paired

LITE0 = "tf_efficientnet_lite0.in1k"
Work = Callable[[], object]


@dataclass(frozen=True)
class Change:
    """An optimisation, the work that it is timed on, and how to leave it out: in the process, or before it starts."""

    title: str
    work: str
    undo: Callable[[], AbstractContextManager[Any]] = nullcontext
    environment: tuple[str, str] | None = None
    busy: bool = False  # beside a process that keeps one core busy


def encoder_undone() -> ExitStack:
    """All that makes the encoder's pass faster, undone."""
    stack = ExitStack()
    for key in ("folding", "channels_last", "memory"):
        stack.enter_context(CHANGES[key].undo())
    return stack


CHANGES: dict[str, Change] = {
    "folding": Change(
        "batch norms folded into convolutions",
        "lite0",
        undo=lambda: patch.object(fusing, "fuse", lambda network, **_: network),
    ),
    "channels_last": Change(
        "channels last", "lite0", undo=lambda: patch.object(torch, "channels_last", torch.contiguous_format)
    ),
    "memory": Change("freed memory kept", "lite0", undo=lambda: patch.object(memory, "keep_freed", lambda: None)),
    "encoder": Change("these three together", "lite0", undo=encoder_undone),
    "spinning": Change(  # 300,000 is libgomp's own count
        "waiting threads soon sleep, one core busy", "resnet18", environment=("GOMP_SPINCOUNT", "300000"), busy=True
    ),
    "blas": Change(
        "kNN as matrix products from 4 images on",
        "knn",
        undo=lambda: patch.object(neighbour_search, "BLAS_QUERIES", sys.maxsize),
    ),
    "recall": Change(
        "pixels of small sets kept in memory",
        "pixels",
        undo=lambda: patch.object(ImageSet, "recall", lambda images, rows: images.read(rows)),
    ),
}
TITLES = {
    "lite0": "EfficientNet-Lite0 at 224, 64 images",
    "resnet18": "ResNet-18 at 32, 64 images",
    "knn": "64 x 512 against 50,000",
    "pixels": "5,000 images of 32 pixels, second pass",
}


def lite0(folder: Path, device: str) -> Work:
    weights = folder / f"{LITE0}.safetensors"
    if not weights.exists():
        save_file(timm.create_model(LITE0, pretrained=False).state_dict(), weights)
    encoder = registry.create("pretrained", model=LITE0).open(weights, device=device)
    pixels = torch.randint(256, (64, 224, 224, 3), dtype=torch.uint8)
    return lambda: encoder.encode(pixels)


def resnet18(folder: Path, device: str) -> Work:
    weights = folder / "resnet18.safetensors"
    if not weights.exists():
        paired.save_classifier(weights)
    encoder = registry.create("classifier", architecture="resnet18", checkpoint="resnet18").open(weights, device=device)
    pixels = torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8)
    return lambda: encoder.encode(pixels)


def neighbours(folder: Path, device: str) -> Work:
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(50_000, 512, generator=generator).relu_()
    method = methods.create("knn").fit(Features(embedding=train), device=device)
    x = Features(embedding=train[:64].to(device))
    return lambda: method.score(x)


def pixels(folder: Path, device: str) -> Work:
    shard = folder / "train-00000-of-00001.parquet"
    if not shard.exists():
        loaders.write_parquet(loaders.encoded(None, 5_000), shard)
    images = loaders.parquet_set(shard)
    return lambda: loaders.read(images, keep=True)


WORK = {"lite0": lite0, "resnet18": resnet18, "knn": neighbours, "pixels": pixels}


def one(work: str, undone: str, folder: Path, device: str) -> None:
    """Prints the seconds of one piece of work, after one call that does not count."""
    with CHANGES[undone].undo() if undone else nullcontext():
        run = WORK[work](folder, device)
        run()
        print(median(paired.interleaved(5, {work: run}, device=device)[work]))


def timed(change: str, folder: Path, device: str, *, without: bool) -> float:
    """The seconds of a process of its own."""
    given = CHANGES[change]
    environment = dict(os.environ)
    if without and given.environment:
        environment |= dict([given.environment])
    command = [sys.executable, "-m", "tests.performance.changes", "--one", given.work, change if without else ""]
    done = subprocess.run(
        [*command, str(folder), device], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


@contextmanager
def one_core_busy(busy: bool) -> Iterator[None]:
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        work, undone, folder, device = sys.argv[2:]
        one(work, undone, Path(folder), device)
        return
    given = paired.arguments(__doc__)
    rows, gains = [], {}
    with tempfile.TemporaryDirectory() as name:
        for key, change in CHANGES.items():
            seconds: paired.Seconds = {"without": [], "with": []}
            with one_core_busy(change.busy):
                for how in paired.turns(5 if given.full else 3, list(seconds)):
                    seconds[how].append(timed(key, Path(name), given.device, without=how == "without"))
            gains[key] = paired.ratio(seconds["without"], seconds["with"])
            rows.append((change.title, TITLES[change.work], *map(median, seconds.values()), gains[key]))
    heads = ("change", "timed on", "s without", "s with", "gain, x")
    paired.finish("What each change gave", heads, rows, given.device, full=given.full, gains=gains)


if __name__ == "__main__":
    main()
