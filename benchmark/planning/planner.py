"""From a suite to jobs with keys. Nothing is encoded, fitted or scored in here."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import methods
from benchmark.jobs.calibrating import Calibrate
from benchmark.jobs.encoding import Encode, TrainEncoder, encodes
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.illustrating import Illustrate
from benchmark.jobs.inputs import EncoderUse, Selection, calibrated, shifted
from benchmark.jobs.measuring import Measure
from benchmark.jobs.mistaking import ShowMistakes
from benchmark.jobs.scoring import Score
from benchmark.jobs.searching import Search
from benchmark.jobs.timing import MeasureSpeed
from benchmark.planning import changing, choosing, departures, id_images, sweeping
from benchmark.planning.columns import ColumnLookup, about_images
from benchmark.planning.encoders import EncoderLookup
from benchmark.planning.options import Options, results_folder
from benchmark.planning.parts import RowSpec
from benchmark.planning.plan import Plan, Row
from benchmark.planning.searched import Candidates, of_row, with_encoders
from benchmark.planning.suite import Suite, UsageError
from benchmark.records.frames import COVARIATE
from benchmark.store.entries import Store
from methods.base import Method, hyperparameters


def make(suite: Suite, options: Options, *, download: bool) -> Plan:
    """The plan of a suite, in which nothing is searched; as `Planner`."""
    return Planner(suite, options, download=download).plan()


class Planner:
    """Looks up what a suite names, and ties the jobs together: once, also where its plan is asked for again.

    `download`: absent sets and weights may be fetched (not so for `--plan`, `--redraw`).
    UsageError for names that do not exist; Missing or BadData where the ID set is absent or broken.
    """

    def __init__(self, suite: Suite, options: Options, *, download: bool) -> None:
        self.options = options
        self.folder = results_folder(suite.name, options, own=suite.own)
        self._illustrated: set[str] = set()
        self._passes: dict[tuple[EncoderUse, Selection], tuple[Encode, ...]] = {}
        self.suite, self.footnotes = changing.changed(suite, options)
        self.id = id_images.look_up(self.suite, options, download=download)
        self.train, self.test = self.id.train, self.id.test
        if options.resolution == "id":
            self.footnotes.append(
                f"--resolution id: every image was first brought to {self.id.size} x {self.id.size} pixels "
                "(short side, centre crop, antialiased bicubic)."
            )
        if options.limit is not None:
            self.footnotes.append(f"--limit {options.limit}: at most {options.limit:,} test images of each set.")
        self.rows = choosing.choose_rows(self.suite, list(options.methods)) if options.methods else self.suite.rows
        self.sweeps = sweeping.sweeps(self.suite, options.sweeps)
        self.rows = tuple({row.label: row for row in (*self.rows, *self.sweeps.rows)}.values())
        self._chosen = {row.label for row in self.rows}
        wanted = {row.encoder for row in self.rows}
        if options.searched is not None and not self.sweeps.rows:
            self.suite = with_encoders(self.suite, self.rows)
            wanted |= {one.encoder for row in self.rows for _, one in of_row(row, self.suite)}
        self._offered = {name: choosing.offered(self.suite, name) for name in self.suite.encoders}
        sets = ColumnLookup(self.suite, options, self.id, download=download)
        self.columns = sets.columns
        self.held_out = self.train if self.train.calibration else calibrated(self.train)  # to search on
        self.validation = None
        if options.searched is not None:
            look_up = partial(self.suite.images, data=options.data, download=download)
            if self.id.lacking and self.train.calibration is None:
                raise UsageError(f"--searched needs ID images to hold out of the training images: {self.id.lacking}")
            name, split = sweeping.validation_set(self.suite, options.searched)
            self.validation = sweeping.validation(name, split, look_up, options, self.id, self.columns)
        self.covariate = tuple(column for column in self.columns if column.spec.group == COVARIATE)
        shifts = {column.name: column.images.images for column in self.covariate}
        self.encoders = EncoderLookup(self.suite, options, self.id, wanted, download=download, covariate=shifts)
        self.absent = [*sets.absent, *self.encoders.absent]
        self.broken = [*sets.broken, *self.encoders.broken]

    def plan(self, store: Store | None = None, *, settle: bool = False) -> Plan:
        """The plan; with a store also the rows that are searched: with what was chosen, where all is measured for that.

        settle: what is not measured of a search cannot be, and the choice is made without it.
        """
        self._illustrated.clear()
        specs = {row.label: row for row in (*self.suite.rows, *self.rows)}
        rows = [row for spec in specs.values() for row in self._of_spec(spec)]
        for candidates in self.candidates:
            if store is None:
                break
            todo, best = candidates.todo(store), candidates.best(store)
            if todo and not settle:
                rows.append(Row(candidates.chosen(candidates.row), candidates.about, "", True, searches=todo))
            elif best is not None:
                rows += self._of_spec(*best)
        return Plan(
            self.suite,
            self.folder,
            tuple(rows),
            tuple(self.columns),
            tuple((what, self._portable(how)) for what, how in self.absent),
            tuple(self.broken),
            tuple(self.footnotes),
        )

    def _of_spec(self, spec: RowSpec, searched: Mapping[str, Any] | None = None) -> list[Row]:
        """A row with each of its seeds. searched: how its hyper-parameters were chosen, where they were."""
        method = methods.create(spec.method, preset=spec.preset, **spec.settings)
        return [self._row(spec, method, seed, random, searched) for seed, random in self._seeds(spec, method)]

    def _seeds(self, spec: RowSpec, method: Method) -> list[tuple[int, bool]]:
        """The seeds of a row, and whether another would give other scores."""
        seeds, use = self.options.seeds or self.suite.seeds, self.encoders[spec.encoder]
        random = method.random_fit or (not isinstance(use, str) and use.random)
        return [(seed, random) for seed in (seeds if random else seeds[:1])]

    @cached_property
    def candidates(self) -> list[Candidates]:
        """What is searched: every row of this run that has a grid and can run, where no sweep is asked for."""
        found = []
        for spec in self.rows if self.validation is not None and not self.sweeps.rows else ():
            method = methods.create(spec.method, preset=spec.preset, **spec.settings)
            rows = [self._row(spec, method, *seed) for seed in self._seeds(spec, method)]
            combinations = of_row(spec, self.suite)
            if combinations and not any(row.reason for row in rows):
                searches = []
                for choice, row in combinations:
                    one = methods.create(row.method, preset=row.preset, **row.settings)
                    of_seeds = [self._search(row, one, seed) for seed, _ in self._seeds(row, one)]
                    searches.append((choice, row, [search for search in of_seeds if search is not None]))
                found.append(Candidates(spec, rows[0].about, searches))
        if self.validation is not None and not self.sweeps.rows and not found:
            raise UsageError("--searched: no row of this run has a grid to search; --sweep ROW.k=1,5,50 names values")
        return found

    def _search(self, spec: RowSpec, method: Method, seed: int) -> Search | None:
        """How well a row with these hyper-parameters tells the held-out ID images from the validation set.

        None where the encoder has no file for this seed.
        """
        use = self.encoders.of_seed(spec.encoder, seed)
        if isinstance(use, str):
            return None
        settings = {name: getattr(method, name) for name in hyperparameters(method)}
        fit = self._fit(spec, method, seed, self._encodes(use, self.held_out))  # the table's may have seen these
        held_out = self.held_out.calibration
        assert held_out is not None
        assert self.validation is not None
        scores = (Score(spec.method, settings, seed, fit, self._encodes(use, s)) for s in (held_out, self.validation))
        return Search(*scores)

    def _fit(self, spec: RowSpec, method: Method, seed: int, train: tuple[Encode, ...]) -> FitMethod | None:
        if type(method).fit is Method.fit:
            return None
        settings = {name: getattr(method, name) for name in hyperparameters(method)}
        return FitMethod(spec.method, settings, seed, train, self._precision(None, method))

    @property
    def _resized(self) -> bool:
        """Whether images are brought to an encoder's size here: not features, nor what a caller gives as it is read."""
        return self.train.images.features is None and not self.suite.given

    def _portable(self, words: str) -> str:
        """Without the folders of this machine: what is told also stands in tables that are committed."""
        for path, name in ((self.options.data, "DATA"), (self.options.weights, "WEIGHTS")):
            words = re.sub(rf"(?<![\w./-]){re.escape(str(path))}(?![\w.-])", name, words)
        return words

    def _row(
        self, spec: RowSpec, method: Method, seed: int, random: bool, searched: Mapping[str, Any] | None = None
    ) -> Row:
        """The jobs of one row with one seed; `random`: whether another seed would give other scores."""
        use, of_any = self.encoders.of_seed(spec.encoder, seed), self.encoders[spec.encoder]
        settings = {name: getattr(method, name) for name in hyperparameters(method)}
        made_of = () if isinstance(use, str) else use.made_of
        of_encoder = [note for link in made_of for note in departures.of_encoder(link)]
        of_encoder += [] if isinstance(use, str) else filter(None, [use.note])
        of_method = departures.of_method(
            spec.method, spec.preset, method, calibrated=self.train.calibration is not None
        )
        about = {
            "suite": self.suite.name,
            "row": spec.label,
            "title": spec.title or _row_title(spec, method),
            "method": spec.method,
            "encoder": spec.encoder,
            "encoder_title": spec.encoder if isinstance(of_any, str) else of_any.title,
            "hyperparameters": settings,
            "seed": seed,
            "random_fit": random,
            "resolution": self.options.resolution if self._resized else "none",
            "precision": self._precision(use, method),
            "id": about_images(self.test),
            "train": about_images(self.train),
            "footnotes": [*self.footnotes, *of_method, *of_encoder],
            **({"sweep": self.sweeps.about[spec.label]} if spec.label in self.sweeps.about else {}),
            **({"searched": searched} if searched else {}),
        }
        selected = spec.label in self._chosen or searched is not None
        no_head = "" if isinstance(use, str) else use.no_head or use.headless
        offered = self._offered[spec.encoder]
        lacking = method.lacking(offered - {"logits", "head"} if no_head else offered)
        if lacking or isinstance(use, str):
            names = (" or " if method.reads_any else ", ").join(sorted(lacking))
            offers = f"{spec.method} reads {names}, which {spec.encoder} does not offer"
            offers += f": {no_head}" if no_head else ""
            reason = self._portable(use if isinstance(use, str) else offers)
            return Row(spec, about, reason, selected)
        fit = self._fit(spec, method, seed, self._encodes(use, self.train))
        if fit is not None and self.id.lacking:
            reason = f"{spec.method} is fitted on ID training images: {self.id.lacking}"
            return Row(spec, about, self._portable(reason), selected)

        def score(images: Selection, side: str | None = None) -> Score:
            return Score(spec.method, settings, seed, fit, self._encodes(use, images, side))

        search = self._search(spec, method, seed) if self.validation is not None and "sweep" in about else None
        scored = score(self.test)
        calibration = None if self.train.calibration is None else score(self.train.calibration)
        covariate = {column.name: score(column.images, shifted(column.name)) for column in self.covariate}
        measures = {
            column.name: Measure(
                self.folder,
                {**about, "ood": column.about},
                scored,
                covariate.get(column.name) or score(column.images),
                calibration,
                search,
                tuple(covariate.values()) if column.spec.group in ("near", "far") else (),
            )
            for column in self.columns
        }
        alone = (
            None if self.columns or calibration is None else Calibrate(self.folder, about, scored, calibration, search)
        )
        row = Row(spec, about, "", selected, measures, alone, scored=scored, train=self._encodes(use, self.train))
        if seed != (self.options.seeds or self.suite.seeds)[0]:
            return row
        of_images = not use.chain[0].encoder.of_files  # of features in files no image was ever decoded
        speed = MeasureSpeed(self.folder, spec.label, scored, self.options.device, self.options.batch_size)
        return replace(
            row,
            speed=speed if self.options.speed and of_images else None,
            pictures=self._pictures(scored, about),
            mistakes=self._mistakes(use, measures) if self._resized else {},  # others are no pictures
        )

    def _mistakes(self, use: EncoderUse, measures: Mapping[str, Measure]) -> dict[str, ShowMistakes]:
        train = self._encodes(use, self.train)
        return {name: ShowMistakes(measure, train) for name, measure in measures.items()}

    def _precision(self, use: EncoderUse | str | None, method: Method) -> str:
        """That of the run, where a network runs for the row: in an encoder, or in a training of the method."""
        chain = use.chain if isinstance(use, EncoderUse) else ()
        runs = method.trains or any(link.encoder.runs_network for link in chain)
        return self.options.precision if runs else "32"

    def _encodes(self, use: EncoderUse, images: Selection, side: str | None = None) -> tuple[Encode, ...]:
        """The same passes for every row, so that their keys are computed once. side: of the ID set's classes."""
        if (use, images) not in self._passes:
            of_id = images in (*self.id.selections, self.held_out, self.held_out.calibration)
            self._passes[use, images] = encodes(use, use.view(images, side) if of_id or side else images)
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
