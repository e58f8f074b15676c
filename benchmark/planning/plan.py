"""From a suite to jobs with keys: what would be done, as data. Nothing is encoded, fitted or scored in here."""

import os
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import methods
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, TrainEncoder, encodes
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.illustrating import Illustrate
from benchmark.jobs.inputs import EncoderUse, Selection, calibrated
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from benchmark.jobs.timing import MeasureSpeed
from benchmark.planning import choosing, classes, departures
from benchmark.planning import suite as suites
from benchmark.planning.encoders import EncoderLookup
from benchmark.planning.options import Options, results_folder
from benchmark.planning.overlaps import Overlaps
from benchmark.planning.suite import OODSet, RowSpec, Suite, UsageError
from benchmark.records import fitting
from benchmark.store.entries import Store
from datasets import catalogue
from datasets.altered import AlteredSet
from datasets.labelled import labelled
from datasets.sources import ImageSet, Missing, find, is_path
from datasets.walking import printable
from methods.base import Method, hyperparameters


class BadData(Exception):
    """The ID set's files cannot be right: there is nothing to run on."""


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
        return {
            **_about_images(self.images),
            "group": self.spec.group,
            "stands_in_for": self.stands_in_for,
        }


@dataclass(frozen=True)
class Row:
    """One row with one seed, and what it takes. `reason`: why it cannot run, where it cannot; then no jobs."""

    spec: RowSpec
    about: Mapping[str, Any]  # what the records of the row say of it
    reason: str
    selected: bool
    measures: Mapping[str, Measure]  # by the name of the OOD set
    speed: MeasureSpeed | None
    pictures: tuple[Illustrate, ...]

    @property
    def present(self) -> Iterator[tuple[Hashable, Any]]:
        """What there is now of all that its records depend on, as `records.fitting` names it."""
        for measure in self.measures.values():
            yield from fitting.parts({**measure.about, "depends": measure.depends})


@dataclass(frozen=True)
class Plan:
    """The suite as jobs. `rows` and `columns` are the whole suite; what this run is to do is selected."""

    suite: Suite
    folder: Path
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    absent: tuple[tuple[str, str], ...]  # sets and encoders that are not there, and how to get them
    broken: tuple[tuple[str, str], ...]  # sets whose files cannot be right, and why
    footnotes: tuple[str, ...]

    def targets(self) -> Iterator[tuple[Row, Measure | MeasureSpeed | Illustrate]]:
        """What this run is to measure, row by row."""
        for row in self.rows:
            if row.selected:
                for column in self.columns:
                    if column.selected and column.name in row.measures:
                        yield row, row.measures[column.name]
                for pictures in row.pictures:
                    yield row, pictures
                if row.speed is not None:
                    yield row, row.speed

    def jobs(self) -> list[Job]:
        """Every job of this run once, each after what it needs."""
        ordered: dict[str, Job] = {}

        def add(job: Job) -> None:
            if job.key not in ordered:
                for before in job.needs:
                    add(before)
                ordered[job.key] = job

        for _, target in self.targets():
            add(target)
        return list(ordered.values())

    def describe(self, store: Store) -> str:
        """The jobs as text: kind, key, whether it is done, what it is."""
        jobs = self.jobs()
        done = [job.done(store) for job in jobs]
        lines = [
            f"{job.kind:8} {job.key[:12]}  {'done' if ready else 'to do':6} {job.title}"
            for job, ready in zip(jobs, done, strict=True)
        ]
        lines += [f"skipped  {row.spec.label}: {row.reason}" for row in self.rows if row.selected and row.reason]
        lines += [f"absent   {title}: {how}" for title, how in self.absent]
        lines.append(f"{len(jobs)} jobs, {sum(done)} done; results in {self.folder}")
        return "\n".join(lines)


def make(suite: Suite, options: Options, *, download: bool) -> Plan:
    """The plan of a suite. `download`: absent sets and weights may be fetched (not so for `--plan`, `--redraw`).

    UsageError for names that do not exist; Missing or BadData where the ID set is absent or broken.
    """
    return _Planner(suite, options, download).plan()


