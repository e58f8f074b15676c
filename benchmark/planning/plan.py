"""What would be done, as data: the rows of a suite and their jobs. `planner` makes it."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.jobs.base import Job, walk
from benchmark.jobs.calibrating import Calibrate
from benchmark.jobs.encoding import Encode
from benchmark.jobs.illustrating import Illustrate
from benchmark.jobs.measuring import Measure
from benchmark.jobs.mistaking import ShowMistakes
from benchmark.jobs.scoring import Score
from benchmark.jobs.searching import Search
from benchmark.jobs.timing import MeasureSpeed
from benchmark.planning.columns import Column
from benchmark.planning.parts import RowSpec
from benchmark.planning.suite import Suite
from benchmark.records import fitting


@dataclass(frozen=True)
class Row:
    """One row with one seed, and what it takes. `reason`: why it cannot run, where it cannot; then no jobs."""

    spec: RowSpec
    about: Mapping[str, Any]  # what the records of the row say of it
    reason: str
    selected: bool
    measures: Mapping[str, Measure] = field(default_factory=dict)  # by the name of the OOD set
    thresholds: Calibrate | None = None  # where there is no OOD set
    speed: MeasureSpeed | None = None
    pictures: tuple[Illustrate, ...] = ()
    mistakes: Mapping[str, ShowMistakes] = field(default_factory=dict)  # by the name of the OOD set
    scored: Score | None = None  # the ID test set
    train: tuple[Encode, ...] = ()  # the passes over the ID training set
    searches: tuple[Search, ...] = ()  # what is to be measured before it is known which hyper-parameters it has

    @property
    def cells(self) -> tuple[Measure | Calibrate, ...]:
        """What writes its records."""
        return (*self.measures.values(), *([self.thresholds] if self.thresholds else []))

    @property
    def present(self) -> Iterator[tuple[Hashable, Any]]:
        """What there is now of all that its records depend on, as `records.fitting` names it."""
        for cell in self.cells:
            yield from fitting.parts({**cell.about, "depends": cell.depends})


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

    @property
    def searching(self) -> "Plan | None":
        """What comes before it: the searches of rows whose hyper-parameters are not known; None without any."""
        rows = tuple(row for row in self.rows if row.searches)
        return replace(self, rows=rows, columns=()) if rows else None

    def targets(self) -> Iterator[tuple[Row, Measure | Calibrate | MeasureSpeed | Illustrate | ShowMistakes | Search]]:
        """What this run is to measure, row by row; then what it erred on, when all features are there."""
        for row in self.rows:
            if row.selected:
                for search in row.searches:
                    yield row, search
                for column in self.columns:
                    if column.selected and column.name in row.measures:
                        yield row, row.measures[column.name]
                if row.thresholds is not None:
                    yield row, row.thresholds
                for pictures in row.pictures:
                    yield row, pictures
                if row.speed is not None:
                    yield row, row.speed
        for row in self.rows:
            for column in self.columns:
                if row.selected and column.selected and column.name in row.mistakes:
                    yield row, row.mistakes[column.name]

    def jobs(self) -> list[Job]:
        """Every job of this run once, each after what it needs."""
        return walk(target for _, target in self.targets())
