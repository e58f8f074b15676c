"""The cells of a table as strings, before any markup: figures, the best of a column, spreads, published numbers."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any, Literal

from benchmark.metrics import METRICS
from benchmark.records.frames import ALL, COVARIATE, Lines, Record, View, is_control, lines_of
from benchmark.records.shortcuts import separable
from benchmark.reporting import footnotes

NONE = "–"
SEPARABLE, MISPRINT = "†", "‡"  # behind the name of a set, and behind a published number
Rank = Literal["best", "second", ""]


class Grid:
    """A view's cells. columns: (OOD set or average, title, group or ""). encoders: title -> [(row, title)].

    Near sets come before far ones, then the averages; within an encoder the rows that check the harness are
    last. lines: the view's, where they are there already.
    """

    def __init__(self, records: Iterable[Record], view: View, lines: Lines | None = None) -> None:
        records = list(records)
        self.view = view
        by_name = {metric.name: metric for metric in METRICS}
        self.shown = [by_name[name] for name in view.metrics]
        self.directions = " / ".join(f"{metric.title} {metric.arrow}" for metric in self.shown)
        self._lines = lines_of(records, view) if lines is None else lines
        every = list(self._lines.values())
        self.below = [*footnotes.numbered(every, view), *footnotes.notes(records, view)]
        self._numbers = footnotes.reasons(every)
        marked = separable(records)
        self.columns = [
            (name, f"{title} {SEPARABLE}" if name in marked else title, group)
            for name, title, group in [*view.near_first(), *((ood, title, "") for ood, title in view.averages())]
        ]
        sanity = {line["row"] for line in every if line["sanity"]}
        self.checking = sanity | {row for row, _, _ in view.rows if is_control(row, records)}
        self.encoders: dict[str, list[tuple[str, str]]] = {}
        for row, title, encoder in sorted(view.rows, key=lambda line: line[0] in sanity):
            self.encoders.setdefault(encoder, []).append((row, title))
        compared = {ood: [x for x in every if x["ood"] == ood and _is_compared(x)] for ood, _, _ in self.columns}
        self._ranks = {
            (ood, metric.name): _ranks([line[metric.name] for line in compared[ood]], metric.higher_is_better)
            for ood, _, group in self.columns
            for metric in self.shown
            if group not in ("control", COVARIATE)  # there is nothing to be best at: nobody should flag ID images
        }
        self.has_accuracy = any(not isnan(line["accuracy"]) for line in every)
        rates = ("images_per_second", "published_images_per_second")
        self.has_speed = any(not isnan(line[name]) for line in every for name in rates)

    def figures(self, row: str, ood: str) -> list[tuple[str, Rank]] | None:
        """The metrics of a cell, each with its rank where it is the first or second of its column; None without."""
        line = self._lines[row, ood]
        if line["status"] != "done":
            return None
        ranked: list[tuple[str, Rank]] = []
        compared = _is_compared(line)
        for metric in self.shown:
            value = line[metric.name]  # an old record may lack a metric
            figure = NONE if isnan(value) else format(value, metric.format)
            ranked.append((figure, self._ranks.get((ood, metric.name), {}).get(figure, "") if compared else ""))
        return ranked

    def is_best(self, row: str, columns: Sequence[str]) -> bool:
        """Whether it is the first of any of these OOD sets and averages."""
        cells = (self.figures(row, ood) or [] for ood, _, _ in self.columns if ood in columns)
        return any(rank == "best" for cell in cells for _, rank in cell)

    def place(self, row: str) -> tuple[bool, float]:
        """To sort rows by: the best average first, and behind them those without one, or that check the harness."""
        ood = ALL if (row, ALL) in self._lines else self.columns[0][0]
        line, metric = self._lines[row, ood], self.shown[0]
        if line["status"] != "done":
            return True, 0
        return bool(line["sanity"]), -line[metric.name] if metric.higher_is_better else line[metric.name]

    def spread(self, row: str, ood: str) -> str:
        """What stands behind the ± of the first metric: the standard deviation over seeds, or half its interval."""
        line, metric = self._lines[row, ood], self.shown[0].name
        std = line[f"{metric}_std"]
        return number((line[f"{metric}_high"] - line[f"{metric}_low"]) / 2 if isnan(std) else std)

    def mark(self, row: str, ood: str) -> str:
        """What stands in a cell without numbers: its status and the number of the note that says why."""
        line = self._lines[row, ood]
        note = self._numbers.get((line["status"], line["reason"]))
        return NONE if note is None else f"{line['status']} [{note}]"

    def published(self, row: str, ood: str) -> str:
        """The published metrics of a cell, as they are printed; "" where none is."""
        figures = []
        for metric in self.shown:
            value = self._lines[row, ood].get(f"published_{metric.name}")
            mark = f" {MISPRINT}" if (row, ood, metric.name) in self.view.misprints else ""
            figures.append(NONE if value is None or isnan(value) else f"{value:.2f}".removesuffix("0") + mark)
        return "" if set(figures) == {NONE} else " / ".join(figures)

    def difference(self, row: str, ood: str) -> str:
        """Ours less the published one, metric by metric; "" where there is nothing to subtract."""
        line = self._lines[row, ood]
        values = [line[metric.name] - line.get(f"published_{metric.name}", float("nan")) for metric in self.shown]
        return "" if all(map(isnan, values)) else " / ".join(NONE if isnan(v) else f"{v:+.1f}" for v in values)

    def accuracy(self, row: str) -> str:
        return number(self._of_row(row, "accuracy"))

    def speed(self, row: str) -> str:
        return rate(self._of_row(row, "images_per_second"))

    def published_speed(self, row: str) -> str:
        """The published images per second; "" where there are none."""
        published = rate(self._of_row(row, "published_images_per_second"))
        return "" if published == NONE else published

    def _of_row(self, row: str, column: str) -> float | None:
        return self._lines[row, self.columns[0][0]][column]  # type: ignore[no-any-return]


def _is_compared(line: Mapping[str, Any]) -> bool:
    """Whether a cell may be the best: none of a row that checks the harness, or of a sweep that is only shown."""
    return not line["sanity"] and line["searched"] != "swept"


def _ranks(values: Iterable[float], higher: bool) -> dict[str, Rank]:
    """The best of a column as it is printed, and the second; neither where there are no two to compare."""
    there = sorted((value for value in values if not isnan(value)), reverse=higher)
    if len(there) < 2:
        return {}
    return dict(zip(dict.fromkeys(map(number, there)), ("best", "second"), strict=False))


def number(percent: float | None) -> str:
    """One decimal: the next is noise at the usual numbers of images (the intervals are +-0.2 to 0.6)."""
    return NONE if percent is None or isnan(percent) else format(percent, ".1f")


def rate(images_per_second: float | None) -> str:
    if images_per_second is None or isnan(images_per_second):
        return NONE
    return format(images_per_second, ",.0f" if images_per_second >= 100 else ".1f")
