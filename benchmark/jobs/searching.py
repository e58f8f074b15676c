"""What a value of a sweep is chosen by: how well it tells held-out ID images from a validation set."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmark import metrics
from benchmark.jobs.scoring import Score
from benchmark.store import keys
from benchmark.store.entries import Store


@dataclass(frozen=True, eq=False)
class Search:
    """Of one row: the scores of ID images that its fit has not seen, and those of the validation set."""

    id: Score
    ood: Score

    @cached_property
    def key(self) -> str:
        return keys.digest(what="search", id=self.id.key, ood=self.ood.key, source=keys.source("benchmark.metrics"))

    @property
    def needs(self) -> tuple[Score, Score]:
        return self.id, self.ood

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
