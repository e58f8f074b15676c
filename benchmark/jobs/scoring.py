"""The scores of one row for the images of one selection, block by block."""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import methods
from benchmark.jobs.base import BLOCK_BYTES, Job
from benchmark.jobs.encoding import Encode, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.worker import Worker
from benchmark.records.score_files import misfit, quantiles
from benchmark.store import keys
from benchmark.store.entries import Store
from methods.base import Features, Method, hyperparameters
from methods.device.memory import out_of_memory
from methods.device.precision import switches


@dataclass(frozen=True, eq=False)
class Score(Job):
    """The scores of one row for the images of one selection."""

    kind: ClassVar[str] = "score"
    method: str
    settings: Mapping[str, Any]
    seed: int
    fit: FitMethod | None
    images: tuple[Encode, ...]

    @cached_property
    def key(self) -> str:
        method = methods.create(self.method, **self.settings)
        return keys.digest(
            what="score",
            method=self.method,
            settings={name: getattr(method, name) for name in hyperparameters(method) if name not in method.inert},
            fit=self.fit.key if self.fit else None,
            images=[job.key for job in self.images],
            source=keys.source(type(method).__module__),
        )

    @property
    def title(self) -> str:
        return f"score {self.images[-1].images.images.name} with {self.method} on {self.images[-1].use.name}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (*((self.fit,) if self.fit else ()), *self.images)

    def run(self, worker: Worker) -> None:
        started = time.perf_counter()
        method = worker.fitted(self.method, self.settings, self.fit.key if self.fit else None)
        x = load_features(self.images, worker.store, method.reads)
        parts = []
        with worker.progress(self.title, len(x)) as bar:
            for block in x.blocks(block_rows(x)):
                given = self.scored(method, block, worker)
                if given.shape != (len(block),):
                    raise ValueError(f"{self.method} gave scores of shape {tuple(given.shape)} for {len(block)} images")
                parts.append(given.numpy())
                bar.update(len(block))
        scores = np.concatenate(parts)
        if np.isnan(scores).any():
            first = int(np.isnan(scores).argmax())
            raise ValueError(
                f"{self.method} scored NaN for {int(np.isnan(scores).sum())} of {len(scores)} images of "
                f"{self.images[-1].images.images.name} (the first is image {int(x.index[first])}): check the method"
            )
        meta = {"title": self.title, "seconds": time.perf_counter() - started, **self._origin(worker.store)}
        # not flushed: scores are made again from features and fit, which are, in less time than the disk takes
        worker.store.put("score", self.key, arrays={"scores": scores}, meta=meta, durable=False)

    def _origin(self, store: Store) -> dict[str, Any]:
        """How the features and the fit were made: kept beside the scores, which may outlive them."""

        def of(kind: str, key: str) -> dict[str, Any]:
            meta = store.meta(kind, key)
            said = {name: meta.get(name) for name in ("seconds", "training", "engine")}
            return {**said, "bytes": store.size(kind, key)}

        return {"encode": of("encode", self.images[-1].key), "fit": of("fit", self.fit.key) if self.fit else None}

    @classmethod
    def scored(cls, method: Method, block: Features, worker: Worker) -> Tensor:
        """Scores of one block on the CPU. Out of GPU memory: in halves, which changes no score."""
        try:
            with switches("32", worker.device):
                return method.score(block.to(worker.device)).detach().cpu()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(block) == 1:
                raise RuntimeError(f"not enough memory on {worker.device} for one image: --device cpu") from None
        torch.cuda.empty_cache()  # out of the handler, whose traceback holds what was computed
        half = len(block) // 2
        return torch.cat([cls.scored(method, part, worker) for part in (block[:half], block[half:])])

    def done(self, store: Store) -> bool:
        n = len(self.images[-1].images.rows)
        return store.holds("score", self.key, lambda arrays: misfit(arrays["scores"], n))

    def left(self, store: Store) -> "Scored":
        """What it left in the store: read once for all cells of a row that take the same."""
        return _left(store, self.key)

    def scores(self, store: Store) -> np.ndarray[Any, Any]:
        return self.left(store).values


@dataclass(frozen=True, eq=False)
class Scored:
    """What a job left: scores (N,), not to be written to, and how they were made."""

    values: np.ndarray[Any, Any]
    meta: Mapping[str, Any]

    @cached_property
    def ordered(self) -> np.ndarray[Any, Any]:
        """The scores ascending."""
        return _fixed(np.sort(self.values))

    @cached_property
    def quantiles(self) -> list[float]:
        """As records hold them."""
        return quantiles(self.ordered)


@functools.lru_cache(maxsize=4)  # of a row's ID images, those to calibrate on, and those of the cell
def _left(store: Store, key: str) -> Scored:
    return Scored(_fixed(np.array(store.arrays("score", key)["scores"])), store.meta("score", key))


def _fixed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values.flags.writeable = False
    return values


def engine_of(*scores: Score | None, store: Store) -> str | None:
    """The engine that made the features behind these scores, None where no network ran.

    ValueError where there are two, which different runs at the same time may have chosen.
    """
    parts = [part for each in scores if each for part in map(each.left(store).meta.get, ("encode", "fit")) if part]
    if len(found := {part["engine"] for part in parts if part.get("engine")}) > 1:
        raise ValueError(f"its features were made by {' and '.join(sorted(found))}: take another --cache")
    return next(iter(found), None)


def block_rows(x: Features) -> int:
    """Rows of a block: 64 MiB of features at most, and at most 4,096 images, whose activations must fit too."""
    bytes_per_row: int = sum(
        values[:1].numel() * values.element_size()
        for values in (x.embedding, x.logits, x.layers, x.pixels, *x.extras.values())
        if values is not None
    )
    return max(1, min(4096, BLOCK_BYTES // max(1, bytes_per_row)))
