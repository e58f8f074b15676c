"""What hyper-parameters are chosen by: how well they tell held-out ID images from a validation set."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from benchmark import metrics
from benchmark.jobs.base import Job
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.store import keys
from benchmark.store.entries import Store


@dataclass(frozen=True, eq=False)
class Search(Job):
    """Of one row, or candidate: the scores of ID images that its fit has not seen, and those of the validation set."""

    kind: ClassVar[str] = "search"
    id: Score
    ood: Score

    @cached_property
    def key(self) -> str:
        return keys.digest(what="search", id=self.id.key, ood=self.ood.key, source=keys.source("benchmark.metrics"))

    @property
    def title(self) -> str:
        on = self.ood.images[-1].images.images.name
        return f"search on {on} with {self.id.method} on {self.id.images[-1].use.name}"

    @property
    def needs(self) -> tuple[Score, Score]:
        return self.id, self.ood

    def run(self, worker: Worker) -> None:
        worker.store.put(self.kind, self.key, meta={"title": self.title, "figures": self.figures(worker.store)})

    def found(self, store: Store) -> dict[str, Any]:
        """What `run` has kept."""
        return dict(store.meta(self.kind, self.key)["figures"])

    def figures(self, store: Store) -> dict[str, Any]:
        """What the record of a row says of it; which row was chosen is known when all are measured."""
        held_out, validation = self.id.scores(store), self.ood.scores(store)
        selection = self.ood.images[-1].images
        return {
            "set": selection.images.name,
            "title": selection.images.title,
            "data": selection.identity,
            "n_id": len(held_out),
            "n_ood": len(validation),
            "auroc": float(metrics.auroc(held_out, validation)),
            "chosen": False,
        }
