"""Images that a caller's own code gives: tensors, torch datasets and loaders, each read once and as a network reads it.

What a dataset or a loader gives is written to a file as it comes, in its order, so that every job sees the same images
(a loader may shuffle or augment), and the fingerprint is of those and nothing else.
"""

import contextlib
import hashlib
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from datasets import labels as labelling
from datasets.images import ImageSet, Labels

BATCH = 64
_SHOWN = 1000  # images whose range is told
Values = NDArray[Any]


class GivenSet(ImageSet):
    """N images of one shape and type, as the network reads them: `values` (N, ...), which are not changed.

    `how`: the transform that made them, as far as it is known; `prepared`: the same for people, with their range.
    """

    def __init__(
        self, name: str, split: str, values: Values, labels: Labels, classes: tuple[str, ...] = (), how: str = ""
    ) -> None:
        self._values, self.how = values, how
        self.form = f"{values.dtype} {' x '.join(map(str, values.shape[1:]))}"
        super().__init__(name, split, title=name, labels=labels, classes=classes)
        first = values[:_SHOWN]
        numbers = f"from {first.min():.3g} to {first.max():.3g}, mean {first.mean():.3g}, std {first.std():.3g}"
        self.prepared = f"{self.form}, {numbers}{f', by {how}' if how else ''}"

    def read(self, rows: Sequence[int]) -> list[Values]:
        return [np.array(self._values[row]) for row in rows]

    def content(self) -> list[tuple[str, int, str]]:
        return [(self.form, self._values.nbytes, hashlib.sha256(self.digests.tobytes()).hexdigest())]


def given(name: str, split: str, data: Any, folder: Path, *, labelled: bool = True) -> GivenSet:
    """A set of tensors (N, ...), (tensors, labels), a torch dataset, or a loader of batches (image, label).

    Not `labelled`: labels are not read. What has to be on the disk goes into `folder`. ValueError, in one line, for
    what is none of these or cannot be right.
    """
    where = f"{name} ({split})"
    if isinstance(data, Tensor | np.ndarray):
        data = (data, None)
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray):
        values, labels, source = as_array(data[0]), data[1], None
        if values.ndim < 2 or not len(values):
            raise ValueError(f"{where}: images are {values.shape}; they must be (N, ...), N of them")
        for start in range(0, len(values), BATCH):
            _check(values[start : start + BATCH], start, where)
    else:
        values, labels = _spooled(data, where, folder)
        source = data.dataset if isinstance(data, DataLoader) else data
    found, names = _labels(labels if labelled else None, len(values), _classes(source), where)
    images = GivenSet(name, split, values, found, names, _transform(source))
    if images.fault:
        raise ValueError(f"{where}: {images.fault}")
    return images


def as_array(values: Any) -> Values:
    """A tensor of any device, or an array, as an array that shares its memory where it can."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    found: Values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return found


def name_of(data: Any) -> str:
    """What the class of a caller's dataset calls itself; "" where that says nothing."""
    source = _source(data)
    own = isinstance(source, Dataset) and not type(source).__module__.startswith("torch.")
    return type(source).__name__ if own else ""


def _spooled(data: Any, where: str, folder: Path) -> tuple[Values, Any]:
    """All images of a dataset or loader, in a file of `folder`, and their labels."""
    from tqdm.auto import tqdm

    path = folder / f"{len(list(folder.iterdir()))}.images"
    loader = _loader(data, where)
    labels: list[Any] = []
    form: tuple[np.dtype[Any], tuple[int, ...]] | None = None
    n = 0
    with path.open("wb") as file, _generators_kept(loader):
        total = operator.length_hint(loader) or None
        for images, of_batch in tqdm(_batches(loader, where), f"reading {where}", total, delay=2, leave=False):
            values = np.ascontiguousarray(as_array(images))
            if not values.size or values.ndim < 2:
                raise ValueError(f"{where}: a batch of images is {values.shape}; it must be (n, ...)")
            if form not in (None, (values.dtype, values.shape[1:])):
                assert form is not None
                raise ValueError(
                    f"{where}: image {n} is {values.dtype} {values.shape[1:]}, others are {form[0]} {form[1]}: bring "
                    "them to the form that the network reads"
                )
            form = values.dtype, values.shape[1:]
            _check(values, n, where)
            file.write(values.data)
            labels.append(of_batch)
            n += len(values)
    if form is None:
        raise ValueError(f"{where} holds no images")
    with_labels = [of_batch is not None for of_batch in labels]
    found = np.concatenate([np.asarray(as_array(each)) for each in labels]) if all(with_labels) else None
    return np.memmap(path, form[0], "r", shape=(n, *form[1])), found


