"""Figures that are drawn while other rows are still measured."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property

from benchmark.planning.plan import Plan, Row
from benchmark.records import records
from benchmark.records.frames import View
from benchmark.reporting import drawing, report
from benchmark.reporting.drawers import Drawers


class Ahead:
    """The histograms of each row, given to other processes as soon as the row is measured.

    They are drawn as the results will be shown if all goes as planned; where it does not, they are drawn again. show:
    shows the table, once all of its numbers are there.
    """

    def __init__(self, plan: Plan, drawers: Drawers, show: Callable[[], None], *, pdf: bool = False) -> None:
        self._plan, self._drawers, self._pdf = plan, drawers, pdf
        self.whole = show
        self._given: dict[str, tuple[str, Future[None]]] = {}

    def measured(self, row: Row) -> None:
        """All its cells are."""
        label, seed = row.spec.label, row.about["seed"]
        if seed != min(other.about["seed"] for other in self._plan.rows if other.spec.label == label):
            return  # figures are of the first
        there = [records.done(measure.path, measure.key) for measure in row.measures.values()]
        figure = drawing.of_row(self._plan.folder, [record for record in there if record], self._view, label)
        for one in figure.files(self._pdf) if figure else ():
            self._given[one.path] = one.key, drawing.begin(self._plan.folder, one, self._drawers)

    def rest(self) -> None:
        """Wait until nothing is drawn: what comes needs the machine for itself."""
        self._drawers.rest()

    @property
    def drawn(self) -> dict[str, str]:
        """path -> key, once all is at rest."""
        self.rest()
        return {path: key for path, (key, future) in self._given.items() if future.exception() is None}

    @cached_property
    def _view(self) -> View:
        planned = [
            records.result(measure.about, measure.key, "done")
            for row in self._plan.rows
            if row.selected
            for measure in row.measures.values()
        ]
        return report.view(self._plan, [*planned, *records.load(self._plan.folder)[0]], selected=False, notes=[])
