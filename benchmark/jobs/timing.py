"""The speed of a row, as a job: end to end, its encoder, the method alone."""

import functools
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from benchmark.jobs import depending
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import TrainEncoder, load_features
from benchmark.jobs.inputs import EncoderUse, Selection, encode_key
from benchmark.jobs.scoring import Score, block_rows
from benchmark.jobs.worker import Worker
from benchmark.records import names, provenance, records, throughput
from benchmark.store import keys
from benchmark.store.entries import Store
from datasets.loading import batches

SPEED_IMAGES = 64


@dataclass(frozen=True, eq=False)
class MeasureSpeed(Job):
    """A row's three speeds on the first images of the ID test set: end to end, its encoder, the method alone."""

    kind: ClassVar[str] = "measure"
    folder: Path
    row: str
    score: Score
    device: str
    batch_size: int

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="speed of open encoders",
            score=self.score.key,
            device=throughput.describe_device(self.device),
            batch_size=self.batch_size,
            source=keys.source("benchmark.records.throughput"),
        )

    @property
    def title(self) -> str:
        return f"time {self.row}"

    @property
    def needs(self) -> tuple[Job, ...]:
        chain = self.score.images[-1].use.chain
        trainings = (TrainEncoder(use) for use in chain if use.trained_here)
        return (*trainings, *self.score.needs, self.score)  # it reads all of them, not the scores alone

    @property
    def path(self) -> Path:
        return names.speed_path(self.folder, self.row)

    def done(self, store: Store) -> bool:
        return records.done(self.path, self.key) is not None

    def run(self, worker: Worker) -> None:
        passes = self.score.images
        use, images = passes[-1].use, passes[-1].images
        loaded, encoded = _encoder_speeds(worker, use, images)
        method = worker.fitted(self.score.method, self.score.settings, self.score.fit.key if self.score.fit else None)
        x = load_features(passes, worker.store, method.reads).to("cpu")
        batch = x[: loaded.batch].to(worker.device)
        alone = throughput.measure(lambda: method.score(batch), len(batch), device=worker.device)
        rows = min(len(x), block_rows(x), max(len(batch), int(alone.images_per_second)))  # about a second
        block = x[:rows].to(worker.device)
        speeds = {
            "end_to_end": throughput.combine(loaded, encoded, alone),
            "encoder": encoded,
            "method": throughput.measure(lambda: method.score(block), rows, device=worker.device),
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
                "device": throughput.describe_device(worker.device),
                "speeds": {name: asdict(speed) for name, speed in speeds.items()},
                "provenance": provenance.provenance(device=worker.device),
            },
        )


_measured: dict[str, tuple[throughput.Speed, throughput.Speed]] = {}


def _encoder_speeds(worker: Worker, use: EncoderUse, images: Selection) -> tuple[throughput.Speed, throughput.Speed]:
    """From stored bytes to images in memory, and from there to features; once for each encoder."""
    key = encode_key(use, images)
    if key not in _measured:
        rows = images.rows[: min(SPEED_IMAGES, worker.batch_size)]
        chain = use.chain
        (batch,) = batches(images.images, rows, len(rows))

        def encode(batch: Any) -> None:
            features = worker.encode(chain[0], batch)
            for link in chain[1:]:
                features = worker.open(link).encode(features["embedding"])

        def load() -> None:
            for _ in batches(images.images, rows, len(rows)):
                pass

        timed = functools.partial(throughput.measure, images=len(rows), device=worker.device)
        _measured[key] = timed(load), timed(lambda: encode(batch.images))
    return _measured[key]
