"""The speed of a row, as a job: end to end, its encoder, the method alone."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from benchmark.jobs import depending, engines
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import TrainEncoder, along, load_features
from benchmark.jobs.inputs import EncoderUse, Selection, encode_key
from benchmark.jobs.scoring import Score, block_rows
from benchmark.jobs.worker import Worker
from benchmark.records import names, provenance, records, throughput
from benchmark.store import keys
from benchmark.store.entries import Store
from datasets.loading import batches
from methods.base import Features, Method
from methods.device.memory import out_of_memory
from methods.device.precision import switches

SPEED_IMAGES = 64


@dataclass(frozen=True, eq=False)
class MeasureSpeed(Job):
    """A row's three speeds on the first images of the ID test set: end to end, its encoder, the method alone."""

    kind: ClassVar[str] = "measure"
    folder: Path
    row: str
    score: Score
    device: str
    batch_size: int | None  # as it was asked for; None: auto

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="speed of open encoders",
            score=self.score.key,
            device=throughput.describe_device(self.device),
            batch_size="auto" if self.batch_size is None else self.batch_size,
            source=keys.source("benchmark.records.throughput"),
        )

    @property
    def title(self) -> str:
        return f"time {self.row}"

    @property
    def needs(self) -> tuple[Job, ...]:
        chain = self.score.images[-1].use.chain
        trainings = (TrainEncoder(use) for link in chain for use in link.made_of if use.trained_here)
        return (*trainings, *self.score.needs, self.score)  # it reads all of them, not the scores alone

    @property
    def path(self) -> Path:
        return names.speed_path(self.folder, self.row)

    def done(self, store: Store) -> bool:
        return records.done(self.path, self.key) is not None

    def fault(self) -> str:
        return records.fault(self.path)

    def run(self, worker: Worker) -> None:
        started = time.perf_counter()
        passes = self.score.images
        use, images = passes[-1].use, passes[-1].images
        engine = engines.take(worker, use.chain[0], images, engines.behind(worker.store, use.chain[0], images))
        loaded, encoded = _encoder_speeds(worker, use, images)
        method = worker.fitted(self.score.method, self.score.settings, self.score.fit.key if self.score.fit else None)
        x = load_features(passes, worker.store, method.reads).to("cpu")
        on_gpu = worker.device.startswith("cuda")
        alone = _method_speed(worker, method, x, SPEED_IMAGES if on_gpu else encoded.batch)
        # about a second, and a GPU is full: a set that is smaller comes several times
        rows = min(block_rows(x) if on_gpu else len(x), block_rows(x), max(alone.batch, int(alone.images_per_second)))
        filled = _method_speed(worker, method, x, rows)
        speeds = {
            "end_to_end": (
                throughput.overlap(loaded, encoded, filled) if on_gpu else throughput.combine(loaded, encoded, alone)
            ),
            "encoder": encoded,
            "method": filled,
        }
        records.write(
            self.path,
            {
                "schema": records.SCHEMA,
                "kind": "speed",
                "key": self.key,
                "status": "done",
                "row": self.row,
                "encoder": use.name,
                "depends": {"encoder": depending.of_encoder(use)},
                "seed": self.score.seed,
                "batch_size": worker.batch_size_of(use.chain[0]),
                "device": throughput.describe_device(worker.device),
                "engine": engine,
                "overlap": on_gpu,  # of decoding with the rest, in end_to_end
                "speeds": {name: asdict(speed) for name, speed in speeds.items()},
                "seconds": time.perf_counter() - started,
                "provenance": provenance.provenance(device=worker.device),
            },
        )


_measured: dict[str, tuple[throughput.Speed, throughput.Speed]] = {}


def _encoder_speeds(worker: Worker, use: EncoderUse, images: Selection) -> tuple[throughput.Speed, throughput.Speed]:
    """From stored bytes to images in memory, and from there to features; once for each encoder."""
    key = encode_key(use, images)
    if key not in _measured:
        on_gpu = worker.device.startswith("cuda")
        asked = worker.batch_size_of(use.chain[0])
        size = asked if on_gpu else min(SPEED_IMAGES, asked)
        rows = np.resize(images.rows, size) if on_gpu else images.rows[:size]  # round the set, where it is smaller
        batch = next(batches(images.images, rows, len(rows), shrink=use.shrink))  # fewer where they are large
        rows = batch.rows

        def encode(times: int) -> None:
            for _ in range(times):
                deque(along(worker, use, batch.images), maxlen=0)

        def load(times: int) -> None:
            for _ in batches(images.images, np.resize(images.rows, times * len(rows)), len(rows), shrink=use.shrink):
                pass

        def timed(work: Callable[[int], None], size: int) -> throughput.Speed:
            once = partial(throughput.measure, device=worker.device)
            times = throughput.batches_a_repeat(once(lambda: work(1), size, repeats=1)) if on_gpu else 1
            return once(lambda: work(times), times * size)

        _measured[key] = timed(load, len(rows)), timed(encode, len(rows))
    return _measured[key]


def _method_speed(worker: Worker, method: Method, x: Features, rows: int) -> throughput.Speed:
    """Of the method alone on so many rows, round the set. Out of GPU memory: on half as many, as it is scored."""

    def timed() -> throughput.Speed:
        block = x[torch.arange(rows) % len(x)].to(worker.device)  # of this call: the next one has its room
        with switches("32", worker.device):
            return throughput.measure(partial(method.score, block), rows, device=worker.device)

    while True:
        try:
            return timed()
        except RuntimeError as error:
            if rows == 1 or not out_of_memory(error):
                raise
        torch.cuda.empty_cache()  # out of the handler, whose traceback holds what was computed
        rows //= 2
