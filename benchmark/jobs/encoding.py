"""From images to features: train an encoder, encode, and read what was encoded."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from benchmark.jobs import engines
from benchmark.jobs.base import Job
from benchmark.jobs.inputs import EncoderUse, Selection, encode_key
from benchmark.jobs.worker import Worker
from benchmark.jobs.writing import Coming, WritingThread
from benchmark.records.provenance import training
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Arrays, Store
from datasets.loading import batches, in_memory
from methods.base import NAMES, CannotRun, Features, Head
from methods.device.precision import switches
from methods.encoders import registry
from methods.encoders.features import FeatureReader


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
        return () if self.use.base is None else tuple(Encode(self.use.base, images) for images in self._images)

    @property
    def _images(self) -> tuple[Selection, ...]:
        """What it is trained on, and what it is calibrated on where that is not held out of the first."""
        assert self.use.train is not None
        calibration = self.use.train.calibration
        return (self.use.train,) if calibration is None else (self.use.train, calibration)

    def run(self, worker: Worker) -> None:
        assert self.use.train is not None
        seconds = worker.clock(self.key)
        encoder = registry.create(self.use.kind, **self.use.settings)
        encoder.open(None, device=worker.device, precision=self.use.precision)
        if isinstance(self.use.start, EncoderUse):
            encoder.load_state(worker.store.tensors("fit", self.use.start.training_key))
        elif self.use.start is not None:
            encoder.start_from(self.use.start)
        if encoder.supervised and (self.use.train.labels < 0).any():
            raise CannotRun(f"{self.use.name} needs labels; {self.use.train.images.title} has none")
        train, *validation = (self._read(images, worker) for images in self._images)
        train = replace(train, validation=validation[0]) if validation else train
        with switches("32", worker.device):  # a training has its own inside, in the precision asked for
            encoder.fit(train, seed=self.use.seed, device=worker.device, workdir=worker.store.workdir(self.key))
        meta = {"title": self.title, "seconds": seconds(0.0), "training": training(worker.device)}
        if self.use.base is not None:
            meta["engine"] = engines.behind(worker.store, self.use.base, self.use.train)
        worker.store.put("fit", self.key, tensors=encoder.state(), meta=meta)

    def _read(self, images: Selection, worker: Worker) -> Features:
        """What the encoder learns from these images: the features that it stands on, or the images themselves."""
        if self.use.base is not None:
            return load_features((Encode(self.use.base, images),), worker.store, ("embedding", "labels"))
        pixels = in_memory(images.images, images.rows, shrink=self.use.shrink)
        return Features(pixels=pixels, labels=images.labels, index=images.rows)


@dataclass(frozen=True, eq=False)
class Encode(Job):
    """One pass of one encoder over the images of one selection: everything that it offers, once.

    Over more images than a shard holds it is those of its shards, and only says so: jobs and entries of their own,
    whose arrays the store reads as one. Where it was done in one piece before, that is taken.
    """

    kind: ClassVar[str] = "encode"
    use: EncoderUse
    images: Selection

    @cached_property
    def key(self) -> str:
        return encode_key(self.use, self.images)

    @property
    def title(self) -> str:
        span = self.images.span
        part = "" if span is None else f", images {span[0] + 1:,} to {span[1]:,}"
        return f"encode {self.images.images.name} with {self.use.name}{part}"

    @cached_property
    def shards(self) -> tuple["Encode", ...]:
        return tuple(Encode(self.use, shard) for shard in self.images.shards)

    @cached_property
    def needs(self) -> tuple[Job, ...]:
        if self.shards:
            return self.shards
        before: list[Job] = [TrainEncoder(use) for use in self.use.made_of if use.trained_here]
        if self.use.base is not None:
            before.append(Encode(self.use.base, self.images))
        return tuple(before)

    def run(self, worker: Worker) -> None:
        if self.shards:
            self._join(worker.store)
        else:
            self._encode(worker)

    def _join(self, store: Store) -> None:
        keys = [shard.key for shard in self.shards]
        of_each = [store.meta("encode", key) for key in keys]
        took = [meta["seconds"] for meta in of_each]
        added = {"seconds": None if None in took else sum(took), "images": sum(meta["images"] for meta in of_each)}
        meta = {**of_each[0], "title": self.title, **added}
        store.put("encode", self.key, tensors=store.tensors("encode", keys[0]), meta=meta, parts=keys)

    def _encode(self, worker: Worker) -> None:
        started = time.perf_counter()
        rows = self.images.rows
        writer = ChunkWriter(worker.store, "encode", self.key, len(rows))
        goes_on = writer.position > 0
        encoder = worker.open(self.use)
        if (begun := writer.about.get("memory_format")) is not None:
            encoder.arrange(begun)
        engine = engines.take(worker, self.use, self.images, writer.about.get("engine"))
        how = {"memory_format": encoder.memory_format, "engine": engine}
        writer.about = {name: value for name, value in how.items() if value is not None}
        with (
            worker.progress(self.title, len(rows), writer.position) as bar,
            WritingThread(writer) as thread,
        ):
            for count, features in self._batches(worker, writer.position):
                thread.put(features)
                bar.update(count)
        first = self.images.span is None or self.images.span[0] == 0  # the head is kept once
        head = encoder.head if first and not self.use.no_head else None
        writer.finish(
            arrays={"labels": self.images.labels.astype(np.int64), "index": rows.astype(np.int64)},
            tensors={} if head is None else {"head.weight": head.weight.cpu(), "head.bias": head.bias.cpu()},
            meta={
                "title": self.title,
                "seconds": None if goes_on else time.perf_counter() - started,
                "images": len(rows),
                "layer_sizes": list(encoder.layer_sizes),
                "extra_sizes": {name: list(sizes) for name, sizes in encoder.extra_sizes.items()},
                "decoders": self.images.images.decoders.used,
                **how,
                "training": self._training(worker.store),
            },
        )

    def done(self, store: Store) -> bool:
        return store.holds("encode", self.key, self._misfit)

    def _misfit(self, arrays: Arrays) -> str:
        """What keeps the arrays from being features of these images; "" where nothing does."""
        for name, values in arrays.items():
            dtypes = (np.int64,) if name in ("labels", "index") else (np.float32, np.uint8)
            if len(values) != len(self.images.rows) or values.dtype not in dtypes:
                return f"{name} of {values.dtype}, {values.shape}, for {len(self.images.rows):,} images"
        return "" if np.array_equal(arrays.get("index", ()), self.images.rows) else "its index is that of other images"

    def _training(self, store: Store) -> dict[str, Any] | None:
        """Where the last training in the chain was done; None where no encoder of it was trained here."""
        for use in self.use.made_of:
            if use.trained_here:
                own: dict[str, Any] = store.meta("fit", use.training_key)["training"]
                return own
        if self.use.base is None:
            return None
        below: dict[str, Any] | None = store.meta("encode", Encode(self.use.base, self.images).key)["training"]
        return below

    def _batches(self, worker: Worker, position: int) -> Iterator[tuple[int, Coming]]:
        """How many images a batch has, and their features on the way."""
        fetch = worker.transfer.fetch
        if self.use.base is not None:  # it reads features: no image is touched again
            base = load_features((Encode(self.use.base, self.images),), worker.store, ("embedding",))
            encoder = worker.open(self.use)
            for block in base[position:].blocks(4096):
                yield len(block), fetch(encoder.encode(block.need("embedding").to(worker.device)))
            return
        if self.images.images.features is not None:
            reader = worker.open(self.use)
            assert isinstance(reader, FeatureReader)  # planning lets no other read them
            for arrays in self.images.images.features.blocks(self.images.rows[position:]):
                yield len(next(iter(arrays.values()))), fetch(reader.given(arrays))
            return
        rows, size = self.images.rows[position:], worker.batch_size_of(self.use)
        for batch in batches(self.images.images, rows, size, keep=True, shrink=self.use.shrink):
            features = worker.encode(self.use, batch.images)
            if self.use.no_head:  # what nobody may read is not kept
                features.pop("logits", None)
            worker.passes[self.use.name] = worker.passes.get(self.use.name, 0) + len(batch.rows)
            yield len(batch.rows), fetch(features)
            del batch, features  # they go before the next are decoded


def along(
    worker: Worker, use: EncoderUse, images: Tensor | list[Tensor]
) -> Iterator[tuple[EncoderUse, dict[str, Tensor]]]:
    """Each encoder that one stands on, the first on images and itself last, with what it gives for one batch."""
    first, *others = use.chain
    yield first, (features := worker.encode(first, images))
    for link in others:
        yield link, (features := worker.open(link).encode(features["embedding"]))


def encodes(use: EncoderUse, images: Selection) -> tuple[Encode, ...]:
    """The passes that give all that `use` offers: that of the encoder it stands on, then its own."""
    return tuple(Encode(link, images) for link in use.chain)


def load_features(passes: tuple[Encode, ...], store: Store, names: tuple[str, ...]) -> Features:
    """The features `names` (and `index`) of one selection, memory-mapped."""
    arrays: dict[str, Any] = {}
    extra_sizes: dict[str, Any] = {}
    wanted = {*names, "labels", "index"}
    sizes: tuple[int, ...] = ()
    head = None
    for job in passes:
        # a head whose classes are not the ID set's is not offered
        arrays |= store.arrays("encode", job.key, wanted - {"logits"} if job.use.no_head else wanted)
        meta = store.meta("encode", job.key)
        sizes = tuple(meta["layer_sizes"]) or sizes
        extra_sizes |= meta.get("extra_sizes", {})
        if "head" in names and not job.use.no_head and (tensors := store.tensors("encode", job.key)):
            head = Head(tensors["head.weight"], tensors["head.bias"])
    extras = {name: arrays.pop(name) for name in arrays.keys() - {*NAMES, "labels", "index"}}
    return Features(
        **arrays,
        layer_sizes=sizes if "layers" in arrays else (),
        head=head,
        extras=extras,
        extra_sizes={name: extra_sizes[name] for name in extras.keys() & extra_sizes.keys()},
    )
