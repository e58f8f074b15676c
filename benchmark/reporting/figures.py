"""What people look at beside the tables: score histograms, ROC curves, AUROC against images per second."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.canvas import (
    COLOURS,
    GREY,
    LINE,
    MARGIN,
    SMALL,
    TINY,
    Layout,
    canvas,
    grid,
    height,
    legend,
    legend_size,
    wrap,
)
from benchmark.metrics import Floats, Scores, threshold_at_tpr
from benchmark.records import scores as stored
from benchmark.records.scores import Cell

if TYPE_CHECKING:
    from benchmark.records.records import Record

ID_COLOUR, OOD_COLOUR = COLOURS[:2]
CURVE_POINTS = 500
_REACH = 1.5  # a histogram's axis goes this many ID ranges beyond the ID scores at most
_BINS = (4, 80)  # along the axis: at least, at most
_TALLEST = 4  # times the ID scores' peak: higher ones leave the panel
_DASHES: tuple[Any, ...] = (
    "-",
    "-",
    "-",
    (0, (5, 1.5)),
    (0, (5, 1.5)),
    (0, (1.5, 1)),
)  # of the coloured rows, beside their colours


def quantiles_note(cells: Iterable[Cell]) -> str:
    """What a figure says where scores are not at hand."""
    cells = list(cells)
    points = {len(cell.ids) for cell in cells if not cell.whole}
    if not points:
        return ""
    some = "" if len(cells) == sum(not cell.whole for cell in cells) else ", where scores are not at hand"
    return f"Drawn from {min(points)} score quantiles a set{some}: shares are as fine as that."


def _cells(folder: Path, records: "Mapping[str, Record]") -> dict[str, Cell]:
    """By the same titles, as far as they can be read."""
    cells = {title: stored.read(folder, record) for title, record in records.items()}
    return {title: cell for title, cell in cells.items() if cell is not None}


# Histograms


def row_histograms(
    folder: Path, title: str, records: "Mapping[str, Record]", shown: Mapping[str, Any], path: Path
) -> None:
    """`histograms` of the records of a results folder, by the title of their OOD set; of none, nothing.

    shown: its keywords.
    """
    if cells := _cells(folder, records):
        histograms(title, cells, path, **shown)


def histograms(
    title: str, ood: Mapping[str, Cell], path: Path, *, id_title: str = "ID", groups: Mapping[str, str] | None = None
) -> None:
    """The score densities of one row: a panel for each OOD set (title -> cell), with the ID set overlaid.

    `groups`: title -> near or far. All panels have one axis, chosen so that the ID scores stay legible whatever the
    outliers; the share that lies beyond it is written where it is 1 % or more. Bins are as wide as the number of a
    set's images asks for. ValueError for no OOD set.
    """
    if not ood:
        raise ValueError(f"no OOD scores to draw for {title}")
    _, columns = grid(len(ood))
    panel = {1: (4.4, 2.2), 2: (3.2, 1.7), 3: (2.3, 1.35), 4: (1.72, 1.1)}[columns]
    named = ((name, (groups or {}).get(name), cell) for name, cell in ood.items())
    heads = [
        wrap(f"{name} ({group})" if group else name, panel[0])
        + f"\nAUROC {100 * cell.auroc:.1f}, FPR95 {100 * cell.fpr95:.1f}"
        for name, group, cell in named
    ]
    inside = max(5.6, panel[0] * columns)
    low, high = _axis(ood.values())
    leaves = any(max(_beyond(scores, (low, high))) >= 1 for c in ood.values() for scores in (c.ids, c.oods))
    beyond = "A number at an edge: the share beyond the axis, where it is 1 % or more." if leaves else ""
    note = wrap(f"{beyond} {quantiles_note(ood.values())}", inside)
    labels = [wrap(id_title, 2.4), "OOD", "95 % of ID accepted (left of it)"]
    legend_columns, legend_height = legend_size(labels, inside)
    foot = legend_height + height(note) + 0.03
    layout = Layout(title, heads, columns, panel, left=0.22, foot=foot, least=5.9)
    ids = _inner(next(iter(ood.values())).ids)
    unit = (np.ptp(ids) if len(ids) else 0) or high - low  # what n images are enough for so many bins of
    with canvas(path, layout.size) as figure:
        for place, (axes, cell) in enumerate(zip(layout.draw(figure), ood.values(), strict=True)):
            handles = _overlay(axes, cell, (low, high), (high - low) / unit)
            handles.append(axes.axvline(threshold_at_tpr(cell.ids), color="0.2", linestyle="--", linewidth=1, zorder=3))
            axes.tick_params(labelbottom=layout.last(place), pad=2)
            axes.set_xlabel("score (greater = more OOD)" if layout.last(place) else "", fontsize=SMALL, labelpad=2)
            axes.set_ylabel("density" if place % columns == 0 else "", fontsize=SMALL)
        legend(figure, handles, labels, legend_columns)
        _footnote(figure, note, legend_height)


def _footnote(figure: Any, note: str, up: float) -> None:
    figure.text(
        0.5, (up + MARGIN) / figure.get_figheight(), note, ha="center", va="bottom", fontsize=SMALL, color="0.3"
    )


def _overlay(axes: Any, cell: Cell, span: tuple[float, float], units: float) -> list[Any]:
    """Both sets of a panel: their densities over the axis and what lies beyond it. units: of the axis, in ID ranges."""
    from matplotlib.patches import StepPatch

    peaks, handles = [], []
    for scores, colour, line in ((cell.ids, ID_COLOUR, 0.93), (cell.oods, OOD_COLOUR, 0.8)):
        bins = (
            int(np.clip(round(units * 2 * len(scores) ** (1 / 3)), *_BINS)) | 1
        )  # Rice's rule; equal scores in the middle
        edges = np.linspace(*span, bins + 1)
        shown = np.histogram(scores, edges)[0] / len(scores) / (edges[1] - edges[0])
        bars = StepPatch(shown, edges, fill=True, facecolor=(colour, 0.35), edgecolor=colour, linewidth=1)
        handles.append(axes.add_artist(bars))  # `stairs` would look for limits, which are set below
        peaks.append(float(shown.max()))
        for share, x, side in zip(_beyond(scores, span), (0.02, 0.98), ("left", "right"), strict=True):
            if share >= 1:
                arrow = f"{share:.0f} % →" if side == "right" else f"← {share:.0f} %"
                text = {"transform": axes.transAxes, "ha": side, "va": "center", "fontsize": TINY, "zorder": 4}
                text["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
                axes.text(x, line, arrow, color=colour, fontweight="bold", **text)
    # A spike of equal OOD scores must not flatten the ID scores: it leaves the panel.
    axes.set_ylim(0, 1.15 * (min(max(peaks), _TALLEST * peaks[0]) or max(peaks) or 1))
    axes.set_xlim(*span)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=4, prune="both")  # no label leaves the figure
    return handles


def _beyond(scores: Floats, span: tuple[float, float]) -> tuple[float, float]:
    """Percent of the scores below and above an axis."""
    return 100 * float((scores < span[0]).mean()), 100 * float((scores > span[1]).mean())


def _inner(scores: Floats) -> Floats:
    """The 0.5th and the 99.5th percentile of the finite scores, of few their ends; empty where there are none."""
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return scores
    return np.array([np.percentile(scores, 0.5, method="lower"), np.percentile(scores, 99.5, method="higher")])


def _axis(cells: Iterable[Cell]) -> tuple[float, float]:
    """Where a row's histograms begin and end: the inner 99 % of every set, but not too far from the ID scores."""
    cells = list(cells)
    ids, every = _inner(cells[0].ids), [_inner(scores) for cell in cells for scores in (cell.ids, cell.oods)]
    low, high = (f((f(ends) for ends in every if len(ends)), default=0.0) for f in (min, max))
    if len(ids):
        reach = _REACH * (ids[1] - ids[0]) or math.inf  # of ID scores that are all one, the OOD scores decide
        low, high = max(low, ids[0] - reach), min(high, ids[1] + reach)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # constant scores, or as good as
        margin = max(0.5, 0.01 * abs(high))
        return float(low - margin), float(high + margin)
    return float(low), float(high)


