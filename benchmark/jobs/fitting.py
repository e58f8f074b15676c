"""What a method learns from the features of the ID training set."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

import methods
from benchmark.jobs import engines
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, encodes, load_features
from benchmark.jobs.inputs import calibrated
from benchmark.jobs.worker import Worker
from benchmark.records.provenance import training
from benchmark.store import keys
from methods.base import Method, hyperparameters
from methods.device.precision import switches
from methods.vectors.sums import SHARD, Summed, added


def _fit_settings(method: Method) -> dict[str, Any]:
    """The hyper-parameters that a fit depends on."""
    apart = {*method.score_only, *method.inert}
    return {name: getattr(method, name) for name in hyperparameters(method) if name not in apart}


@dataclass(frozen=True, eq=False)
class FitMethod(Job):
    """What a method learns from the ID training features; rows that differ in `score_only` fields share it.

    apart: without the images to calibrate on, of a training set that has them among its others.
    """

    kind: ClassVar[str] = "fit"
    method: str
    settings: Mapping[str, Any]
    seed: int
    train: tuple[Encode, ...]
    precision: str = "32"  # of the network that the method trains, where it trains one
    apart: bool = False

    @cached_property
    def validation(self) -> tuple[Encode, ...]:
        """The passes over the calibration images; none where there are no such images."""
        images = self.train[-1].images
        calibration = calibrated(images).calibration if self.apart else images.calibration
        return () if calibration is None else encodes(self.train[-1].use, calibration)

    @cached_property
    def _method(self) -> Method:
        return methods.create(self.method, **self.settings)

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="fit method",
            method=self.method,
            settings=_fit_settings(self._method),
            seed=self.seed if self._method.random_fit else None,
            train=[job.key for job in self.train],
            source=keys.source(type(self._method).__module__),
            **({"precision": self.precision} if self._method.trains else {}),
            **({"apart": True} if self.apart else {}),
            **({"validation": [job.key for job in self.validation]} if self.validation else {}),
        )

    @property
    def title(self) -> str:
        return f"fit {self.method} on {self.train[-1].use.name}"

    @property
    def rows(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The places, among the rows of `train`, of what is learned from."""
        images = self.train[-1].images
        return np.flatnonzero(~images.held_out) if self.apart else np.arange(len(images.rows))

    @cached_property
    def n(self) -> int:
        """How many images it learns from."""
        return len(self.rows)

    @cached_property
    def shards(self) -> tuple["SumShard", ...]:
        """Of a fit that is sums over more than one shard: what takes the sums of each."""
        if not isinstance(self._method, Summed) or self.n <= SHARD:
            return ()
        return tuple(SumShard(self, (at, min(at + SHARD, self.n))) for at in range(0, self.n, SHARD))

    @property
    def needs(self) -> tuple[Job, ...]:
        return (*self.train, *self.validation, *self.shards)

    def run(self, worker: Worker) -> None:
        seconds, before = worker.clock(self.key), 0.0
        method, store = methods.create(self.method, **self.settings), worker.store
        with switches("32", worker.device):  # a training has its own inside
            if self.shards:
                assert isinstance(method, Summed)
                keys_of = [shard.key for shard in self.shards]
                sums = added(store.tensors("fit", key) for key in keys_of)
                method.fit_sums({name: values.to(worker.device) for name, values in sums.items()})
                before = sum(store.meta("fit", key)["seconds"] for key in keys_of)
            else:
                self._fit(method, worker)
        meta = {"title": self.title, "seconds": seconds(before), "training": training(worker.device)}
        meta["engine"] = engines.behind(worker.store, self.train[-1].use, self.train[-1].images)
        store.put("fit", self.key, tensors=method.state(), meta=meta)

    def _fit(self, method: Method, worker: Worker) -> None:
        names = (*method.reads, "labels")
        train = load_features(self.train, worker.store, names)
        if self.apart:
            train = train[self.rows]
        if self.validation:
            train = replace(train, validation=load_features(self.validation, worker.store, names))
        how = {"precision": self.precision} if method.trains else {}
        method.fit(train, seed=self.seed, device=worker.device, workdir=worker.store.workdir(self.key), **how)


@dataclass(frozen=True, eq=False)
class SumShard(Job):
    """What one shard of the training images adds to a fit that is sums. `span`: of the rows that it learns from."""

    kind: ClassVar[str] = "fit"
    fit: FitMethod
    span: tuple[int, int]

    @cached_property
    def key(self) -> str:
        return keys.digest(what="sums of a shard", fit=self.fit.key, span=list(self.span))

    @property
    def title(self) -> str:
        return f"{self.fit.title}, sums of images {self.span[0] + 1:,} to {self.span[1]:,}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return self.fit.train

    def run(self, worker: Worker) -> None:
        started = time.perf_counter()
        method = methods.create(self.fit.method, **self.fit.settings)
        assert isinstance(method, Summed)
        rows = slice(*self.span)
        train = load_features(self.fit.train, worker.store, (*method.reads, "labels"))
        with switches("32", worker.device):
            sums = method.over(train[self.fit.rows[rows] if self.fit.apart else rows], worker.device)
        meta = {"title": self.title, "seconds": time.perf_counter() - started}
        worker.store.put("fit", self.key, tensors={name: values.cpu() for name, values in sums.items()}, meta=meta)