class _Planner:
    """Looks up what a suite names, and ties the jobs together."""

    def __init__(self, suite: Suite, options: Options, download: bool) -> None:
        self.options, self.download = options, download
        self.folder = results_folder(suite.name, options)
        self.footnotes: list[str] = []
        self.absent: list[tuple[str, str]] = []
        self.broken: list[tuple[str, str]] = []
        self._illustrated: set[str] = set()
        self._passes: dict[tuple[EncoderUse, Selection], tuple[Encode, ...]] = {}
        self.suite = self._changed(suite)
        limit_train = options.limit_train
        if limit_train is None and options.quick:
            limit_train = suite.quick.limit_train
        try:
            train, test = (self._id_set(split) for split in ("train", "test"))
            self.train = Selection(train, limit_train, balanced=True)
            if self.suite.calibrate:
                self.train = calibrated(self.train)
            self.test = Selection(test, options.limit)
            self.size = self.suite.id.size or min(test.read([0])[0].shape[:2])
            self.overlaps = Overlaps(self.train, self.test)
        except (ValueError, OSError) as error:
            raise BadData(str(error)) from None
        told = (*self.overlaps.notes(self.test, "training"), *classes.differing(self.train, self.test))
        test.notes = (*test.notes, *told)
        if options.resolution == "id":
            self.footnotes.append(
                f"--resolution id: every image was first brought to {self.size} x {self.size} pixels "
                "(short side, centre crop, antialiased bicubic)."
            )
        if options.limit is not None:
            self.footnotes.append(f"--limit {options.limit}: at most {options.limit:,} test images of each set.")
        self.rows = choosing.choose_rows(self.suite, list(options.methods)) if options.methods else self.suite.rows
        self._chosen = {row.label for row in self.rows}
        self._offered = {name: choosing.offered(self.suite, name) for name in self.suite.encoders}
        self.columns = [column for spec in self._ood() if (column := self._column(spec)) is not None]
        self.columns = self._named_apart()
        wanted = {row.encoder for row in self.rows}
        self.encoders = EncoderLookup(
            self.suite, options, self.train, self.test.images, self.size, wanted, download=download
        )
        self.absent += self.encoders.absent
        self.broken += self.encoders.broken

    def _id_set(self, split: str) -> ImageSet:
        """A split of the ID set: its labels must be right, and images without one are left out."""
        images = find(self.suite.id.set, split, self.options.data, download=self.download)
        if images.fault:
            raise ValueError(f"{images.name} ({split}): {images.fault}")
        return labelled(images)

    def _changed(self, suite: Suite) -> Suite:
        """The suite as --pretrained and --quick change it, with a footnote for each."""
        options = self.options
        if options.pretrained is not None:
            before = {spec.settings["model"] for spec in suite.encoders.values() if spec.kind == "pretrained"}
            suite = suites.with_pretrained(suite, options.pretrained)
            self.footnotes.append(
                f"--pretrained: {options.pretrained}, with its own feature maps, stands in for "
                f"{', '.join(sorted(before))}: not comparable with the published numbers."
            )
        if options.quick:
            suite = suites.quickened(suite)
            self.footnotes.append("--quick: short trainings on few images: not comparable with a whole run.")
        return suite

    def plan(self) -> Plan:
        specs = {row.label: row for row in (*self.suite.rows, *self.rows)}
        rows = []
        for spec in specs.values():
            method = methods.create(spec.method, preset=spec.preset, **spec.settings)
            seeds = self.options.seeds or self.suite.seeds
            use = self.encoders[spec.encoder]
            random = method.random_fit or (not isinstance(use, str) and use.random)
            rows += [self._row(spec, method, seed, random) for seed in (seeds if random else seeds[:1])]
        return Plan(
            self.suite,
            self.folder,
            tuple(rows),
            tuple(self.columns),
            tuple((what, self._portable(how)) for what, how in self.absent),
            tuple(self.broken),
            tuple(self.footnotes),
        )

    def _portable(self, words: str) -> str:
        """Without the folders of this machine: what is told also stands in tables that are committed."""
        for path, name in ((self.options.data, "DATA"), (self.options.weights, "WEIGHTS")):
            words = re.sub(rf"(?<![\w./-]){re.escape(str(path))}(?![\w.-])", name, words)
        return words

    def _ood(self) -> list[OODSet]:
        """The suite's OOD sets, and those that --ood names beside them."""
        specs = list(self.suite.ood)
        for name in self.options.ood:
            if not any(name in (spec.set, spec.stand_in) for spec in specs):
                if not is_path(name):
                    try:
                        catalogue.get(name)
                    except ValueError as error:
                        raise UsageError(f"--ood: {error}") from None
                specs.append(OODSet(set=name))
        return specs

    def _column(self, spec: OODSet) -> Column | None:
        """An OOD set that is there, or what stands in for it; else None, and it is noted as absent."""
        options = self.options
        wanted = not options.ood or spec.set in options.ood or spec.stand_in in options.ood
        stands_in_for = None
        if spec.group == "control":
            images: ImageSet = AlteredSet(self.test.images, spec.set)
            return Column(spec, images.name, images.title, Selection(images, options.limit), None, wanted)
        try:
            found = self._looked_up(spec.set, wanted, self.download and wanted)
        except Missing as missing:
            stands_in_for = spec.set if suites.is_path(spec.set) else catalogue.get(spec.set).title
            if wanted:
                self.absent.append((stands_in_for, str(missing)))
            if spec.stand_in is None:
                return None
            try:
                found = self._looked_up(spec.stand_in, wanted, download=False)
            except Missing:
                return None
        if found is None:
            return None
        if found.fingerprint == self.test.images.fingerprint:
            raise UsageError(f"--ood {spec.set}: this is the ID test set itself")
        selection = Selection(found, options.limit)
        found.notes = (*found.notes, *self.overlaps.notes(selection, "test", "training"))
        return Column(spec, found.name, found.title, selection, stands_in_for, wanted)

    def _looked_up(self, name: str, wanted: bool, download: bool) -> ImageSet | None:
        """An OOD set; None where its files cannot be read or cannot be right, which stops it alone and is told."""
        if is_path(name) and not os.path.isdir(os.path.expanduser(name)):
            if name in self.options.ood:
                raise UsageError(f"--ood: there is no folder {printable(name)}")
            raise Missing(printable(name), "there is no such folder")
        try:
            images = find(name, "test", self.options.data, download=download)
            images.read([0])
            assert len(images.digests) == len(images)  # every file is read here, once
        except (ValueError, OSError) as error:
            if wanted:
                self.broken.append((printable(name), str(error)))
            return None
        return images

    def _named_apart(self) -> list[Column]:
        """The columns under names of their own: of two sets of one name the later folder gets its parent's before."""
        named = [(self.suite.id.set, [self.train, self.test])]
        named += [((c.spec.stand_in if c.stands_in_for else None) or c.spec.set, [c.images]) for c in self.columns]
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
        return [
            replace(column, name=column.images.images.name, title=column.images.images.title) for column in self.columns
        ]

    def _row(self, spec: RowSpec, method: Method, seed: int, random: bool) -> Row:
        """The jobs of one row with one seed; `random`: whether another seed would give other scores."""
        use = self.encoders[spec.encoder]
        use = use if isinstance(use, str) else self.encoders.of_seed(use, seed)
        settings = {name: getattr(method, name) for name in hyperparameters(method)}
        of_encoder = [] if isinstance(use, str) else [*departures.of_encoder(use), *([use.note] if use.note else [])]
        of_method = departures.of_method(
            spec.method, spec.preset, method, calibrated=self.train.calibration is not None
        )
        about = {
            "suite": self.suite.name,
            "row": spec.label,
            "title": spec.title or _row_title(spec, method),
            "method": spec.method,
            "encoder": spec.encoder,
            "encoder_title": spec.encoder if isinstance(use, str) else use.title,
            "hyperparameters": settings,
            "seed": seed,
            "random_fit": random,
            "resolution": self.options.resolution,
            "id": _about_images(self.test),
            "train": _about_images(self.train),
            "footnotes": [*self.footnotes, *of_method, *of_encoder],
        }
        selected = spec.label in self._chosen
        no_head = "" if isinstance(use, str) else use.no_head
        offered = self._offered[spec.encoder]
        lacking = set(method.reads) - {"labels"} - (offered - {"logits", "head"} if no_head else offered)
        if lacking or isinstance(use, str):
            offers = f"{spec.method} reads {', '.join(sorted(lacking))}, which {spec.encoder} does not offer"
            offers += f": {no_head}" if no_head else ""
            reason = self._portable(use if isinstance(use, str) else offers)
            return Row(spec, about, reason, selected, {}, None, ())
        fit = None
        if type(method).fit is not Method.fit:
            fit = FitMethod(spec.method, settings, seed, self._encodes(use, self.train))

        def score(images: Selection) -> Score:
            return Score(spec.method, settings, seed, fit, self._encodes(use, images))

        scored = score(self.test)
        measures = {
            column.name: Measure(
                self.folder,
                {**about, "ood": column.about},
                scored,
                score(column.images),
                None if self.train.calibration is None else score(self.train.calibration),
            )
            for column in self.columns
        }
        if seed != (self.options.seeds or self.suite.seeds)[0]:
            return Row(spec, about, "", selected, measures, None, ())
        speed = MeasureSpeed(self.folder, spec.label, scored, self.options.device, self.options.batch_size)
        return Row(
            spec, about, "", selected, measures, speed if self.options.speed else None, self._pictures(scored, about)
        )

    def _encodes(self, use: EncoderUse, images: Selection) -> tuple[Encode, ...]:
        """The same passes for every row, so that their keys are computed once."""
        if (use, images) not in self._passes:
            of_id = images in (self.train, self.test, self.train.calibration)
            self._passes[use, images] = encodes(use, use.view(images) if of_id else images)
        return self._passes[use, images]

    def _pictures(self, scored: Score, about: Mapping[str, Any]) -> tuple[Illustrate, ...]:
        """The figures of a row's trainings that no row before it has."""
        use = scored.images[-1].use
        found = []
        if use.trained_here:
            heading = f"training of {use.title}"
            found.append(Illustrate(self.folder, use.name, heading, TrainEncoder(use), pdf=self.options.pdf))
        if scored.fit is not None:
            heading = f"{about['title']}, {use.title}"
            found.append(Illustrate(self.folder, about["row"], heading, scored.fit, scored, self.options.pdf))
        new = tuple(job for job in found if job.training.key not in self._illustrated)
        self._illustrated |= {job.training.key for job in new}
        return new


def _row_title(spec: RowSpec, method: Method) -> str:
    title = method.title or spec.method
    return f"{title} ({spec.name})" if spec.name not in (None, spec.method) else title


def _about_images(images: Selection) -> dict[str, Any]:
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
    return [f"{len(calibration.rows):,} others are kept out of every training, to calibrate on"]
