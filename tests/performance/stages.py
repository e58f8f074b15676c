"""From the disk to features and back, each stage apart, and the whole job: images/s.

read: encoded bytes from parquet, hashed. decode: to pixels, by Pillow alone and the set's own way, by 1, 2, 8 and 16
threads. shrink: pixels to the encoder's size. send, encode, fetch: one batch after the other, each waited for; a CPU
sends nothing. write: features in chunks, journal and fsync. job: all of it as `Encode` does it; its share of the slower
of decoding (by all threads, shrunk) and encoding is the last line. The images: CIFAR-10's as released, or ImageNet's
photographs with --photographs (both need --data), else PNG of noise.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.transfer import Transfer
from benchmark.jobs.worker import Worker
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Store
from datasets.images import ImageSet, decode
from datasets.loading import Batch, batches
from datasets.parquet import ParquetSet
from methods.device import precision
from tests.performance import paired

THREADS = (1, 2, 8, 16)


def decoded(images: ImageSet, rows: NDArray[np.int64], size: int, threads: int) -> list[Batch]:
    return list(batches(images, rows, size, workers=threads))


def encoded(data: Path | None, name: str, count: int) -> list[bytes]:
    """Files as bytes."""
    if data is None:
        random, made = np.random.default_rng(0), []
        for _ in range(count):
            file = BytesIO()
            Image.fromarray(random.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file, "PNG")
            made.append(file.getvalue())
        return made
    columns = (pq.read_table(path).column(0) for path in sorted((data / name).glob("t*-*.parquet")))
    return [row["bytes"] for column in columns for row in column.to_pylist()][:count]


def measure(files: list[bytes], source: str, device: str, *, full: bool) -> None:
    """All stages of these files."""
    rows: list[tuple[str, float]] = []

    def timed(name: str, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        rows.append((name, len(files) / (time.perf_counter() - start)))
        return rows[-1][1]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = folder / "test-00000-of-00001.parquet"
        pq.write_table(pa.table({"image": pa.array([{"bytes": file, "path": ""} for file in files])}), shard)

        def images() -> ImageSet:
            return ParquetSet("images", "test", [shard], title="images", entry=None)

        network = "resnet18" if device.startswith("cuda") else "resnet8"
        weights = paired.save_classifier(folder / "net.safetensors", network)
        settings = {"architecture": network, "checkpoint": "net"}
        exactness = precision.resolve("auto", device)
        use = EncoderUse("net", "classifier", settings, title=network, weights=weights, precision=exactness)
        store = Store(folder / "cache")
        worker = Worker(store, device=device)
        every, size = np.arange(len(files)), worker.batch_size_of(use)
        timed("read", images)
        stored = images()
        timed("decode, Pillow alone", lambda: [decode(file, "") for file in files])
        list(batches(stored, every[:50], size))  # the decoder's import is no part of it
        for threads in THREADS:
            timed(f"decode, {threads} threads", partial(decoded, stored, every, size, threads))
        pixels = [torch.from_numpy(image) for image in stored.read(every.tolist())]
        timed("shrink", lambda: [use.shrink(image) for image in pixels])
        decoding = timed("decode and shrink", lambda: list(batches(stored, every, size, shrink=use.shrink)))
        there: list[Any] = [batch.images for batch in batches(stored, every, size, shrink=use.shrink)]
        transfer = Transfer(device)
        if device.startswith("cuda"):
            timed("send", lambda: [transfer.send(batch) for batch in there])
        worker.encode(use, there[0])
        features: list[dict[str, torch.Tensor]] = []
        encoding = timed("encode", lambda: features.extend(worker.encode(use, batch) for batch in there))
        arrays: list[Any] = []

        def fetch() -> None:
            arrays.extend(transfer.fetch(batch).arrays() for batch in features)

        if device.startswith("cuda"):
            timed("fetch", fetch)
        else:
            fetch()

        def write() -> None:
            writer = ChunkWriter(store, "encode", "0" * 64, len(files))
            for start in range(0, len(arrays), max(1, 512 // size)):
                part = arrays[start : start + max(1, 512 // size)]
                writer.append({name: np.concatenate([batch[name] for batch in part]) for name in part[0]})

        timed("write", write)
        whole = timed("job", lambda: Encode(use, Selection(images())).run(worker))
    share = whole / min(decoding, encoding)
    rows.append(("job, of the slower of decoding and encoding", share))
    title = f"From the disk to features, {len(files):,} images ({source}), {network} at 32 px, batches of {size}"
    paired.finish(title, ("stage", "images/s"), rows, device, full=full, share=share, rates=dict(rows))


def main() -> None:
    parse = paired.parser(__doc__)
    parse.add_argument("--photographs", action="store_true", help="ImageNet's, not CIFAR-10's")
    given = parse.parse_args()
    device = given.device if given.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    files = encoded(given.data, "imagenet" if given.photographs else "cifar10", 50_000 if given.full else 2_000)
    source = "PNG of noise" if given.data is None else "ImageNet" if given.photographs else "CIFAR-10"
    measure(files, source, device, full=given.full)


if __name__ == "__main__":
    main()