# ROC curves


def roc_of(folder: Path, rows: "Mapping[str, Mapping[str, Record]]", path: Path) -> None:
    """`roc_curves` of the records of a results folder: row title -> OOD title -> record; of none, nothing."""
    curves = {row: _cells(folder, records) for row, records in rows.items()}
    if any(curves.values()):
        roc_curves(curves, path)


def roc_curves(rows: Mapping[str, Mapping[str, Cell]], path: Path) -> None:
    """ROC curves: row title -> OOD title -> cell; a panel for each OOD set, its horizontal axis a square root.

    The rows of the best mean AUROC are coloured, best first in the legend, with their AUROC in each panel; all others
    are thin and grey. A set that all coloured rows tell apart is named instead, unless there is no other. ValueError
    for nothing to draw.
    """
    curves = {row: sets for row, sets in rows.items() if sets}
    sets = list(dict.fromkeys(ood for of_row in curves.values() for ood in of_row))
    if not sets:
        raise ValueError("no scores to draw ROC curves of")
    means = {row: float(np.mean([cell.auroc for cell in of_row.values()])) for row, of_row in curves.items()}
    # A mean over fewer sets is no rival: the hard ones may be missing.
    ranked = sorted(curves, key=lambda row: (-len(curves[row]), -means[row]))
    best = ranked[: len(COLOURS)]
    done = [
        ood for ood in sets if all(f"{100 * curves[r][ood].auroc:.1f}" == "100.0" for r in best if ood in curves[r])
    ]
    shown = [ood for ood in sets if ood not in done] or sets
    _, columns = grid(len(shown))
    side = {1: 3.6, 2: 2.7, 3: 2.15, 4: 1.6}[columns]
    inside = max(4.6, side * columns)
    note = f"Not shown, as all coloured rows have 100.0 there: {', '.join(done)}." if len(shown) < len(sets) else ""
    note += f" {quantiles_note(cell for of_row in curves.values() for cell in of_row.values())}"
    note = wrap(note, inside, lines=6)
    entries = [f"{100 * means[row]:.1f}  {wrap(row, inside - 1.2)}" for row in best]
    entries += [f"{len(ranked) - len(best)} other rows"] if len(ranked) > len(best) else []
    entries += [wrap("5 % of ID images flagged: FPR95 is the rest of the OOD images", inside - 0.7)]
    heading = "mean AUROC over OOD sets, and row"
    below = sum(height(entry) + 0.035 for entry in (heading, *entries)) + 0.1
    layout = Layout(
        "ROC curves",
        [wrap(ood, side) for ood in shown],
        columns,
        (side, side),
        left=0.5,
        gap=0.2,
        foot=below + height(note) + 0.08,
        least=4.9,
    )
    with canvas(path, layout.size) as figure:
        for place, (axes, ood) in enumerate(zip(layout.draw(figure), shown, strict=True)):
            _roc_panel(axes, [(row, curves[row][ood]) for row in ranked if ood in curves[row]], best)
            axes.tick_params(labelbottom=layout.last(place), labelleft=place % columns == 0, labelsize=TINY, pad=2)
            axes.set_xlabel("ID images flagged" if layout.last(place) else "", fontsize=SMALL, labelpad=2)
            axes.set_ylabel("OOD images flagged" if place % columns == 0 else "", fontsize=SMALL, labelpad=2)
        _roc_legend(figure, entries, heading, len(best), height(note) + 0.08)
        _footnote(figure, note, 0)


