"""What a method learns from the features of the ID training set."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch

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
    def needs(self) -> tuple[Job, ...]:
        return (*self.train, *self.validation)

    def run(self, worker: Worker) -> None:
        started, begun = time.perf_counter(), worker.store.begun(self.key)
        method = methods.create(self.method, **self.settings)
        names = (*method.reads, "labels")
        train = load_features(self.train, worker.store, names)
        if self.apart:
            train = train[torch.from_numpy(~self.train[-1].images.held_out)]
        if self.validation:
            train = replace(train, validation=load_features(self.validation, worker.store, names))
        how = {"precision": self.precision} if method.trains else {}
        with switches("32", worker.device):  # a training has its own inside
            method.fit(train, seed=self.seed, device=worker.device, workdir=worker.store.workdir(self.key), **how)
        seconds = None if begun else time.perf_counter() - started
        meta = {"title": self.title, "seconds": seconds, "training": training(worker.device)}
        meta["engine"] = engines.behind(worker.store, self.train[-1].use, self.train[-1].images)
        worker.store.put("fit", self.key, tensors=method.state(), meta=meta)
