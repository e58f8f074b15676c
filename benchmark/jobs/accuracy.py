"""How well an encoder knows the ID test set: computed where its features are, and kept, so that they may go."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from benchmark import metrics
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, load_features
from benchmark.jobs.worker import Worker
from benchmark.store import keys
from benchmark.store.entries import Store
from methods.base import Features

NEIGHBOURS = 20


@dataclass(frozen=True, eq=False)
class Accuracy(Job):
    """The accuracy of an encoder's head on one selection; of an embedding without a head, that of its neighbours."""

    kind: ClassVar[str] = "accuracy"
    images: tuple[Encode, ...]

    @cached_property
    def key(self) -> str:
        source = keys.source("benchmark.metrics")
        return keys.digest(what="accuracy", images=[job.key for job in self.images], source=source)

    @property
    def title(self) -> str:
        return f"accuracy of {self.images[-1].use.name} on {self.images[-1].images.images.name}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return self.images

    def run(self, worker: Worker) -> None:
        x = load_features(self.images, worker.store, ("embedding", "logits", "labels"))
        meta = {"title": self.title, "accuracy": accuracy(x), "knn_accuracy": knn_accuracy(x, worker.device)}
        worker.store.put(self.kind, self.key, meta=meta)

    def figures(self, store: Store) -> dict[str, Any]:
        """`accuracy` and `knn_accuracy`, as records have them: fractions, or None."""
        meta = store.meta(self.kind, self.key)
        return {name: meta[name] for name in ("accuracy", "knn_accuracy")}


def accuracy(x: Features) -> float | None:
    """Share of images that the encoder's own head labels rightly; None without a head or without labels."""
    if x.logits is None or (x.labels < 0).any():
        return None
    return float((x.logits.argmax(dim=1) == x.labels).double().mean())


def knn_accuracy(x: Features, device: str = "cpu") -> float | None:
    """What `accuracy` is for an embedding without a head; None for others, without labels, or for few images."""
    if x.logits is not None or x.embedding is None or len(x) <= NEIGHBOURS or (x.labels < 0).any():
        return None
    return metrics.knn_accuracy(x.embedding.to(device), x.labels, NEIGHBOURS)
