"""Classes are matched by name: which number of a set, and which output of a head, stand for the same class."""

from dataclasses import dataclass

import numpy as np

from benchmark.jobs.inputs import Selection, catalogued
from datasets import catalogue
from datasets.sources import ImageSet
from methods.encoders.base import HeadClasses

_SHOWN = 10

Places = tuple[int, ...] | None  # of a set's classes in an order, -1 for those without images; None: they are in it


class Differ(ValueError):
    """Classes that cannot be matched, and why."""


@dataclass(frozen=True)
class Order:
    """The classes of a head or of a set, in the order of its numbers. `named`: else the numbers are their names."""

    names: tuple[str, ...]
    named: bool
    note: str = ""  # where the order is not known but assumed: as what

    @classmethod
    def of(cls, images: ImageSet) -> "Order":
        return cls(images.classes, images.named)


def of_head(head: HeadClasses, source: str, id_set: ImageSet, given: tuple[str, ...] | None) -> Order:
    """The order of a head's outputs: as its `source` (a file), the suite or the set that it was trained on says.

    A file that says nothing is taken to have that of the ID set, if it has as many classes. Differ where it has not.
    """
    if given is not None and head.names is not None and given != head.names:
        raise Differ(f"the suite names other classes than the header of {source}")
    names = given or head.names or _trained_on(head, id_set)
    if names is not None:
        return Order(names, True)
    if not id_set.named:
        return Order(tuple(map(str, range(head.count))), False)
    if head.count != len(id_set.classes):
        raise Differ(f"{source} does not name its {head.count} classes, and {id_set.title} has {len(id_set.classes)}")
    shown = id_set.classes if head.count <= _SHOWN else (*id_set.classes[:3], "...", id_set.classes[-1])
    note = f"{source} does not name its classes; taken as {id_set.title}'s in this order: {', '.join(shown)}"
    return Order(id_set.classes, True, note)


def _trained_on(head: HeadClasses, id_set: ImageSet) -> tuple[str, ...] | None:
    """The classes of the catalogue's set that a network was trained on; None where nothing is known of it."""
    name = None if head.trained_on is None else catalogued(head.trained_on)
    names = () if name is None else catalogue.get(name).class_names
    if len(names) == head.count:
        return names
    if name is not None and name != id_set.name:
        raise Differ(f"its {head.count} classes are those of {catalogue.get(name).title}, not of {id_set.title}")
    return None


def places(images: ImageSet, order: Order) -> Places:
    """The place of each of a set's classes in `order`; Differ where it has images of a class that is not there.

    Where one side has no names its integers are the names, and have to be 0..K-1 of the other side's K.
    """
    occurring = np.unique(images.labels[images.labels >= 0])
    if not len(occurring):
        return None
    where, count = f"{images.title} ({images.split})", len(order.names)
    if not images.named and images.split == "train" and occurring[0] > 0:
        raise Differ(f"the labels of {where} start at {occurring[0]}; count its classes from 0")
    if images.named == order.named or all(name.isdecimal() for name in (*images.classes, *order.names)):
        place = {name: number for number, name in enumerate(order.names)}
        more = [images.classes[label] for label in occurring if images.classes[label] not in place]
        if more:
            kinds = "classes that are" if len(more) > 1 else "class that is"
            raise Differ(f"{where} has {len(more)} {kinds} not among the {count}, the first is {more[0]!r}")
        found = tuple(place.get(name, -1) for name in images.classes)
    else:
        numbers = occurring if order.named else np.arange(len(images.classes))
        if numbers[-1] >= count or (len(numbers) < count and images.split == "train"):
            raise Differ(f"the classes of {where} are the numbers {numbers[0]} to {numbers[-1]}, not 0 to {count - 1}")
        found = tuple(range(len(images.classes)))
    return None if found == tuple(range(len(found))) else found


def places_or_none(images: ImageSet, order: Order) -> Places:
    """As `places`; a set whose classes cannot be matched has no labels."""
    try:
        return places(images, order)
    except Differ:
        return (-1,) * len(images.classes)


def differing(train: Selection, test: Selection) -> tuple[str, ...]:
    """What is told of an ID test set: labels that are not those of the training set, and classes that it lacks."""
    known, counts = np.unique(train.labels), np.bincount(test.labels[test.labels >= 0])
    if not len(counts) or (known < 0).all():
        return ()
    order = together(train.images, test.images)
    try:
        places(train.images, order)
    except Differ as error:
        return (f"its training labels are not used: {error}",)
    try:
        found = places(test.images, order) or range(len(order.names))
    except Differ as error:
        return (f"its labels cannot be matched to those of the ID training set, so there is no ID accuracy: {error}",)
    more = {order.names[found[label]]: int(counts[label]) for label in counts.nonzero()[0] if found[label] not in known}
    if not more:
        return ()
    named = [f"{name} ({count:,})" for name, count in list(more.items())[:_SHOWN]] + ["..."] * (len(more) > _SHOWN)
    kinds = f"{len(more)} class{'es' if len(more) > 1 else ''}"
    of = f"{sum(more.values()):,} of its {len(test.rows):,} images are of {kinds}"
    return (f"{of} that the ID training set lacks: {', '.join(named)}",)


def together(train: ImageSet, test: ImageSet) -> Order:
    """The classes of an ID set: those of its training images, and behind them what only test images have."""
    if not (train.labels >= 0).any():
        return Order.of(test)
    more: tuple[str, ...] = ()
    if train.named == test.named:
        occurring = (test.classes[label] for label in np.unique(test.labels[test.labels >= 0]))
        more = tuple(name for name in occurring if name not in train.classes)
    return Order((*train.classes, *more), train.named)
