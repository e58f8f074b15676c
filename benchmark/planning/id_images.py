"""The ID set of a run: what it learns from, calibrates on and is tested on, and which of its images stand elsewhere."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmark.jobs.inputs import Selection, calibrated
from benchmark.planning import classes, counting
from benchmark.planning.forms import Forms
from benchmark.planning.options import Options
from benchmark.planning.overlaps import Overlaps
from benchmark.planning.suite import Suite, UsageError
from datasets.labelled import labelled
from datasets.layout import OF_SPLITS
from datasets.part import Part
from datasets.sources import ImageSet, Missing, has_calibration, is_path


class BadData(Exception):
    """The ID set's files cannot be right: there is nothing to run on."""


@dataclass(frozen=True, eq=False)
class IDImages:
    """The images of the ID set that a run works on. `size`: of a test image, in pixels; 0 where there are features.

    `lacking`: how to get the training images, where none is here.
    """

    train: Selection
    test: Selection
    size: int
    overlaps: Overlaps
    forms: Forms
    lacking: str = ""

    @cached_property
    def selections(self) -> tuple[Selection, ...]:
        """All parts: to fit on, to test on, and to calibrate on where that is a part of its own."""
        return (self.train, self.test, *([self.train.calibration] if self.train.calibration else []))

    @property
    def sides(self) -> dict[str, ImageSet]:
        """The sets that these are parts of, by their split."""
        return {part.images.split: part.images for part in self.selections}


def look_up(suite: Suite, options: Options, *, download: bool) -> IDImages:
    """The ID set of a suite. Missing where it is absent, BadData where its files cannot be right."""
    limit_train = options.limit_train
    if limit_train is None and options.quick:
        limit_train = suite.quick.limit_train
    try:
        test = _split(suite, "test", options, download)
        train, lacking = _train(suite, test, options, download)
        if (suite.given or is_path(suite.id.set)) and train.content() == test.content():
            of = suite.id.name or suite.id.set
            raise ValueError(f"{of} has no test split of its own (a folder's is id/test): it is the training split")
        shard = options.shard
        fitted = Selection(train, limit_train, balanced=True, shard=shard)
        tested = Selection(test, options.limit, shard=shard)
        own = suite.id.set == suite.protocol or (not suite.given and has_calibration(suite.id.set))
        if suite.calibrate and own:
            fitted = replace(
                fitted, calibration=Selection(_split(suite, "calibration", options, download), shard=shard)
            )
        elif suite.calibrate and not lacking:
            fitted = calibrated(fitted)
        forms = Forms(suite, train)
        size = suite.id.size or 0
        if train.features is None:
            size = size or min(test.read([0])[0].shape[:2])
        elif options.resolution == "id":
            raise UsageError(f"--resolution id: {suite.id.set} holds features, no images")
        found = IDImages(fitted, tested, size, Overlaps(fitted, tested), forms, lacking)
        for images in found.sides.values():
            forms.check(images)
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        raise BadData(str(error)) from None
    for part in found.selections[1:]:
        if part.images is not train:
            part.images.notes = (*part.images.notes, *found.overlaps.notes(part, "training"))
    test.notes = (*test.notes, *classes.differing(fitted, tested))
    return found


def _train(suite: Suite, test: ImageSet, options: Options, download: bool) -> tuple[ImageSet, str]:
    """The training split; of a set of the catalogue whose test split alone is here no image, and how to get them."""
    try:
        return _split(suite, "train", options, download), ""
    except Missing as missing:
        if suite.given or is_path(suite.id.set):
            raise
        train = Part(test, np.arange(0), "", split="train")
        train.notes = ("none of them is here",)
        return train, str(missing)


def _split(suite: Suite, split: str, options: Options, download: bool) -> ImageSet:
    """A split of the ID set: its labels must be right, and images without one are left out."""
    images = counting.images(suite, suite.id.set, split, options, download=download)
    if images.fault:
        raise ValueError(f"{images.name} ({split}): {images.fault}")
    images.notes = tuple(note for note in images.notes if not note.startswith(OF_SPLITS))  # each has its place here
    if suite.id.name is not None:
        images.name = images.title = suite.id.name
    return labelled(images)
