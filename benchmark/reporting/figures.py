"""What people look at beside the tables: score histograms, ROC curves, AUROC against images per second."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.canvas import DPI, canvas
from benchmark.metrics import Floats, Scores, auroc, fpr_at_tpr, threshold_at_tpr

ID_COLOUR, OOD_COLOUR = 0, 1  # of seaborn's colour-blind-safe palette
MOST_COLOURED = 6  # ROC curves that a reader can tell apart
CURVE_POINTS = 500
BINS = 60
_REACH = 1.5  # a histogram's axis goes this many ID ranges beyond the ID scores at most


def _wrap(words: str, inches: float, characters: float = 13) -> str:
    """Words in lines of so many inches, at so many characters an inch."""
    return textwrap.fill(words, int(characters * inches))


def _panels(figure: Any, n: int, xlabel: str, ylabel: str) -> list[Any]:
    """n axes in a grid without holes but at its end; labels at its left and lower edges."""
    rows, columns = _grid(n)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in axes[n:]:
        spare.remove()
    for place, panel in enumerate(axes[:n]):
        panel.set_xlabel(xlabel if place + columns >= n else "")
        panel.set_ylabel(ylabel if place % columns == 0 else "")
    return axes[:n]


def _grid(n: int) -> tuple[int, int]:
    columns = min(4, math.ceil(math.sqrt(n)))
    return math.ceil(n / columns), columns


def histograms(
    title: str,
    id_scores: Scores,
    ood: Mapping[str, Scores],
    path: Path,
    *,
    id_title: str = "ID",
    groups: Mapping[str, str] | None = None,
) -> None:
    """The score densities of one row: a panel for each OOD set (title -> scores), with the ID set overlaid.

    `groups`: title -> near or far. The bins at both ends hold what lies beyond the axis, which is chosen so that the
    ID scores stay legible whatever the outliers. ValueError for no OOD set, or scores that are NaN.
    """
    if not ood:
        raise ValueError(f"no OOD scores to draw for {title}")
    ids = np.asarray(id_scores, dtype=np.float64)
    threshold = threshold_at_tpr(ids)
    rows, columns = _grid(len(ood))
    width = 0.4 + 2.9 * columns
    with canvas(path, (width, 0.9 + 2.1 * rows)) as figure:
        panels = _panels(figure, len(ood), "score (greater = more OOD)", "density")
        for axes, (name, scores) in zip(panels, ood.items(), strict=True):
            group = (groups or {}).get(name)
            head = _wrap(f"{name} ({group})" if group else name, 2.6)
            head += f"\nAUROC {100 * auroc(ids, scores):.1f}, FPR95 {100 * fpr_at_tpr(ids, scores):.1f}"
            axes.set_title(head, fontsize="medium")
            _overlay(axes, ids, np.asarray(scores, dtype=np.float64), id_title)
            line = axes.axvline(threshold, color="0.2", linestyle="--", linewidth=1)
            line.set_label("95 % of ID accepted (left of it)")
        handles, labels = panels[0].get_legend_handles_labels()
        note = "The end bins hold what lies beyond the axis; a number says how much, where it is 1 % or more."
        where = {"loc": "outside lower center", "ncols": 1 if len(ood) == 1 else len(labels)}
        figure.legend(handles, labels, title=note if len(ood) > 1 else None, frameon=False, **where)
        figure.suptitle(_wrap(title, width, 10), fontweight="bold")


def _overlay(axes: Any, ids: Floats, oods: Floats, id_title: str) -> None:
    edges = np.linspace(*_axis(ids, oods), BINS + 1)
    width = edges[1] - edges[0]
    peaks, tallest = [], 0.0
    for scores, label, colour in ((ids, id_title, ID_COLOUR), (oods, "OOD", OOD_COLOUR)):
        shown = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / len(scores) / width
        axes.stairs(shown, edges, fill=True, alpha=0.35, color=f"C{colour}", label=label)
        axes.stairs(shown, edges, color=f"C{colour}", linewidth=1)
        peaks.append(float(np.histogram(scores, edges)[0].max()) / len(scores) / width)
        tallest = max(tallest, float(shown.max()))
    # What lies beyond the axis, or a spike of equal OOD scores, must not flatten the ID scores: it leaves the panel.
    axes.set_ylim(0, 1.15 * (min(max(peaks), 4 * peaks[0]) or tallest))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    for scores, colour, height in ((ids, ID_COLOUR, 0.93), (oods, OOD_COLOUR, 0.82)):
        for beyond, x, side in ((scores < edges[0], 0.02, "left"), (scores > edges[-1], 0.98, "right")):
            if beyond.mean() >= 0.01:
                arrow = f"{100 * beyond.mean():.0f} % →" if side == "right" else f"← {100 * beyond.mean():.0f} %"
                text = {"transform": axes.transAxes, "ha": side, "va": "center", "fontsize": "small"}
                text["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
                axes.text(x, height, arrow, color=f"C{colour}", fontweight="bold", **text)


def _axis(ids: Floats, oods: Floats) -> tuple[float, float]:
    """Where a histogram begins and ends: the inner 99 % of both sets, but not too far from the ID scores."""
    ids, oods = ids[np.isfinite(ids)], oods[np.isfinite(oods)]
    if not len(ids):
        ids = oods if len(oods) else np.zeros(1)
    (id_low, id_high), (low, high) = (np.percentile(x if len(x) else ids, [0.5, 99.5]) for x in (ids, oods))
    reach = _REACH * (id_high - id_low) or math.inf  # of ID scores that are all one, the OOD scores decide
    low, high = max(min(low, id_low), id_low - reach), min(max(high, id_high), id_high + reach)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # constant scores, or as good as
        margin = max(0.5, 0.01 * abs(high))
        return float(low - margin), float(high + margin)
    return float(low), float(high)


def roc_curves(rows: Mapping[str, Mapping[str, tuple[Scores, Scores]]], path: Path) -> None:
    """ROC curves: row title -> OOD title -> (ID scores, OOD scores); a panel for each OOD set.

    The rows of the best mean AUROC are coloured, best first in the legend; all others are thin and grey. ValueError
    for nothing to draw.
    """
    curves = {row: {ood: _curve(*scores) for ood, scores in sets.items()} for row, sets in rows.items() if sets}
    sets = list(dict.fromkeys(ood for of_row in curves.values() for ood in of_row))
    if not sets:
        raise ValueError("no scores to draw ROC curves of")
    means = {row: float(np.mean([auroc(*pair) for pair in rows[row].values()])) for row in curves}
    # A mean over fewer sets is no rival: the hard ones may be missing.
    ranked = sorted(curves, key=lambda row: (-len(curves[row]), -means[row]))
    colours = {row: f"C{place}" for place, row in enumerate(ranked[:MOST_COLOURED])}
    n_rows, n_columns = _grid(len(sets))
    legend = 0.2 * (len(colours) + 3)
    names = "ID images flagged", "OOD images flagged"
    with canvas(path, (max(4.0, 0.4 + 2.6 * n_columns), 0.9 + 2.7 * n_rows + legend)) as figure:
        for axes, ood in zip(_panels(figure, len(sets), *names), sets, strict=True):
            axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
            axes.axvline(0.05, color="0.2", linestyle=":", linewidth=1)
            for row in reversed(ranked):  # the best on top
                if ood in curves[row]:
                    style = {"color": colours.get(row, "0.72"), "linewidth": 1.5 if row in colours else 0.7}
                    axes.plot(*curves[row][ood], **style)
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
            axes.set_title(_wrap(ood, 2.4), fontsize="medium")
        _roc_legend(figure, ranked, colours, means)
        figure.suptitle("ROC curves", fontweight="bold")


def _roc_legend(figure: Any, ranked: Sequence[str], colours: Mapping[str, str], means: Mapping[str, float]) -> None:
    from matplotlib.lines import Line2D

    width = figure.get_figwidth() - 0.6
    lines = [
        Line2D([], [], color=colour, linewidth=1.5, label=_wrap(f"{100 * means[row]:.1f}  {row}", width))
        for row, colour in colours.items()
    ]
    if len(ranked) > len(colours):
        lines.append(Line2D([], [], color="0.72", linewidth=0.7, label=f"{len(ranked) - len(colours)} other rows"))
    threshold = "5 % of ID images flagged: FPR95 is the rest of the OOD images"
    lines.append(Line2D([], [], color="0.2", linestyle=":", linewidth=1, label=_wrap(threshold, width)))
    style = {"loc": "outside lower center", "frameon": False, "alignment": "left"}
    figure.legend(handles=lines, title="mean AUROC over OOD sets, and row", **style)


def _curve(id_scores: Scores, ood_scores: Scores) -> tuple[Floats, Floats]:
    """The ROC curve as about CURVE_POINTS points: shares of ID and OOD images flagged, from (0, 0) to (1, 1)."""
    ids, oods = (np.sort(np.asarray(scores, dtype=np.float64)) for scores in (id_scores, ood_scores))
    thresholds = np.unique(np.concatenate([ids, oods]))[::-1]
    flagged = [1 - np.searchsorted(scores, thresholds, "left") / len(scores) for scores in (ids, oods)]
    x, y = (np.concatenate([[0.0], share]) for share in flagged)
    # Points at equal steps along the curve, not along one axis: the steep part is the one that matters.
    keep = np.unique(np.searchsorted(x + y, np.linspace(0, 2, CURVE_POINTS)).clip(max=len(x) - 1))
    return x[keep], y[keep]


def speed(rows: Sequence[tuple[str, float, float, str]], path: Path) -> None:
    """Mean AUROC in percent against images per second: rows of (title, AUROC, images per second, encoder title).

    One colour and marker for each encoder. ValueError for no rows.
    """
    if not rows:
        raise ValueError("no row has both an AUROC and a speed to draw")
    encoders = list(dict.fromkeys(encoder for *_, encoder in rows))
    with canvas(path, (7.0, 4.6 + 0.2 * len(encoders))) as figure:
        axes = figure.subplots()
        for place, encoder in enumerate(encoders):
            points = [(rate, value) for _, value, rate, of in rows if of == encoder]
            marker = "osD^vPX*<>"[place % 10]
            axes.scatter(*zip(*points, strict=True), s=36, marker=marker, color=f"C{place % 10}", label=encoder)
        axes.set_xscale("log")
        axes.margins(0.12, 0.08)
        axes.set(xlabel="images per second, from stored bytes to score", ylabel="mean AUROC over OOD sets (%)")
        axes.grid(alpha=0.3)
        _plain_ticks(axes)
        figure.legend(loc="outside lower center", frameon=False, title="encoder" if len(encoders) > 1 else None)
        figure.suptitle("AUROC against speed", fontweight="bold")
        figure.draw_without_rendering()  # the layout is final from here on: labels are placed in its pixels
        _label(axes, rows, encoders)


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1,) if decades > 3 else (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 4, 5, 7))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(axes: Any, rows: Sequence[tuple[str, float, float, str]], encoders: Sequence[str]) -> None:
    """Write each title where it covers no point and no other title, as near to its point as that allows."""
    points = axes.transData.transform([(rate, value) for _, value, rate, _ in rows])
    inside = axes.get_window_extent()
    room = np.array([inside.x0, inside.y0, inside.x1, inside.y1])
    pixel = DPI / 72
    taken: list[Floats] = [np.concatenate([point - 4 * pixel, point + 4 * pixel]) for point in points]
    for place in sorted(range(len(rows)), key=lambda i: -points[i][1]):
        title, value, rate, encoder = rows[place]
        text = axes.annotate(
            title,
            (rate, value),
            xytext=(0, 0),
            textcoords="offset pixels",
            fontsize="small",
            color=f"C{encoders.index(encoder) % 10}",
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )
        box = text.get_window_extent()
        offset = _place(points[place], (box.width, box.height), taken, room, pixel)
        text.set_position(tuple(offset))
        corners = np.concatenate([points[place] + offset, points[place] + offset + [box.width, box.height]])
        gap = np.maximum(0, np.maximum(corners[:2] - points[place], points[place] - corners[2:]))
        text.arrow_patch.set_visible(bool(np.hypot(*gap) > 9 * pixel))  # a line to the point only where it is not near
        taken.append(corners)


def _place(point: Floats, size: tuple[float, float], taken: Sequence[Floats], room: Floats, pixel: float) -> Floats:
    """The offset of a box's lower left corner from its point that covers least, then lies nearest."""
    half = np.array(size) / 2
    best: Floats = np.zeros(2)
    least = math.inf
    for distance in np.arange(6, 90, 6) * pixel:
        for angle in np.arange(16) * math.pi / 8:
            direction = np.array([math.cos(angle), math.sin(angle)])
            offset: Floats = direction * (half + distance) - half
            box = np.concatenate([point + offset, point + offset + size])
            cost = sum(_overlap(box, other) for other in taken) + 10 * (size[0] * size[1] - _overlap(box, room))
            if cost < least:
                best, least = offset, cost
            if cost == 0:
                return offset
    return best


def _overlap(a: Floats, b: Floats) -> float:
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(max(width, 0) * max(height, 0))
