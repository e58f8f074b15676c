"""What is left to measure where there is no OOD set: a row's thresholds, and what they accept of the ID test set."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from benchmark.jobs import depending
from benchmark.jobs.accuracy import Accuracy
from benchmark.jobs.base import Job
from benchmark.jobs.scoring import Score, engine_of
from benchmark.jobs.searching import Search
from benchmark.jobs.worker import Worker
from benchmark.records import names, provenance, records, thresholds
from benchmark.store import keys
from benchmark.store.entries import Store


@dataclass(frozen=True, eq=False)
class Calibrate(Job):
    """A row's thresholds from the scores of the ID calibration images."""

    kind: ClassVar[str] = "measure"
    folder: Path
    about: Mapping[str, Any]  # what the record says of suite, row and ID set
    id: Score
    calibration: Score
    search: Search | None = None  # of a row of a sweep that is searched

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="calibrate",
            about=dict(self.about),
            id=self.id.key,
            calibration=self.calibration.key,
            source=keys.source("benchmark.records.thresholds"),
            **({"search": self.search.key} if self.search else {}),
        )

    @property
    def title(self) -> str:
        return f"calibrate {self.about['row']}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.id, self.calibration, self.accuracy, *(self.search.needs if self.search else ()))

    @cached_property
    def accuracy(self) -> Accuracy:
        return Accuracy(self.id.images)

    @property
    def path(self) -> Path:
        return names.thresholds_path(self.folder, self.about["row"], self.about["seed"])

    @property
    def files(self) -> tuple[Path, ...]:
        """What is written and not flushed: the runner flushes all of a run at once."""
        return (self.path,)

    def done(self, store: Store) -> bool:
        return records.done(self.path, self.key) is not None

    def fault(self) -> str:
        return records.fault(self.path)

    def run(self, worker: Worker) -> None:
        images = self.calibration.images[-1]
        use = images.use
        record = {
            "schema": records.SCHEMA,
            "kind": "thresholds",
            "key": self.key,
            "status": "done",
            "reason": "",
            **self.about,
            **self.accuracy.figures(worker.store),
            **({"searched": self.search.figures(worker.store)} if self.search else {}),
            "calibration": use.acquaintance(images.images),
            "thresholds": thresholds.table(self.calibration.scores(worker.store), self.id.scores(worker.store)),
            "depends": self.depends,
            "provenance": provenance.provenance(
                device=worker.device,
                engine=engine_of(self.id, self.calibration, store=worker.store),
                batch_size=worker.batch_size,
                encoder=use.identity,
            ),
        }
        records.write(self.path, record, durable=False)

    @property
    def depends(self) -> dict[str, Any]:
        """What the record stands and falls with."""
        calibration = self.calibration.images[-1].images.identity
        return {**depending.of_row(self.about, self.id), "calibration": calibration}
