"""Figures that compare rows: which differ significantly, and what image size is worth to each. PNG files."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.canvas import canvas

_CHARACTERS = 13  # that an inch of text holds, about
_LINE = 0.17  # inches: the height of a line of text
_AXIS, _BAR = 5.0, 0.09  # inches: the width between the labels, from bar to bar
_LABEL = 3.4  # inches: the widest column of labels

Span = tuple[float, float]


def critical_difference(rows: Sequence[tuple[str, float]], groups: Sequence[tuple[int, int]], path: Path) -> None:
    """Rows on an axis of mean AUROC, the best to the right; a thick bar joins rows that do not differ significantly.

    rows: (title, mean AUROC in percent), best first. groups: first and last place in `rows` of each bar. After Demsar
    2006, with AUROC in the place of ranks. ValueError for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError("a comparison needs two rows at least")
    values = [value for _, value in rows]
    reach = 0.004 * (values[0] - values[-1]) or 0.1  # of a bar beyond its rows: seen where these are as good as one
    width = min(_LABEL, max(len(title) + 7 for title, _ in rows) / _CHARACTERS)
    labels = [textwrap.fill(f"{title}\u00a0\u00a0{value:.1f}", int(width * _CHARACTERS)) for title, value in rows]
    half = math.ceil(len(rows) / 2)
    sides = {"right": range(half), "left": range(len(rows) - 1, half - 1, -1)}  # so that no leader crosses another
    heights = [_LINE * (label.count("\n") + 1) + 0.03 for label in labels]
    levels = _levels([(values[last] - reach, values[first] + reach) for first, last in groups], gap=3 * reach)
    bars = _BAR * (len(levels) + 2)
    depth = bars + max(sum(heights[place] for place in places) for places in sides.values())
    with canvas(path, (2 * width + _AXIS, 0.9 + depth)) as figure:
        axes = figure.subplots()
        axes.set(xlim=(values[-1] - 9 * reach, min(values[0] + 9 * reach, 100)), ylim=(depth, 0), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("mean AUROC over OOD sets (%)")
        for side, places in sides.items():
            y, edge = bars, axes.get_xlim()[side == "right"]
            for place in places:
                middle = y + heights[place] / 2
                axes.plot([values[place]] * 2 + [edge], [0, middle, middle], color="0.45", linewidth=0.8, clip_on=False)
                offset = {"xytext": (4 if side == "right" else -4, 0), "textcoords": "offset points"}
                align = {"ha": "left" if side == "right" else "right", "va": "center", "fontsize": "small"}
                axes.annotate(labels[place], (edge, middle), annotation_clip=False, **offset, **align)
                y += heights[place]
        for level, spans in enumerate(levels, start=1):
            for span in spans:
                axes.plot(span, [level * _BAR] * 2, color="0.1", linewidth=3, solid_capstyle="butt", zorder=3)
        figure.suptitle("Rows joined by a bar do not differ significantly", fontweight="bold")


def _levels(spans: Sequence[Span], gap: float) -> list[list[Span]]:
    """The spans on as few lines as it takes for none to come nearer to another than `gap`."""
    levels: list[list[Span]] = []
    for span in sorted(spans, reverse=True):
        for level in levels:
            if span[1] + gap <= level[-1][0]:
                level.append(span)
                break
        else:
            levels.append([span])
    return levels


def resolution_difference(rows: Mapping[str, Mapping[str, Span]], path: Path) -> None:
    """AUROC at native (hollow) and at ID resolution (filled), set by set; a panel for each row, side by side.

    rows: title -> OOD set -> AUROC in percent (native, ID resolution). ValueError for nothing to draw.
    """
    sets = list(dict.fromkeys(name for of_row in rows.values() for name in of_row))
    if not sets:
        raise ValueError("no set is measured at both resolutions")
    lines = math.ceil(len(rows) / 4)
    columns = math.ceil(len(rows) / lines)
    names = [textwrap.fill(name, 26) for name in sets]
    panel = 0.4 + 0.17 * sum(name.count("\n") + 1.3 for name in names)
    margin = max(len(line) for name in names for line in name.split("\n")) / _CHARACTERS
    with canvas(path, (margin + 0.3 + 2.3 * max(columns, 1.5), 1.1 + lines * (panel + 0.45))) as figure:
        grid = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel())
        for spare in grid[len(rows) :]:
            spare.remove()
        for place, (axes, (title, of_row)) in enumerate(zip(grid, rows.items(), strict=False)):
            _dumbbells(axes, [(y, *of_row[name]) for y, name in enumerate(sets) if name in of_row])
            axes.set_title(textwrap.fill(title, 30), fontsize="small")
            axes.tick_params(labelbottom=place + columns >= len(rows))
            axes.set_xlabel("AUROC (%)" if place + columns >= len(rows) else "")
        grid[0].set_yticks(range(len(sets)), names)
        grid[0].set_ylim(len(sets) - 0.4, -0.6)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=2)
        figure.suptitle("What image size is worth", fontweight="bold")


def _dumbbells(axes: Any, ends: Sequence[tuple[int, float, float]]) -> None:
    """ends: (line, native, ID resolution) of each set."""
    y, native, at_id = (list(values) for values in zip(*ends, strict=True))
    axes.hlines(y, native, at_id, color="0.6", linewidth=1.5, zorder=1)
    axes.scatter(at_id, y, s=22, color="C0", label="at the size of the ID images", zorder=2)
    axes.scatter(native, y, s=30, facecolor="none", edgecolor="C1", linewidth=1.3, label="native", zorder=3)
    axes.axvline(50, color="0.8", linestyle=":", linewidth=1, zorder=0)
    axes.grid(axis="y", alpha=0.3)
