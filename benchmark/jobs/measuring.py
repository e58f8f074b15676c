"""The last jobs of a plan: metrics of a row against one OOD set, and a row's speed. Each writes one record."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import methods
from benchmark import metrics
from benchmark.jobs import depending
from benchmark.jobs.accuracy import Accuracy
from benchmark.jobs.base import Job
from benchmark.jobs.scoring import Score, engine_of
from benchmark.jobs.searching import Search
from benchmark.jobs.worker import Worker
from benchmark.records import names, provenance, records, score_files, thresholds
from benchmark.records.frames import COVARIATE
from benchmark.store import keys
from benchmark.store.arrays import Array
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
    search: Search | None = None  # of a row of a sweep that is searched
    covariate: tuple[Score, ...] = ()  # of covariate-shifted ID images: with those of `id` one ID set, full-spectrum

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="measure",
            about=dict(self.about),
            id=self.id.key,
            ood=self.ood.key,
            source=keys.source("benchmark.metrics"),
            **({"calibration": self.calibration.key} if self.calibration else {}),
            **({"search": self.search.key} if self.search else {}),
            **({"covariate": [score.key for score in self.covariate]} if self.covariate else {}),
        )

    @property
    def title(self) -> str:
        return f"measure {self.about['row']} against {self.about['ood']['name']}"

    @property
    def needs(self) -> tuple[Job, ...]:
        calibration = [self.calibration] if self.calibration else []
        searched = self.search.needs if self.search else ()
        shifted = [self.shifted] if self.shifted else []
        return (self.id, self.ood, self.accuracy, *calibration, *searched, *self.covariate, *shifted)

    @cached_property
    def accuracy(self) -> Accuracy:
        return Accuracy(self.id.images)

    @cached_property
    def shifted(self) -> Accuracy | None:
        """That on the set itself, where it is covariate-shifted ID."""
        return Accuracy(self.ood.images) if self.about["ood"]["group"] == COVARIATE else None

    @cached_property
    def path(self) -> Path:
        return names.path_of(self.folder, self.about["row"], self.about["ood"]["name"], self.about["seed"])

    @property
    def files(self) -> tuple[Path, ...]:
        """What is written and not flushed: the runner flushes all of a run at once."""
        return (*(score_files.path_of(self.folder, self.about, side) for side in score_files.SIDES), self.path)

    def done(self, store: Store) -> bool:
        """Whether the record is there; where its scores are not, they are not in the store either."""
        record = records.done(self.path, self.key)
        if record is None:
            return False
        return score_files.fit(self.folder, record) or not (self.id.done(store) and self.ood.done(store))

    def fault(self) -> str:
        record = records.done(self.path, self.key)
        return records.fault(self.path) if record is None else score_files.fault(self.folder, record)

    def run(self, worker: Worker) -> None:
        started = time.perf_counter()
        engine = engine_of(self.id, self.ood, self.calibration, store=worker.store)
        of_id, of_ood = self.id.left(worker.store), self.ood.left(worker.store)
        id_scores, ood_scores = of_id.values, of_ood.values
        ordered = of_id.ordered, of_ood.ordered
        saved = {
            side: score_files.save(score_files.path_of(self.folder, self.about, side), values)
            for side, values in zip(score_files.SIDES, (id_scores, ood_scores), strict=True)
        }
        method = methods.create(self.id.method, **self.id.settings)
        bits = [float(id_scores.mean()), float(ood_scores.mean())] if method.bits_per_dimension else None
        jobs: dict[str, Job] = {"fit": self.id.fit} if self.id.fit else {}
        jobs |= {"encode_id": self.id.images[-1], "score_id": self.id, "score_ood": self.ood}
        also: dict[str, Any] = {}
        if self.calibration:
            images = self.calibration.images[-1]
            also["calibration"] = images.use.acquaintance(images.images)
            also["thresholds"] = thresholds.table(self.calibration.scores(worker.store), id_scores, ood_scores)
        if self.search:
            also["searched"] = self.search.figures(worker.store)
        if self.covariate:
            also["full_spectrum"] = self._spectrum(worker.store, id_scores, ordered[1])
        if self.shifted:
            also["ood_accuracy"] = self.shifted.figures(worker.store)["accuracy"]
        made, ood_made = of_id.meta, of_ood.meta
        seconds = {
            "fit": made["fit"] and made["fit"]["seconds"],
            "encode_id": made["encode"]["seconds"],
            "score_id": made["seconds"],
            "score_ood": ood_made["seconds"],
        }
        sizes = {"encode_id": made["encode"].get("bytes"), "fit": made["fit"] and made["fit"].get("bytes")}
        record = records.result(
            self.about,
            self.key,
            "done",
            **also,
            metrics=metrics.measure(*ordered),
            intervals=metrics.intervals(*ordered),
            bits_per_dimension=bits,
            **self.accuracy.figures(worker.store),
            quantiles={"id": of_id.quantiles, "ood": of_ood.quantiles},
            scores=saved,
            depends=self.depends,
            transform=self.id.images[0].use.transform,
            training={
                "encoder": made["encode"]["training"] or depending.made(self.id.images[-1].use),
                "fit": made["fit"] and made["fit"]["training"],
            },
            provenance=provenance.provenance(
                device=worker.device,
                engine=engine,
                batch_size=worker.batch_size_of(self.id.images[0].use),
                data={
                    "id": self.id.images[-1].images.identity,
                    "ood": self.ood.images[-1].images.identity,
                    "ood_metadata": dict(self.ood.images[-1].images.images.metadata),
                },
                encoder=self.id.images[-1].use.identity,
                keys={name: job.key for name, job in jobs.items()},
                seconds={
                    **{name: value for name, value in seconds.items() if value is not None},
                    "measure": time.perf_counter() - started,
                },
                bytes={name: size for name, size in sizes.items() if size is not None},
            ),
        )
        # what a power cut tears before the run's end shows by its checksum, and is made again from features and fit
        records.write(self.path, record, durable=False)

    def _spectrum(self, store: Store, id_scores: Array, ood_scores: Array) -> dict[str, Any]:
        """What the metrics are where covariate-shifted images count as ID, with the ID test images."""
        wide = np.sort(np.concatenate([id_scores, *(score.scores(store) for score in self.covariate)]))
        return {
            "sets": [score.images[-1].images.images.name for score in self.covariate],
            "n_id": len(wide),
            "metrics": metrics.measure(wide, ood_scores),
            "intervals": metrics.intervals(wide, ood_scores),
        }

    @property
    def depends(self) -> dict[str, Any]:
        """What the record stands and falls with."""
        images = [score.images[-1].images for score in self.covariate]
        shifts = {"covariate": {one.images.name: one.identity for one in images}} if images else {}
        return {**depending.of_row(self.about, self.id), "ood": self.ood.images[-1].images.identity, **shifts}
