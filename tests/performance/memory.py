"""Peak memory and time of scoring cached features, as their number grows: each in a process of its own.

Anonymous memory (RssAnon: what the process needs, not what the disk's cache lends it) of a fit and of the scoring of n
rows in the blocks of a run, torch and the method's libraries included. Whole: 10^6 x 2,048 rows against 50,000.
`--classes N`: so many classes (default 10), and the detectors alone that train no network, at 20,000 x 2,048 rows
against 50,000. Networks on features are shortened to 2 blocks and one epoch, WeiPer to 4 of its 100 heads, which it
goes through two by two at 1,000 classes. What reads the images themselves, or the Gram matrices of every layer, is left
out.
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
from methods.base import CannotRun, Features, Head
from tests.performance import paired

METHODS = tuple(name for name in methods.names() if not {"pixels", "gram"} & set(methods.get(name).reads))
LAYERS = 4
EXTRAS = {"perturbed": None, "extremes": 100, "negatives": 10_000, "local": 1}  # columns; None: as the embedding


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


def write(path: Path, rows: int, width: int, head: Head | None = None) -> None:
    """Features (rows, width) on disk, block by block.

    With a `head`, row i is of class i mod K, and its logits say so of most: several detectors need images that are
    predicted rightly in each class, and some that are not.
    """
    random = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for start in range(0, rows, 4096):
        block = np.maximum(random.standard_normal((min(4096, rows - start), width), dtype=np.float32), 0)
        if head is not None:
            block += 3 * head.weight.numpy()[np.arange(start, start + len(block)) % len(head.weight)]
        out[start : start + len(block)] = block
    out.flush()


def write_all(folder: Path, train: int, test: int, width: int, classes: int) -> None:
    """Embeddings of both sets, and the logits of a random head: each in a file, as a run has them."""
    head = _head(classes, width)
    for split, rows in (("train", train), ("test", test)):
        write(folder / f"{split}.npy", rows, width, head)
        z = torch.from_numpy(np.load(folder / f"{split}.npy", mmap_mode="c"))
        logits = np.lib.format.open_memmap(folder / f"{split}_logits.npy", "w+", np.float32, (rows, classes))
        for start in range(0, rows, 4096):
            logits[start : start + 4096] = head(z[start : start + 4096]).numpy()
        logits.flush()


def _head(classes: int, width: int) -> Head:
    generator = torch.Generator().manual_seed(0)
    return Head(torch.randn(classes, width, generator=generator) / width**0.5, torch.zeros(classes))


def _extra(folder: Path, split: str, name: str, rows: int, width: int) -> Any:
    """What an encoder would offer beside the embedding, in a file."""
    path = folder / f"{split}_{name}.npy"
    if not path.is_file():
        write(path, rows, EXTRAS[name] or width)
    return np.load(path, mmap_mode="c")


def one(name: str, folder: Path, rows: int, device: str) -> None:
    """Fit on all training rows, score `rows` rows; prints GiB and the seconds of both, or why it cannot run."""
    cls = methods.get(name)
    short: dict[str, Any] = {
        field: value for field, value in (("epochs", 1), ("blocks", 2), ("copies", 4)) if hasattr(cls, field)
    }

    def features(split: str) -> Features:
        z, logits = (np.load(folder / f"{split}{what}.npy", mmap_mode="c") for what in ("", "_logits"))
        there: dict[str, Any] = {"labels": np.arange(len(z)) % logits.shape[1]}
        there["extras"] = {e: _extra(folder, split, e, *z.shape) for e in cls.reads if e in EXTRAS}
        if "layers" in cls.reads:
            return Features(layers=z, layer_sizes=(z.shape[1] // LAYERS,) * LAYERS, **there)
        if "logits" in cls.reads:
            there["logits"] = logits
        return Features(embedding=z, head=_head(logits.shape[1], z.shape[1]), **there)

    train, x = features("train"), features("test")[:rows]
    with Peak() as peak:
        started = time.perf_counter()
        try:
            method = methods.create(name, **short).fit(train, device=device)
        except CannotRun as why:
            print(why)
            return
        fitted = time.perf_counter()
        for block in x.blocks(block_rows(x)):
            method.score(block.to(device)).cpu()
        scored = time.perf_counter()
    print(peak.gib, fitted - started, scored - fitted)


def of_classes(given: Any) -> None:
    """The detectors that train no network, at so many classes: one line each."""
    train, test, width = (50_000, given.rows, 2048)
    names = [name for name in given.methods if not methods.get(name).trains]
    lines, peaks = list[tuple[object, ...]](), {}
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder), train, test, width, given.classes)
        for name in names:
            print(name, file=sys.stderr)
            command = [sys.executable, "-m", "tests.performance.memory", "--one", name, folder, str(test)]
            done = subprocess.run([*command, given.device], capture_output=True, text=True, check=False)
            told = (done.stdout if done.returncode == 0 else f"\n{done.stderr}").strip().splitlines()[-1:]
            try:
                peaks[name], fitted, scored = map(float, " ".join(told).split())
                lines.append((name, peaks[name], fitted, scored, ""))
            except ValueError:
                lines.append((name, "", "", "", " ".join(told) or f"ended with {done.returncode}"))
            print(*lines[-1], file=sys.stderr)
    heads = ("method", "GiB", "s of the fit", "s of the scores", "refused")
    title = f"Peak anonymous memory, {test:,} x {width:,} rows of {given.classes:,} classes scored against {train:,}"
    refused = {line[0]: line[4] for line in lines if line[4]}
    paired.finish(title, heads, lines, given.device, peak_gib=peaks, largest=max(peaks.values()), refused=refused)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        name, folder, rows, device = sys.argv[2:]
        one(name, Path(folder), int(rows), device)
        return
    own = (("--classes", None), ("--rows", 20_000))
    given = paired.arguments(__doc__, methods=METHODS, numbers=own)
    if given.classes:
        of_classes(given)
        return
    train, width = (50_000, 2048) if given.full else (5_000, 256)
    counts = (10_000, 100_000, 1_000_000) if given.full else (10_000, 40_000, 160_000)
    lines, peaks = list[tuple[object, ...]](), {}
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder), train, counts[-1], width, 10)
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
