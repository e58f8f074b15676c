"""The last jobs of a plan: metrics of a row against one OOD set, and a row's speed. Each writes one record."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import methods
from benchmark import metrics
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, load_features
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.records import records, thresholds
from benchmark.store import keys
from benchmark.store.entries import Store


@dataclass(frozen=True, eq=False)
class Measure(Job):
    """Metrics of one row against one OOD set, from the scores of both."""

    kind: ClassVar[str] = "measure"
    folder: Path
    about: Mapping[str, Any]  # what the record says of suite, row and sets
    id: Score
    ood: Score
    calibration: Score | None = None  # of the ID calibration images: where thresholds come from

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="measure",
            about=dict(self.about),
            id=self.id.key,
            ood=self.ood.key,
            source=keys.source("benchmark.metrics"),
            **({"calibration": self.calibration.key} if self.calibration else {}),
        )

    @property
    def title(self) -> str:
        return f"measure {self.about['row']} against {self.about['ood']['name']}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.id, self.ood, *([self.calibration] if self.calibration else []))

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
        calibrated: dict[str, Any] = {}
        if self.calibration:
            images = self.calibration.images[-1]
            calibrated["calibration"] = f"{'seen by' if images.use.may_know(images.images) else 'new to'} the network"
            calibrated["thresholds"] = thresholds.table(self.calibration.scores(worker.store), id_scores, ood_scores)
        record = records.result(
            self.about,
            self.key,
            "done",
            **calibrated,
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
