"""From a suite to jobs with keys: what would be done, as data. Nothing is encoded, fitted or scored in here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import methods
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import TrainEncoder, encodes
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.illustrating import Illustrate
from benchmark.jobs.inputs import Selection, calibrated
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from benchmark.jobs.timing import MeasureSpeed
from benchmark.planning import departures
from benchmark.planning import suite as suites
from benchmark.planning.encoders import EncoderLookup
from benchmark.planning.options import Options, results_folder
from benchmark.planning.suite import OODSet, RowSpec, Suite, UsageError
from benchmark.store.entries import Store
from datasets import catalogue
from datasets.altered import AlteredSet
from datasets.sources import ImageSet, Missing, find, is_path
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
        self.suite = self._changed(suite)
        limit_train = options.limit_train
        if limit_train is None and options.quick:
            limit_train = suite.quick.limit_train
        where = suite.id.set
        try:
            train = find(where, "train", options.data, download=download)
            test = find(where, "test", options.data, download=download)
        except ValueError as error:
            raise BadData(str(error)) from None
        self.train = Selection(train, limit_train, balanced=True)
        if self.suite.calibrate:
            self.train = calibrated(self.train)
        self.test = Selection(test, options.limit)
        self.size = self.suite.id.size or min(self.test.images.read([0])[0].shape[:2])
        if options.resolution == "id":
            self.footnotes.append(
                f"--resolution id: every image was first brought to {self.size} x {self.size} pixels "
                "(short side, centre crop, antialiased bicubic)."
            )
        if options.limit is not None:
            self.footnotes.append(f"--limit {options.limit}: at most {options.limit:,} test images of each set.")
        self.rows = suites.choose_rows(self.suite, list(options.methods)) if options.methods else self.suite.rows
        self.columns = [column for spec in self._ood() if (column := self._column(spec)) is not None]
        names = [column.name for column in self.columns]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two OOD sets are called {name!r}: give one of the folders another name")
        wanted = {row.encoder for row in self.rows}
        self.encoders = EncoderLookup(self.suite, options, self.train, self.size, wanted, download=download)
        self.absent += self.encoders.absent

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
            tuple(self.absent),
            tuple(self.broken),
            tuple(self.footnotes),
        )

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
            images = find(spec.set, "test", options.data, download=self.download and wanted)
        except ValueError as error:
            if suites.is_path(spec.set) and not Path(spec.set).is_dir():
                raise UsageError(f"--ood: {error}") from None
            if wanted:
                self.broken.append((spec.set, str(error)))
            return None
        except Missing as missing:
            stands_in_for = spec.set if suites.is_path(spec.set) else catalogue.get(spec.set).title
            if wanted:
                self.absent.append((stands_in_for, str(missing)))
            if spec.stand_in is None:
                return None
            try:
                images = find(spec.stand_in, "test", options.data)
            except Missing:
                return None
        if images.fingerprint == self.test.images.fingerprint:
            raise UsageError(f"--ood {spec.set}: this is the ID test set itself")
        selection = Selection(images, options.limit)
        return Column(spec, images.name, images.title, selection, stands_in_for, wanted)

    def _row(self, spec: RowSpec, method: Method, seed: int, random: bool) -> Row:
        """The jobs of one row with one seed; `random`: whether another seed would give other scores."""
        use = self.encoders[spec.encoder]
        use = use if isinstance(use, str) else self.encoders.of_seed(use, seed)
        settings = {name: getattr(method, name) for name in hyperparameters(method)}
        of_encoder = [] if isinstance(use, str) else departures.of_encoder(use)
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
            "footnotes": [*self.footnotes, *departures.of_method(spec.method, spec.preset, method), *of_encoder],
        }
        selected = spec in self.rows
        lacking = set(method.reads) - {"labels"} - suites.offered(self.suite, spec.encoder)
        if lacking or isinstance(use, str):
            offers = f"{spec.method} reads {', '.join(sorted(lacking))}, which {spec.encoder} does not offer"
            return Row(spec, about, use if isinstance(use, str) else offers, selected, {}, None, ())
        fit = None
        if type(method).fit is not Method.fit:
            fit = FitMethod(spec.method, settings, seed, encodes(use, self.train))

        def score(images: Selection) -> Score:
            return Score(spec.method, settings, seed, fit, encodes(use, images))

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

    def _pictures(self, scored: Score, about: Mapping[str, Any]) -> tuple[Illustrate, ...]:
        """The figures of a row's trainings that no row before it has."""
        use = scored.images[-1].use
        found = []
        if use.trained_here:
            found.append(Illustrate(self.folder, use.name, f"training of {use.title}", TrainEncoder(use)))
        if scored.fit is not None:
            heading = f"{about['title']}, {use.title}"
            found.append(Illustrate(self.folder, about["row"], heading, scored.fit, scored))
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
