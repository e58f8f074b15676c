"""Images per second from storage to uint8 batches, against all cores decoding with PIL alone.

The same 32 x 32 images (CIFAR-10's with --data, else PNG of noise) as parquet, as a folder, through torchvision's
reader; the second time from parquet, where the pixels are still in memory.
"""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from datasets import torchvision_sets
from datasets.catalogue import get
from datasets.folder import FolderSet
from datasets.images import ImageSet
from datasets.loading import batches
from datasets.parquet import ParquetSet
from tests.performance import paired


def encoded(data: Path | None, count: int) -> list[bytes]:
    """Files as bytes."""
    if data is None:
        random, made = np.random.default_rng(0), []
        for _ in range(count):
            file = BytesIO()
            Image.fromarray(random.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file, "PNG")
            made.append(file.getvalue())
        return made
    columns = (pq.read_table(path, columns=["image"]) for path in sorted((data / "cifar10").glob("train-*.parquet")))
    return [row["bytes"] for table in columns for row in table.column("image").to_pylist()][:count]


def with_pil(files: list[bytes]) -> None:
    """All cores, no more than it takes."""

    def decode(file: bytes) -> Any:
        with Image.open(BytesIO(file)) as image:
            return np.asarray(image.convert("RGB"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda start: [decode(file) for file in files[start : start + 64]], range(0, len(files), 64)))


def read(images: ImageSet, *, keep: bool = False) -> None:
    for _ in batches(images, np.arange(len(images)), 64, keep=keep):
        pass


def write_parquet(files: list[bytes], shard: Path) -> None:
    struct = pa.array([{"bytes": file, "path": ""} for file in files])
    pq.write_table(pa.table({"image": struct}), shard, row_group_size=5_000)


def parquet_set(shard: Path) -> ImageSet:
    return ParquetSet("parquet", "train", [shard], title="parquet", entry=None)


def main() -> None:
    given = paired.arguments(__doc__)
    files = encoded(given.data, 50_000 if given.full else 5_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = folder / "train-00000-of-00001.parquet"
        write_parquet(files, shard)
        for number, file in enumerate(files):
            path = folder / "images" / str(number % 10) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file)

        import torchvision

        as_folder = FolderSet("folder", "train", folder / "images", title="folder")
        stand_in = torchvision.datasets.ImageFolder(str(folder / "images"))
        with patch.object(torchvision_sets, "build", lambda *_: stand_in):
            entry: Any = SimpleNamespace(**{**vars(get("cifar10")), "torchvision": SimpleNamespace(labels="targets")})
            as_torchvision = torchvision_sets.TorchvisionSet(entry, "train", folder)
        kept = parquet_set(shard)
        read(kept, keep=True)
        seconds = paired.interleaved(
            3,
            {
                "PIL alone": lambda: with_pil(files),
                "parquet": lambda: read(parquet_set(shard)),
                "parquet, second time": lambda: read(kept, keep=True),
                "folder": lambda: read(as_folder),
                "torchvision": lambda: read(as_torchvision),
            },
        )
    ratios = {name: paired.ratio(seconds["PIL alone"], taken) for name, taken in seconds.items()}
    medians = {name: median(taken) for name, taken in seconds.items()}
    rows = [(name, len(files) / taken, taken / len(files) * 50_000, ratios[name]) for name, taken in medians.items()]
    heads = ("loader", "images/s", "s for 50,000", "x PIL alone")
    source = "PNG of noise" if given.data is None else "CIFAR-10"
    paired.finish(f"Loading 32 x 32 images ({source})", heads, rows, "cpu", full=given.full, ratios=ratios)


if __name__ == "__main__":
    main()