def _loader(data: Any, where: str) -> Any:
    """What gives batches: the loader, or one that reads a dataset in its order."""
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=BATCH)
    if isinstance(data, DataLoader):
        return data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, dict | str):
        return DataLoader(data, batch_size=BATCH)
    if hasattr(data, "__iter__") and not isinstance(data, dict | str):
        return data
    raise ValueError(
        f"{where} is a {type(data).__name__}: give a torch dataset or loader of (image, label), a tensor (N, ...) of "
        "images, or (images, labels)"
    )


def _batches(loader: Any, where: str) -> Iterator[tuple[Any, Any]]:
    try:
        for batch in loader:
            if isinstance(batch, Tensor | np.ndarray):
                yield batch, None
            elif isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor | np.ndarray):
                yield batch[0], batch[1] if len(batch) > 1 else None
            else:
                keys = f" of {', '.join(map(str, batch))}"[:100] if isinstance(batch, dict) else ""
                raise ValueError(f"{where}: a batch is a {type(batch).__name__}{keys}, not (images, labels)")
    except (ValueError, OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # of the caller's code, and of whatever it reads with
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        remedy = "; its transform must end in tensors of one size, as the network reads them"
        raise ValueError(f"{where} cannot be read: {why}{remedy if isinstance(error, TypeError) else ''}") from error


@contextlib.contextmanager
def _generators_kept(loader: Any) -> Iterator[None]:
    """Generators of a caller's loader, which an iteration draws from, are afterwards as they were."""
    samplers = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
    owners = (loader, *samplers, getattr(samplers[1], "sampler", None))
    there = {id(g): g for owner in owners if isinstance(g := getattr(owner, "generator", None), torch.Generator)}
    states = [(generator, generator.get_state()) for generator in there.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _check(values: Values, start: int, where: str) -> None:
    """ValueError where images are no numbers, or one of them holds NaN or infinity."""
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{where}: images are {values.dtype}; floating-point or whole numbers are read")
    if values.dtype.kind == "f" and not (finite := np.isfinite(values.reshape(len(values), -1)).all(axis=1)).all():
        raise ValueError(f"{where}: image {start + int(finite.argmin())} (from 0) holds NaN or infinity")


def _labels(labels: Any, n: int, classes: tuple[str, ...], where: str) -> tuple[Labels, tuple[str, ...]]:
    """As `datasets.labels` reads them; ValueError where they cannot be right."""
    import pyarrow

    if labels is None:
        return np.full(n, -1), ()
    values = as_array(labels)
    if values.shape != (n,):
        raise ValueError(f"{where}: labels are {values.shape}; it must be ({n},), one for each image")
    try:
        found, names, fault = labelling.from_column([pyarrow.array(values)], classes)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{where}: labels: {' '.join(str(error).split())[:200]}") from None
    if fault:
        raise ValueError(f"{where}: labels: {fault}")
    return found, names


def _source(data: Any) -> Any:
    """What a loader, or a part of a dataset, reads from: the first that has a transform, or has nothing below it."""
    while not hasattr(data, "transform") and hasattr(data, "dataset"):
        data = data.dataset
    return data


def _classes(source: Any) -> tuple[str, ...]:
    """The names of a dataset's classes, where it has them as torchvision's have."""
    names = getattr(source, "classes", None)
    told = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if told and names is not None and len(set(names)) == len(names) else ()


def _transform(source: Any) -> str:
    transform = getattr(_source(source), "transform", None)
    return "" if transform is None else " ".join(str(getattr(transform, "__name__", transform)).split())[:300]
