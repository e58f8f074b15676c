"""What each kind of job does: train an encoder, encode, fit, score.

A job is a pure function of what its key covers and writes only under its key, so that any process that sees the same
store can carry it out. Measuring (benchmark/measuring.py) is a job too, whose key stands in its record.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import methods
from benchmark import keys
from benchmark.inputs import EncoderUse, Selection, encode_key
from benchmark.store import Arrays, Store
from benchmark.worker import Worker
from datasets.loading import batches, in_memory
from methods.base import CannotRun, Features, Head, Method, hyperparameters
from methods.encoders import preprocessing, registry

BLOCK_BYTES = 64 * 2**20
CHUNK_IMAGES = 512  # a kill loses no more encoding than this and the batches at either end


@dataclass(frozen=True, eq=False)
class Job(ABC):
    """One step of the plan. `needs` are carried out before it."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def key(self) -> str: ...

    @property
    @abstractmethod
    def title(self) -> str: ...

    @property
    @abstractmethod
    def needs(self) -> tuple["Job", ...]: ...

    def done(self, store: Store) -> bool:
        return store.has(self.kind, self.key)

    @abstractmethod
    def run(self, worker: Worker) -> None: ...


@dataclass(frozen=True, eq=False)
class TrainEncoder(Job):
    """Train an encoder on the ID training set."""

    kind: ClassVar[str] = "fit"
    use: EncoderUse

    @property
    def key(self) -> str:
        return self.use.training_key

    @property
    def title(self) -> str:
        return f"train {self.use.name}"

    @property
    def needs(self) -> tuple[Job, ...]:
        assert self.use.train is not None
        if isinstance(self.use.start, EncoderUse):
            return (TrainEncoder(self.use.start),)
        return (Encode(self.use.base, self.use.train),) if self.use.base is not None else ()

    def run(self, worker: Worker) -> None:
        assert self.use.train is not None
        started = time.perf_counter()
        encoder = registry.create(self.use.kind, **self.use.settings)
        encoder.open(None, device=worker.device, precision=self.use.precision)
        if isinstance(self.use.start, EncoderUse):
            encoder.load_state(worker.store.tensors("fit", self.use.start.training_key))
        elif self.use.start is not None:
            encoder.start_from(self.use.start)
        if encoder.supervised and (self.use.train.labels < 0).any():
            raise CannotRun(f"{self.use.name} needs labels; {self.use.train.images.title} has none")
        if self.use.base is not None:
            train = load_features((Encode(self.use.base, self.use.train),), worker.store, ("embedding", "labels"))
        else:
            train = Features(pixels=self._pixels(worker), labels=self.use.train.labels, index=self.use.train.rows)
        encoder.fit(train, seed=self.use.seed, device=worker.device, workdir=worker.store.workdir(self.key))
        seconds = time.perf_counter() - started
        worker.store.put("fit", self.key, tensors=encoder.state(), meta={"title": self.title, "seconds": seconds})

    def _pixels(self, worker: Worker) -> Tensor:
        """The training images as `encode` will get them: uint8 (N, H, W, 3) of their own size, or of the ID set's."""
        assert self.use.train is not None
        images, rows, size = self.use.train.images, self.use.train.rows, self.use.match
        if size is None:
            return in_memory(images, rows)
        found = batches(images, rows, CHUNK_IMAGES)
        return torch.cat([preprocessing.to_size(batch.images, size, worker.device).cpu() for batch in found])


@dataclass(frozen=True, eq=False)
class Encode(Job):
    """One pass of one encoder over the images of one selection: everything that it offers, once."""

    kind: ClassVar[str] = "encode"
    use: EncoderUse
    images: Selection

    @cached_property
    def key(self) -> str:
        return encode_key(self.use, self.images)

    @property
    def title(self) -> str:
        return f"encode {self.images.images.name} with {self.use.name}"

    @cached_property
    def needs(self) -> tuple[Job, ...]:
        before: list[Job] = [TrainEncoder(self.use)] if self.use.trained_here else []
        if self.use.base is not None:
            before.append(Encode(self.use.base, self.images))
        return tuple(before)

    def run(self, worker: Worker) -> None:
        started = time.perf_counter()
        rows = self.images.rows
        writer = worker.store.chunks("encode", self.key, len(rows))
        waiting: list[Arrays] = []
        with worker.progress(self.title, len(rows), writer.position) as bar:
            for encoded in self._batches(worker, writer.position):
                waiting.append(encoded)
                count = len(next(iter(encoded.values())))
                bar.update(count)
                size = sum(values.nbytes for part in waiting for values in part.values())
                images = sum(len(next(iter(part.values()))) for part in waiting)
                if images >= CHUNK_IMAGES or size >= BLOCK_BYTES:
                    writer.append(_joined(waiting))
                    waiting = []
        if waiting:
            writer.append(_joined(waiting))
        encoder = worker.open(self.use)
        head = encoder.head
        writer.finish(
            arrays={"labels": self.images.labels.astype(np.int64), "index": rows.astype(np.int64)},
            tensors={} if head is None else {"head.weight": head.weight.cpu(), "head.bias": head.bias.cpu()},
            meta={
                "title": self.title,
                "seconds": time.perf_counter() - started,
                "images": len(rows),
                "layer_sizes": list(encoder.layer_sizes),
            },
        )

    def _batches(self, worker: Worker, position: int) -> Iterator[Arrays]:
        if self.use.base is not None:  # it reads features: no image is touched again
            base = load_features((Encode(self.use.base, self.images),), worker.store, ("embedding",))
            encoder = worker.open(self.use)
            for block in base[position:].blocks(4096):
                yield _on_cpu(encoder.encode(block.need("embedding").to(worker.device)))
            return
        before: dict[str, Tensor] | None = None
        for batch in batches(self.images.images, self.images.rows[position:], worker.batch_size, keep=True):
            if before is not None:  # fetched only now: a GPU was at work on it while this batch was loaded
                yield _on_cpu(before)
            before = worker.encode(self.use, batch.images)
            worker.passes[self.use.name] = worker.passes.get(self.use.name, 0) + len(batch.rows)
        if before is not None:
            yield _on_cpu(before)


