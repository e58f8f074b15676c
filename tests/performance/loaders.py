"""Images per second from storage to uint8 batches, against all cores decoding with PIL or torchvision alone.

The same images as parquet, as a folder, through torchvision's reader; the second time from parquet, where the pixels
are still in memory: files of 32 x 32 (CIFAR-10's with --data, else PNG of noise), JPEG of 224 x 224 and of 500 x 375
(ImageNet's photographs with --data, else scikit-learn's two, brought to that size), the latter shrunk to 224 where
they are decoded.
shrinking: 500 x 375 to 224, pixels in memory, by PIL, by torch's own antialiased resize of uint8, and as we do it.
overlap: features of a folder of 500 x 375, on the CPU by a ResNet-18 and in front of a fast device (an encoder that
sleeps 1/3,000 s an image), of the slower of decoding and encoding alone. On the CPU both need the same cores, so that
their sum is what it can be at best: `job of the sum` says what is lost. In front of a device the last batch is encoded
when nothing is left to decode, and files are flushed; so there it is of 2,000 images, a second or two.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional
from torchvision import io

from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store
from datasets import torchvision_sets
from datasets.catalogue import Torchvision, get
from datasets.folder import FolderSet
from datasets.images import ImageSet
from datasets.loading import batches
from datasets.parquet import ParquetSet
from methods.encoders.base import Encoder, Images, register
from methods.encoders.images.preprocessing import Shrinking
from tests.performance import paired

PNG = b"\x89PNG"
SIDE = 224
SIZES = ((32, 32), (224, 224), (500, 375))
ROUNDS = 3
BATCH = 64
FAST = 3_000  # images a second
IN_FRONT = 2_000  # photographs in front of it


def encoded(data: Path | None, number: int) -> list[bytes]:
    """Files of 32 x 32 as bytes."""
    if data is None:
        random, made = np.random.default_rng(0), []
        for _ in range(number):
            file = BytesIO()
            Image.fromarray(random.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file, "PNG")
            made.append(file.getvalue())
        return made
    columns = (pq.read_table(path, columns=["image"]) for path in sorted((data / "cifar10").glob("train-*.parquet")))
    return [row["bytes"] for table in columns for row in table.column("image").to_pylist()][:number]


def photographs(data: Path | None, number: int, size: tuple[int, int]) -> list[bytes]:
    """Photographs of this width and height, as JPEG."""
    if data is None:
        sources = [Image.fromarray(image) for image in load_sample_images().images]
    else:
        table = pq.read_table(data / "imagenet" / "test-00000-of-00001.parquet")
        sources = [Image.open(BytesIO(row["bytes"])).convert("RGB") for row in table.column(0).to_pylist()[:number]]
    made, random = [], np.random.default_rng(0)
    for place in range(number):
        source = sources[place % len(sources)]
        left, top = (int(random.integers(0, side // 4)) for side in source.size)
        file = BytesIO()
        source.crop((left, top, *source.size)).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


def on_all_cores(work: Callable[[Any], object], items: Sequence[Any], threads: int | None = None) -> None:
    """All cores, no more than it takes."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        parts = (items[start : start + 16] for start in range(0, len(items), 16))
        list(pool.map(lambda part: [work(item) for item in part], parts))


def with_pil(file: bytes) -> Any:
    """Decoded, and shrunk where it is large."""
    with Image.open(BytesIO(file)) as image:
        return shrunk_by_pil(image.convert("RGB"))


def shrunk_by_pil(image: Image.Image) -> Any:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR) if image.width > SIDE else image)


def with_torchvision(file: bytes) -> Tensor:
    """As `with_pil`."""
    content = torch.frombuffer(bytearray(file), dtype=torch.uint8)
    return shrunk_by_torch(io.decode_image(content, mode=io.ImageReadMode.RGB))


def shrunk_by_torch(image: Tensor) -> Tensor:
    if image.shape[-1] <= SIDE:
        return image
    return functional.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True)


def read(images: ImageSet, *, keep: bool = False) -> None:
    for _ in batches(images, np.arange(len(images)), BATCH, keep=keep, shrink=Shrinking(SIDE)):
        pass


def write_parquet(files: list[bytes], shard: Path) -> None:
    struct = pa.array([{"bytes": file, "path": ""} for file in files])
    pq.write_table(pa.table({"image": struct}), shard, row_group_size=5_000)


def parquet_set(shard: Path) -> ImageSet:
    return ParquetSet("parquet", "train", [shard], title="parquet", entry=None)


def folder_set(files: list[bytes], root: Path) -> ImageSet:
    """The files below `root`, in ten folders."""
    for number, file in enumerate(files):
        path = root / str(number % 10) / f"{number:05}.{'png' if file.startswith(PNG) else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
    return FolderSet("folder", "train", root, title="folder")


