"""Peak memory and time of scoring cached features, as their number grows: each in a process of its own.

Anonymous memory (RssAnon: what the process needs, not what the disk's cache lends it) of a fit and of the scoring of n
rows in the blocks of a run, torch and the method's libraries included. Whole: 10^6 x 2,048 rows against 50,000.
Networks on features are shortened to 2 blocks and one epoch. What reads the images themselves is left out.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import methods
from benchmark.jobs.scoring import block_rows
from methods.base import Features, Head
from tests.performance import paired

METHODS = tuple(name for name in methods.names() if "pixels" not in methods.get(name).reads)
LAYERS = 4


class Peak:
    """The largest RssAnon of this process, in GiB, while the block runs."""

    def __enter__(self) -> "Peak":
        self.gib = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self._look()

    def _look(self) -> None:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        self.gib = max(self.gib, kib / 2**20)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()


def write(path: Path, rows: int, width: int) -> None:
    """Features (rows, width) on disk, block by block."""
    random = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    block = np.maximum(random.standard_normal((4096, width), dtype=np.float32), 0)
    for start in range(0, rows, 4096):
        out[start : start + 4096] = block[: rows - start] + random.standard_normal(width, dtype=np.float32) / 4
    out.flush()


def one(name: str, folder: Path, rows: int, device: str) -> None:
    """Fit on all training rows, score `rows` rows; prints GiB and the seconds of both."""
    train, test = (np.load(folder / f"{split}.npy", mmap_mode="c") for split in ("train", "test"))
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(10, train.shape[1], generator=generator) / train.shape[1] ** 0.5, torch.zeros(10))
    cls = methods.get(name)
    short = {field: value for field, value in (("epochs", 1), ("blocks", 2)) if hasattr(cls, field)}

    def features(z: Any, labels: Any = None) -> Features:
        logits = head(torch.from_numpy(z)) if "logits" in cls.reads else None
        layers = z if "layers" in cls.reads else None
        embedding = z if "embedding" in cls.reads or (logits is None and layers is None) else None
        sizes = (z.shape[1] // LAYERS,) * LAYERS if layers is not None else ()
        return Features(embedding=embedding, logits=logits, layers=layers, layer_sizes=sizes, labels=labels, head=head)

    with Peak() as peak:
        started = time.perf_counter()
        method = methods.create(name, **short).fit(features(train, np.arange(len(train)) % 10), device=device)
        fitted = time.perf_counter()
        x = features(test[:rows])
        for block in x.blocks(block_rows(x)):
            method.score(block.to(device)).cpu()
        scored = time.perf_counter()
    print(peak.gib, fitted - started, scored - fitted)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        name, folder, rows, device = sys.argv[2:]
        one(name, Path(folder), int(rows), device)
        return
    given = paired.arguments(__doc__, methods=METHODS)
    train, width = (50_000, 2048) if given.full else (5_000, 256)
    counts = (10_000, 100_000, 1_000_000) if given.full else (10_000, 40_000, 160_000)
    lines, peaks = [], {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "train.npy", train, width)
        write(Path(folder) / "test.npy", counts[-1], width)
        for name in given.methods:
            row: list[Any] = [name]
            for count in counts:
                command = [sys.executable, "-m", "tests.performance.memory", "--one", name, folder, str(count)]
                done = subprocess.run([*command, given.device], capture_output=True, text=True, check=True)
                gib, _, scored = map(float, done.stdout.split())
                row += [gib, scored]
                peaks[f"{name}, {count:,} rows"] = gib
            lines.append(tuple(row))
    heads = ("method", *(head for count in counts for head in (f"GiB, {count:,}", "s")))
    title = f"Peak anonymous memory and seconds, rows x {width:,} scored against {train:,}"
    largest = max(peaks.values())
    named = [] if given.methods == list(METHODS) else given.methods
    paired.finish(title, heads, lines, given.device, full=given.full, methods=named, peak_gib=peaks, largest=largest)


if __name__ == "__main__":
    main()