def _on_cpu(features: Mapping[str, Tensor]) -> Arrays:
    return {name: values.cpu().numpy() for name, values in features.items()}


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def encodes(use: EncoderUse, images: Selection) -> tuple[Encode, ...]:
    """The passes that give all that `use` offers: that of the encoder it stands on, then its own."""
    return tuple(Encode(link, images) for link in use.chain)


def load_features(passes: tuple[Encode, ...], store: Store, names: tuple[str, ...]) -> Features:
    """The features `names` (and `index`) of one selection, memory-mapped."""
    arrays: dict[str, Any] = {}
    wanted = {*names, "labels", "index"}
    sizes: tuple[int, ...] = ()
    head = None
    for job in passes:
        arrays |= store.arrays("encode", job.key, wanted)
        sizes = tuple(store.meta("encode", job.key)["layer_sizes"]) or sizes
        tensors = store.tensors("encode", job.key)
        head = Head(tensors["head.weight"], tensors["head.bias"]) if tensors else head
    return Features(**arrays, layer_sizes=sizes if "layers" in arrays else (), head=head if "head" in names else None)


def _fit_settings(method: Method) -> dict[str, Any]:
    """The hyper-parameters that a fit depends on."""
    apart = {*method.score_only, *method.inert}
    return {name: getattr(method, name) for name in hyperparameters(method) if name not in apart}


@dataclass(frozen=True, eq=False)
class FitMethod(Job):
    """What a method learns from the ID training features; rows that differ in `score_only` fields share it."""

    kind: ClassVar[str] = "fit"
    method: str
    settings: Mapping[str, Any]
    seed: int
    train: tuple[Encode, ...]

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
        )

    @property
    def title(self) -> str:
        return f"fit {self.method} on {self.train[-1].use.name}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return self.train

    def run(self, worker: Worker) -> None:
        started = time.perf_counter()
        method = methods.create(self.method, **self.settings)
        train = load_features(self.train, worker.store, (*method.reads, "labels"))
        method.fit(train, seed=self.seed, device=worker.device, workdir=worker.store.workdir(self.key))
        seconds = time.perf_counter() - started
        worker.store.put("fit", self.key, tensors=method.state(), meta={"title": self.title, "seconds": seconds})


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
                given = self._scored(method, block, worker)
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
        seconds = time.perf_counter() - started
        worker.store.put("score", self.key, arrays={"scores": scores}, meta={"title": self.title, "seconds": seconds})

    def _scored(self, method: Method, block: Features, worker: Worker) -> Tensor:
        """Scores of one block on the CPU. Out of GPU memory: in halves, which changes no score."""
        try:
            return method.score(block.to(worker.device)).detach().cpu()
        except torch.OutOfMemoryError:
            if len(block) == 1:
                raise RuntimeError(f"not enough memory on {worker.device} for one image: --device cpu") from None
        torch.cuda.empty_cache()  # out of the handler, whose traceback holds what was computed
        half = len(block) // 2
        return torch.cat([self._scored(method, part, worker) for part in (block[:half], block[half:])])

    def scores(self, store: Store) -> np.ndarray[Any, Any]:
        return store.arrays("score", self.key)["scores"]


def block_rows(x: Features) -> int:
    """Rows of a block: 64 MiB of features at most, and at most 4,096 images, whose activations must fit too."""
    bytes_per_row: int = sum(
        values[:1].numel() * values.element_size()
        for values in (x.embedding, x.logits, x.layers, x.pixels)
        if values is not None
    )
    return max(1, min(4096, BLOCK_BYTES // max(1, bytes_per_row)))
