"""Records as tables: rows x OOD sets, each cell its metrics in percent. Here as CSV and as JSON.

Every table takes the records (result and speed) and a `View` of them.
"""

from collections.abc import Iterable

from benchmark import shown
from benchmark.records.frames import Record, View, every_line
from benchmark.reporting.markup import latex, markdown

__all__ = ["View", "csv", "json", "latex", "markdown"]


def csv(records: Iterable[Record], view: View) -> str:
    """`every_line` as CSV: one line for each row and OOD set or average; percent with two decimals."""
    return shown.csv(every_line(records, view))


def json(records: Iterable[Record], view: View) -> str:
    """`every_line` as JSON: a list, an object for each row and OOD set or average; null where there is no number."""
    return shown.json(every_line(records, view))
