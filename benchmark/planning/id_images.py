"""The ID set of a run: what it learns from, calibrates on and is tested on, and which of its images stand elsewhere."""

from dataclasses import dataclass
from functools import cached_property

from benchmark.jobs.inputs import Selection, calibrated
from benchmark.planning.options import Options
from benchmark.planning.overlaps import Overlaps
from benchmark.planning.suite import Suite
from datasets.labelled import labelled
from datasets.sources import ImageSet, find


class BadData(Exception):
    """The ID set's files cannot be right: there is nothing to run on."""


@dataclass(frozen=True, eq=False)
class IDImages:
    """The images of the ID set that a run works on. `size`: of a test image, in pixels."""

    train: Selection
    test: Selection
    size: int
    overlaps: Overlaps

    @cached_property
    def selections(self) -> tuple[Selection, ...]:
        """All parts: to fit on, to test on, and to calibrate on where that is a part of its own."""
        return (self.train, self.test, *([self.train.calibration] if self.train.calibration else []))


def look_up(suite: Suite, options: Options, *, download: bool) -> IDImages:
    """The ID set of a suite. Missing where it is absent, BadData where its files cannot be right."""
    limit_train = options.limit_train
    if limit_train is None and options.quick:
        limit_train = suite.quick.limit_train
    try:
        train, test = (_split(suite, name, options, download) for name in ("train", "test"))
        fitted = Selection(train, limit_train, balanced=True)
        if suite.calibrate:
            fitted = calibrated(fitted)
        tested = Selection(test, options.limit)
        found = IDImages(
            fitted,
            tested,
            suite.id.size or min(test.read([0])[0].shape[:2]),
            Overlaps(fitted, tested),
        )
    except (ValueError, OSError) as error:
        raise BadData(str(error)) from None
    test.notes = (*test.notes, *found.overlaps.notes(tested, "training"))
    return found


def _split(suite: Suite, split: str, options: Options, download: bool) -> ImageSet:
    """A split of the ID set: its labels must be right, and images without one are left out."""
    images = find(suite.id.set, split, options.data, download=download)
    if images.fault:
        raise ValueError(f"{images.name} ({split}): {images.fault}")
    return labelled(images)
