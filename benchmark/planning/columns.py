"""The columns of a table: the OOD sets that a suite or `--ood` names, looked up, and each under a name of its own."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.jobs.inputs import Selection
from benchmark.planning import counting
from benchmark.planning.id_images import IDImages
from benchmark.planning.options import Options
from benchmark.planning.parts import OODSet
from benchmark.planning.suite import Suite, UsageError
from datasets import catalogue
from datasets.altered import AlteredSet
from datasets.sources import ImageSet, Missing, is_path
from datasets.walking import printable


@dataclass(frozen=True)
class Column:
    """An OOD set of the table, and its images."""

    spec: OODSet
    name: str
    title: str
    images: Selection
    stands_in_for: str | None
    selected: bool

    @property
    def about(self) -> dict[str, Any]:
        """What a record says of its OOD set."""
        return {**about_images(self.images), "group": self.spec.group, "stands_in_for": self.stands_in_for}


class ColumnLookup:
    """The OOD sets of a run. UsageError for names that do not exist."""

    def __init__(self, suite: Suite, options: Options, known: IDImages, *, download: bool) -> None:
        self.absent: list[tuple[str, str]] = []
        """Sets that are not there, and how to get them."""
        self.broken: list[tuple[str, str]] = []
        """Sets whose files cannot be right, and why."""
        self._suite, self._options, self._id, self._download = suite, options, known, download
        self.columns = self._named_apart([column for spec in self._specs() if (column := self._column(spec))])

    def _specs(self) -> Iterator[OODSet]:
        """The suite's OOD sets, and those that --ood names beside them."""
        yield from self._suite.ood
        folders: set[str] = set()
        for name in self._options.ood:
            if not any(name in spec.names for spec in self._suite.ood):
                if is_path(name):
                    folder = os.path.realpath(os.path.expanduser(name))
                    if folder in folders:  # which would count twice in the mean
                        continue
                    folders.add(folder)
                else:
                    try:
                        catalogue.get(name)
                    except ValueError as error:
                        raise UsageError(f"--ood: {error}") from None
                yield OODSet(set=name)

    def _column(self, spec: OODSet) -> Column | None:
        """An OOD set that is there, or what stands in for it; else None, and it is noted as absent."""
        options, test = self._options, self._id.test.images
        wanted = not options.ood or not spec.names.isdisjoint(options.ood)
        stands_in_for = None
        if spec.group == "control":
            if test.features is not None:
                raise UsageError(f"ood: {spec.set} alters images, and the ID set holds features")
            images: ImageSet = AlteredSet(test, spec.set)
            return Column(
                spec, images.name, images.title, Selection(images, options.limit, shard=options.shard), None, wanted
            )
        try:
            found = self._looked_up(spec.set, wanted, self._download and wanted)
        except Missing as missing:
            stands_in_for = spec.set if is_path(spec.set) else catalogue.get(spec.set).title
            if wanted:
                self.absent.append((stands_in_for, str(missing)))
            if spec.stand_in is None:
                return None
            try:
                found = self._looked_up(spec.stand_in, wanted, download=False)
            except Missing as gone:
                if wanted and is_path(spec.stand_in):
                    self.absent[-1] = (stands_in_for, f"{missing}; nor is its stand-in: {gone}")
                return None
        if found is None:
            return None
        if found.fingerprint == test.fingerprint:
            raise UsageError(f"--ood {spec.set}: this is the ID test set itself")
        if spec.name is not None:
            found.name = found.title = spec.name
        selection = Selection(found, options.limit, shard=options.shard)
        found.notes = (*found.notes, *self._id.overlaps.notes(selection, "test", "training"))
        return Column(spec, found.name, found.title, selection, stands_in_for, wanted)

    def _looked_up(self, name: str, wanted: bool, download: bool) -> ImageSet | None:
        """An OOD set; None where its files cannot be read or cannot be right, which stops it alone and is told."""
        given = (name, "test") in self._suite.given
        if not given and is_path(name) and not os.path.exists(os.path.expanduser(name)):
            if name in self._options.ood:
                raise UsageError(f"--ood: there is no folder {printable(name)}")
            raise Missing(printable(name), "there is no such folder")
        try:
            images = counting.images(self._suite, name, "test", self._options, download=download)
            self._id.forms.check(images)
            if images.features is None:
                images.read([0])
            assert len(images.digests) == len(images)  # every file is read here, once
        except (ValueError, OSError) as error:
            if wanted:
                self.broken.append((printable(name), str(error).removeprefix(name).lstrip(": ")))
            return None
        return images

    def _named_apart(self, columns: list[Column]) -> list[Column]:
        """The columns under names of their own: of two sets of one name the later folder gets its parent's before."""
        named = [(self._suite.id.set, [self._id.train, self._id.test])]
        named += [((c.spec.stand_in if c.stands_in_for else None) or c.spec.set, [c.images]) for c in columns]
        taken: set[str] = set()
        for where, selections in sorted(named, key=lambda each: is_path(each[0])):
            name, parts = selections[0].images.name, Path(where).resolve().parts if is_path(where) else ()
            depth = 1
            while name in taken and depth < len(parts):
                depth += 1
                name = "/".join(parts[-depth:])
            if name in taken:
                raise UsageError(f"two sets are called {name!r}: one of them is the other, or needs another name")
            taken.add(name)
            if depth > 1:
                for selection in selections:
                    selection.images.name = selection.images.title = name
        return [replace(column, name=column.images.images.name, title=column.images.images.title) for column in columns]


def about_images(images: Selection) -> dict[str, Any]:
    """What a record says of a set of images."""
    return {
        "name": images.images.name,
        "title": images.images.title,
        "split": images.images.split,
        "n": len(images.rows),
        "of": len(images.images),
        "notes": [*images.images.notes, *_held_out(images.calibration)],
    }


def _held_out(calibration: Selection | None) -> list[str]:
    if calibration is None:
        return []
    if calibration.part == "all":
        notes = "; ".join(calibration.images.notes)
        return [f"{len(calibration.rows):,} others of a split of their own calibrate{f' ({notes})' if notes else ''}"]
    return [f"{len(calibration.rows):,} others are kept out of every training, to calibrate on"]