def loading(files: list[bytes], folder: Path) -> paired.Seconds:
    """Seconds for all files, by loader."""
    import torchvision

    shard = folder / "train-00000-of-00001.parquet"
    write_parquet(files, shard)
    as_folder = folder_set(files, folder / "images")
    stand_in = torchvision.datasets.ImageFolder(str(folder / "images"))
    with patch.object(torchvision_sets, "build", lambda *_: stand_in):
        entry = replace(get("cifar10"), classes=10, torchvision=Torchvision("ImageFolder", {"train": {}}, "targets"))
        as_torchvision = torchvision_sets.TorchvisionSet(entry, "train", folder)
    as_parquet, kept = parquet_set(shard), parquet_set(shard)
    read(kept, keep=True)
    return paired.interleaved(
        ROUNDS,
        {
            "PIL alone": lambda: on_all_cores(with_pil, files),
            "torchvision alone": lambda: on_all_cores(with_torchvision, files),
            "parquet": lambda: read(as_parquet),
            "parquet, and opening it": lambda: read(parquet_set(shard)),  # every image and the file are hashed
            "parquet, second time": lambda: read(kept, keep=True),
            "folder": lambda: read(as_folder),
            "torchvision": lambda: read(as_torchvision),
        },
    )


def shrinking(files: list[bytes]) -> paired.Seconds:
    """Seconds for the pixels of all files."""
    images = [Image.open(BytesIO(file)).convert("RGB") for file in files]
    pixels = [torch.from_numpy(np.array(image)) for image in images]
    # as a decoder leaves them
    whole = [each.permute(2, 0, 1) for each in pixels]
    return paired.interleaved(
        ROUNDS,
        {
            "PIL": lambda: on_all_cores(shrunk_by_pil, images),
            "PIL, one thread": lambda: on_all_cores(shrunk_by_pil, images, 1),
            "torch's own": lambda: on_all_cores(shrunk_by_torch, whole),
            "torch's own, one thread": lambda: on_all_cores(shrunk_by_torch, whole, 1),
            "ours": lambda: on_all_cores(Shrinking(SIDE), pixels),
            "ours, one thread": lambda: on_all_cores(Shrinking(SIDE), pixels, 1),
        },
    )


@register("sleeping")
@dataclass
class Sleeping(Encoder):
    """Another device at work: nothing is computed here meanwhile."""

    title = "a fast device"
    offers = ("embedding",)
    resolution = SIDE
    shrinking = Shrinking(SIDE)

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        return self

    def encode(self, images: Images) -> dict[str, Tensor]:
        time.sleep(len(images) / FAST)
        return {"embedding": torch.zeros(len(images), 512)}


def resnet18(folder: Path) -> EncoderUse:
    """With random weights."""
    name = "resnet18.a1_in1k"
    save_file(timm.create_model(name, pretrained=False).state_dict(), weights := folder / f"{name}.safetensors")
    return EncoderUse("net", "pretrained", {"model": name, "resolution": SIDE}, title="ResNet-18", weights=weights)


def overlap(use: EncoderUse, root: Path, folder: Path) -> tuple[paired.Seconds, list[float], list[float]]:
    """Seconds of decoding and encoding alone and of the whole job; its seconds by the larger of both, and by their sum.

    Each time of a set that has nothing in memory.
    """
    turn = count()
    every = [FolderSet("folder", "train", root, title="folder") for _ in range(2 * ROUNDS + 1)]
    images, sets = every[0], iter(every)
    worker = Worker(Store(folder / "cache"), device="cpu")
    there = list(batches(images, np.arange(len(images)), BATCH, shrink=use.shrink))

    def job() -> None:
        worker.store = Store(folder / f"cache{next(turn)}")
        Encode(use, Selection(next(sets))).run(worker)

    def encode() -> None:
        for batch in there:
            worker.encode(use, batch.images)

    job()
    seconds = paired.interleaved(ROUNDS, {"decoding": lambda: read(next(sets)), "encoding": encode, "job": job})
    alone = list(zip(seconds["decoding"], seconds["encoding"], strict=True))
    larger, both = ([whole / of(pair) for whole, pair in zip(seconds["job"], alone, strict=True)] for of in (max, sum))
    return seconds, larger, both


def main() -> None:
    given = paired.arguments(__doc__)
    rows: list[tuple[str, float, float, float]] = []
    ratios: dict[str, float] = {}

    def add(what: str, seconds: paired.Seconds, number: int, yardstick: str) -> None:
        for name, taken in seconds.items():
            ratios[f"{what}, {name}"] = paired.ratio(seconds[yardstick], taken)
            rate = number / median(taken)
            rows.append((f"{what}, {name}", rate, 50_000 / rate, ratios[f"{what}, {name}"]))

    for width, height in SIZES:
        small = width == 32
        number = (50_000 if small else 5_000) if given.full else (5_000 if small else 500)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = encoded(given.data, number) if small else photographs(given.data, number, (width, height))
            add(f"{width} x {height}", loading(files, folder), number, "PIL alone")
            if (width, height) != SIZES[-1]:
                continue
            add("shrinking", shrinking(files), number, "torch's own")
            fast, many = EncoderUse("sleeping", "sleeping", {}, title="a fast device"), max(number, IN_FRONT)
            folder_set(photographs(given.data, many, (width, height)), folder / "many")
            for use, root, each in ((fast, "many", many), (resnet18(folder), "images", number)):
                seconds, larger, both = overlap(use, folder / root, folder)
                add(f"features, {use.title}", seconds, each, "job")
                ratios[f"features, {use.title}, job of the larger"] = median(larger)
                ratios[f"features, {use.title}, job of the sum"] = median(both)
    heads = ("", "images/s", "s for 50,000", "x the first of PIL, torch, the job")
    source = "noise and scikit-learn's photographs" if given.data is None else "CIFAR-10 and ImageNet"
    paired.finish(f"From storage to batches ({source})", heads, rows, "cpu", full=given.full, ratios=ratios)


if __name__ == "__main__":
    main()
