"""The last jobs of a plan: metrics of a row against one OOD set, and a row's speed. Each writes one record."""

import functools
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import methods
from benchmark import keys, metrics, records, throughput
from benchmark.inputs import EncoderUse, Selection, encode_key
from benchmark.jobs import Encode, Job, Score, block_rows, load_features
from benchmark.store import Store
from benchmark.worker import Worker
from datasets.loading import batches

SPEED_IMAGES = 64


@dataclass(frozen=True, eq=False)
class Measure(Job):
    """Metrics of one row against one OOD set, from the scores of both."""

    kind: ClassVar[str] = "measure"
    folder: Path
    about: Mapping[str, Any]  # what the record says of suite, row and sets
    id: Score
    ood: Score

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="measure",
            about=dict(self.about),
            id=self.id.key,
            ood=self.ood.key,
            source=keys.source("benchmark.metrics"),
        )

    @property
    def title(self) -> str:
        return f"measure {self.about['row']} against {self.about['ood']['name']}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.id, self.ood)

    @property
    def path(self) -> Path:
        return records.path_of(self.folder, self.about["row"], self.about["ood"]["name"], self.about["seed"])

    def done(self, store: Store) -> bool:
        return records.is_done(self.path, self.key)

    def run(self, worker: Worker) -> None:
        id_scores, ood_scores = self.id.scores(worker.store), self.ood.scores(worker.store)
        for name, scores in ((self.about["id"]["name"], id_scores), (self.about["ood"]["name"], ood_scores)):
            _save(records.scores_path(self.folder, self.about["row"], name, self.about["seed"]), scores)
        figures = metrics.measure(id_scores, ood_scores)
        method = methods.create(self.id.method, **self.id.settings)
        bits = [float(id_scores.mean()), float(ood_scores.mean())] if method.bits_per_dimension else None
        jobs: dict[str, Job] = {"fit": self.id.fit} if self.id.fit else {}
        jobs |= {"encode_id": self.id.images[-1], "score_id": self.id, "score_ood": self.ood}
        record = records.result(
            self.about,
            self.key,
            "done",
            metrics=figures,
            intervals=metrics.intervals(id_scores, ood_scores),
            accuracy=accuracy(self.id.images, worker.store),
            bits_per_dimension=bits,
            knn_accuracy=knn_accuracy(self.id.images, worker.store),
            provenance=records.provenance(
                device=worker.device,
                batch_size=worker.batch_size,
                data={
                    "id": self.id.images[-1].images.identity,
                    "ood": self.ood.images[-1].images.identity,
                    "ood_metadata": dict(self.ood.images[-1].images.images.metadata),
                },
                encoder=self.id.images[-1].use.identity,
                keys={name: job.key for name, job in jobs.items()},
                seconds={name: worker.store.meta(job.kind, job.key)["seconds"] for name, job in jobs.items()},
            ),
        )
        records.write(self.path, record)


def _save(path: Path, scores: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(temporary, scores)
    temporary.replace(path)


_NEIGHBOURS = 20
_accuracies: dict[str, float | None] = {}
_knn_accuracies: dict[str, float | None] = {}


def accuracy(passes: tuple[Encode, ...], store: Store) -> float | None:
    """Share of images that the encoder's own head labels rightly; None without a head or without labels."""
    key = passes[-1].key
    if key not in _accuracies:
        x = load_features(passes, store, ("logits", "labels"))
        if x.logits is None or (x.labels < 0).any():
            _accuracies[key] = None
        else:
            _accuracies[key] = float((x.logits.argmax(dim=1) == x.labels).double().mean())
    return _accuracies[key]


def knn_accuracy(passes: tuple[Encode, ...], store: Store) -> float | None:
    """What `accuracy` is for an embedding without a head; None for others, without labels, or for few images."""
    key = passes[-1].key
    if key not in _knn_accuracies:
        x = load_features(passes, store, ("embedding", "logits", "labels"))
        fit = x.logits is None and x.embedding is not None and len(x) > _NEIGHBOURS and not (x.labels < 0).any()
        _knn_accuracies[key] = metrics.knn_accuracy(x.embedding, x.labels, _NEIGHBOURS) if fit else None
    return _knn_accuracies[key]


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
            source=keys.source("benchmark.throughput"),
        )

    @property
    def title(self) -> str:
        return f"time {self.row}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.score,)

    @property
    def path(self) -> Path:
        return records.speed_path(self.folder, self.row)

    def done(self, store: Store) -> bool:
        return records.is_done(self.path, self.key)

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
                "seed": self.score.seed,
                "device": throughput.describe_device(worker.device),
                "speeds": {name: asdict(speed) for name, speed in speeds.items()},
                "provenance": records.provenance(device=worker.device),
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
