"""The cells of a table as strings, before any markup: figures, the best of a column, spreads, published numbers."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from benchmark import footnotes
from benchmark.frames import Record, View, frame
from benchmark.metrics import METRICS

SHOWN = tuple(metric for metric in METRICS if metric.name in ("auroc", "fpr95"))
DIRECTIONS = " / ".join(f"{metric.title} {metric.arrow}" for metric in SHOWN)
NONE = "–"


class Grid:
    """A view's cells. columns: (OOD set or average, title, group or ""). encoders: title -> [(row, title)].

    Near sets come before far ones, then the averages; within an encoder the rows that check the harness are
    last.
    """

    def __init__(self, records: Iterable[Record], view: View) -> None:
        records = list(records)
        self.view = view
        table = frame(records, view)
        self.below = [*footnotes.numbered(table, view), *footnotes.notes(records, view)]
        self._numbers = footnotes.reasons(table)
        lines: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]  # columns have names
        self._lines = {(line["row"], line["ood"]): line for line in lines}
        self.columns = [*view.near_first(), *((ood, title, "") for ood, title in view.averages())]
        sanity = set(table.loc[table["sanity"], "row"])
        self.encoders: dict[str, list[tuple[str, str]]] = {}
        for row, title, encoder in sorted(view.rows, key=lambda line: line[0] in sanity):
            self.encoders.setdefault(encoder, []).append((row, title))
        self._best = {
            (ood, metric.name): _best(
                table[(table["ood"] == ood) & ~table["sanity"]][metric.name], metric.higher_is_better
            )
            for ood, _, _ in self.columns
            for metric in SHOWN
        }
        self.has_accuracy = bool(table["accuracy"].notna().any())
        self.has_speed = bool(table["images_per_second"].notna().any())

    def figures(self, row: str, ood: str) -> list[tuple[str, bool]] | None:
        """AUROC and FPR95 of a cell, each with whether it is the best of its column; None where it has none."""
        line = self._lines[row, ood]
        if line["status"] != "done":
            return None
        shown = [format(line[metric.name], metric.format) for metric in SHOWN]
        return [
            (figure, not line["sanity"] and figure == self._best[ood, metric.name])
            for figure, metric in zip(shown, SHOWN, strict=True)
        ]

    def spread(self, row: str, ood: str) -> str:
        """What stands behind the ± of an AUROC: the standard deviation over seeds, or half its interval."""
        line = self._lines[row, ood]
        std = line["auroc_std"]
        return number((line["auroc_high"] - line["auroc_low"]) / 2 if pd.isna(std) else std)

    def mark(self, row: str, ood: str) -> str:
        """What stands in a cell without numbers: its status and the number of the note that says why."""
        line = self._lines[row, ood]
        note = self._numbers.get((line["status"], line["reason"]))
        return NONE if note is None else f"{line['status']} [{note}]"

    def published(self, row: str, ood: str) -> str:
        """The published AUROC / FPR95 of a cell; "" where neither is."""
        values = [self._lines[row, ood][f"published_{metric.name}"] for metric in SHOWN]
        return "" if all(map(pd.isna, values)) else " / ".join(map(number, values))

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


def _best(values: "pd.Series[float]", higher: bool) -> str | None:
    """The best of a column as it is printed; None where there are no two to compare."""
    values = values.dropna()
    if len(values) < 2:
        return None
    return number(values.max() if higher else values.min())


def number(percent: float | None) -> str:
    """One decimal: the next is noise at the usual numbers of images (the intervals are +-0.2 to 0.6)."""
    return NONE if percent is None or pd.isna(percent) else format(percent, ".1f")


def rate(images_per_second: float | None) -> str:
    if images_per_second is None or pd.isna(images_per_second):
        return NONE
    return format(images_per_second, ",.0f" if images_per_second >= 100 else ".1f")