def _roc_panel(axes: Any, cells: Sequence[tuple[str, Cell]], best: Sequence[str]) -> None:
    chance = np.linspace(0, 1, 50)
    axes.plot(chance**2, chance**2, color="0.85", linewidth=0.8, zorder=0)
    axes.axvline(0.05, color="0.2", linestyle=":", linewidth=1)
    for row, cell in reversed(cells):  # the best on top
        place = best.index(row) if row in best else None
        style: dict[str, Any] = {"color": GREY, "linewidth": 0.6}
        if place is not None:
            style = {"color": COLOURS[place], "linewidth": 1.5, "linestyle": _DASHES[place]}
        axes.plot(*_bent(*_curve(cell.ids, cell.oods)), **style)
    for line, place in enumerate(reversed([best.index(row) for row, _ in cells if row in best])):
        cell = dict(cells)[best[place]]
        text = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "fontsize": TINY, "fontweight": "bold"}
        text["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
        up = 0.03 + line * LINE * TINY / 72 / (axes.get_position().height * axes.figure.get_figheight())
        axes.text(0.97, up, f"{100 * cell.auroc:.1f}", color=COLOURS[place], **text)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    marks = (0, 0.01, 0.05, 0.2, 0.5, 1)
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axes.set(xlim=(0, 1), ylim=(0, 1.01), yticks=(0, 0.5, 1))


def _bent(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The same curve with points between, where it has few: what is straight in shares is not on this axis."""
    at = np.arange(len(x))
    between = np.linspace(0, len(x) - 1, (len(x) - 1) * math.ceil(200 / len(x)) + 1)
    return np.interp(between, at, x), np.interp(between, at, y)


def _roc_legend(figure: Any, entries: Sequence[str], heading: str, coloured: int, up: float) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=COLOURS[at], linestyle=_DASHES[at], linewidth=1.5) for at in range(coloured)]
    lines += [Line2D([], [], color=GREY, linewidth=0.6)] * (len(entries) - coloured - 1)
    lines += [Line2D([], [], color="0.2", linestyle=":", linewidth=1)]
    drawn = legend(figure, lines, entries, 1, up=up)
    drawn.set_title(heading)
    drawn.set_alignment("left")


def _curve(id_scores: Scores, ood_scores: Scores) -> tuple[Floats, Floats]:
    """The ROC curve as about CURVE_POINTS points: shares of ID and OOD images flagged, from (0, 0) to (1, 1)."""
    ids, oods = (np.sort(np.asarray(scores, dtype=np.float64)) for scores in (id_scores, ood_scores))
    thresholds = np.unique(np.concatenate([ids, oods]))[::-1]
    flagged = [1 - np.searchsorted(scores, thresholds, "left") / len(scores) for scores in (ids, oods)]
    x, y = (np.concatenate([[0.0], share]) for share in flagged)
    # Points at equal steps along the curve as it is drawn: the steep part is the one that matters.
    keep = np.unique(np.searchsorted(np.sqrt(x) + y, np.linspace(0, 2, CURVE_POINTS)).clip(max=len(x) - 1))
    return x[keep], y[keep]
