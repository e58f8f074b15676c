"""The rows of a view by mean AUROC: what sentences and figures that compare rows speak of."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from benchmark.records.frames import ALL, Record, View, lines_of, results_of

MAIN = 8  # rows that are compared set by set: at most half of them DLSR's, where there are others


class Ranking:
    """The AUROCs of a view in percent, of what is measured, without rows that check the harness or are only shown.

    every: all lines of the view, by row and OOD set or average. lines: those with an AUROC. sets: the OOD sets that the
    average counts, near first.
    ranked: the rows that are measured on all of them, the best on average first. main: those to compare set by set,
    which are the best of DLSR's and the best others, without the method `lowlevel`; best first.
    """

    def __init__(self, found: Iterable[Record], view: View) -> None:
        found = list(found)
        self.view = view
        self.every = lines_of(found, view)
        self.lines = {
            cell: line
            for cell, line in self.every.items()
            if not (math.isnan(line["auroc"]) or line["sanity"] or line["searched"] == "swept")
        }
        self.cells = results_of(found, view)
        about = {row: seeds[0] for (row, _), seeds in self.cells.items()}
        self.method = {row: str(record["method"]) for row, record in about.items()}
        self.encoder = {row: str(record["encoder"]) for row, record in about.items()}
        self.title = {name: title for name, title, _ in view.ood}
        several = len({encoder for _, _, encoder in view.rows}) > 1
        self.name = {row: f"{title} on {encoder}" if several else title for row, title, encoder in view.rows}
        self.sets = [name for name, _, _ in view.near_first() if name in view.over(ALL)]
        self.over = ALL if len(self.sets) > 1 else "".join(self.sets)  # an average over one set is that set's line
        self.ranked = sorted((row for row in self.name if (row, self.over) in self.lines), key=lambda r: -self.mean(r))
        self.main = self._main()

    def _main(self) -> list[str]:
        rivals = [row for row in self.ranked if self.method[row] != "lowlevel"]
        others = [row for row in rivals if self.method[row] != "dlsr"]
        dlsr = [row for row in rivals if self.method[row] == "dlsr"][: max(MAIN // 2, MAIN - len(others))]
        chosen = {*dlsr, *others[: MAIN - len(dlsr)]}
        return [row for row in rivals if row in chosen]

    def mean(self, row: str) -> float:
        """The mean AUROC of a ranked row over all sets."""
        return self.auroc(row, self.over)

    def auroc(self, row: str, ood: str) -> float:
        return float(self.lines[row, ood]["auroc"])

    def low(self, row: str, ood: str) -> float:
        """The lower end of the AUROC's 95 % interval over images and, where there are several, trainings."""
        line = self.lines[row, ood]
        reach, seeds = line["auroc"] - line["auroc_low"], int(line["seeds"])
        if seeds > 1:
            from scipy.special import stdtrit

            reach = math.hypot(reach, stdtrit(seeds - 1, 0.975) * line["auroc_std"] / math.sqrt(seeds))
        return float(line["auroc"] - reach)

    def mean_over(self, row: str, sets: Sequence[str]) -> float:
        return fmean(self.auroc(row, name) for name in sets)

    def with_mean(self, row: str) -> str:
        """The row and its mean, in words."""
        return f"{self.name[row]} {self.mean(row):.1f}"

    def with_interval(self, row: str, ood: str) -> str:
        """The row, its AUROC there and its 95 % interval, in words."""
        line = self.lines[row, ood]
        return f"{self.name[row]} {line['auroc']:.1f} ({line['auroc_low']:.1f} to {line['auroc_high']:.1f})"
