"""Figures that compare rows: which differ significantly, and what image size is worth to each. PNG files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.canvas import (
    COLOURS,
    MARGIN,
    SMALL,
    TITLE,
    WIDTH,
    Layout,
    add,
    canvas,
    height,
    legend,
    legend_size,
    width,
    wrap,
)

_BAR = 0.09  # inches: from bar to bar
_MOST = 20  # rows that a comparison can show legibly
_LABEL = 2.4  # inches: the widest column of labels

_SIZES = ("at the size of the ID images", "native")

Span = tuple[float, float]


def critical_difference(rows: Sequence[tuple[str, float]], groups: Sequence[tuple[int, int]], path: Path) -> None:
    """Rows on an axis of mean AUROC, the best to the right; a thick bar joins rows that do not differ significantly.

    rows: (title, mean AUROC in percent), best first. groups: first and last place in `rows` of each bar. After Demsar
    2006, with AUROC in the place of ranks. Of many rows the best, which is said. ValueError for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError("a comparison needs two rows at least")
    axis = "mean AUROC over OOD sets (%)"
    if len(rows) > _MOST:
        axis += f", the best {_MOST} of {len(rows)} rows"
        rows = rows[:_MOST]
        beyond = [group for group in groups if group[1] >= _MOST - 1]
        groups = [group for group in groups if group[1] < _MOST - 1]
        groups += [(first, _MOST - 1) for first, _ in beyond[:1] if first < _MOST - 1]  # the longest that is cut
    values = [value for _, value in rows]
    reach = 0.004 * (values[0] - values[-1]) or 0.1  # of a bar beyond its rows: seen where these are as good as one
    labels = [f"{wrap(title, _LABEL - 0.4)}\u00a0\u00a0{value:.1f}" for title, value in rows]
    wide = max(map(width, labels)) + 0.06 + MARGIN
    half = math.ceil(len(rows) / 2)
    sides = {"right": range(half), "left": range(len(rows) - 1, half - 1, -1)}  # so that no leader crosses another
    heights = [height(label) + 0.05 for label in labels]
    levels = _levels([(values[last] - reach, values[first] + reach) for first, last in groups], gap=3 * reach)
    bars = _BAR * (len(levels) + 2)
    depth = bars + max(sum(heights[place] for place in places) for places in sides.values())
    size = WIDTH, 0.75 + depth + MARGIN
    with canvas(path, size) as figure:
        title = "Rows joined by a bar do not differ significantly"
        figure.suptitle(title, fontweight="bold", y=1 - MARGIN / size[1], va="top", fontsize=TITLE)
        axes = add(figure, (wide, MARGIN, WIDTH - 2 * wide, depth))
        axes.set(xlim=(values[-1] - 9 * reach, min(values[0] + 9 * reach, 100)), ylim=(depth, 0), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(axis, fontsize=SMALL)
        for side, places in sides.items():
            y, edge = bars, axes.get_xlim()[side == "right"]
            for place in places:
                middle = y + heights[place] / 2
                axes.plot([values[place]] * 2 + [edge], [0, middle, middle], color="0.45", linewidth=0.8, clip_on=False)
                offset = {"xytext": (4 if side == "right" else -4, 0), "textcoords": "offset points"}
                align = {"ha": "left" if side == "right" else "right", "va": "center", "fontsize": SMALL}
                axes.annotate(labels[place], (edge, middle), annotation_clip=False, **offset, **align)
                y += heights[place]
        for level, spans in enumerate(levels, start=1):
            for span in spans:
                axes.plot(span, [level * _BAR] * 2, color="0.1", linewidth=3, solid_capstyle="butt", zorder=3)


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
    names = [wrap(name, 1.7) for name in sets]
    left = max(map(width, names)) + 0.15
    panel = min(2.2, (WIDTH - left - 2 * MARGIN - 0.15 * (columns - 1)) / columns)
    high = 0.2 + sum(height(name) + 0.06 for name in names)
    legend_columns, foot = legend_size(_SIZES, 4.0)
    layout = Layout(
        "What image size is worth",
        [wrap(title, panel) for title in rows],
        columns,
        (panel, high),
        left=left,
        foot=foot,
        least=4.0,
    )
    with canvas(path, layout.size) as figure:
        grid = layout.draw(figure)
        low = min(50, *(value for of_row in rows.values() for pair in of_row.values() for value in pair))
        for place, (axes, of_row) in enumerate(zip(grid, rows.values(), strict=True)):
            handles = _dumbbells(axes, [(y, *of_row[name]) for y, name in enumerate(sets) if name in of_row])
            axes.set(xlim=(low - 2, 102), ylim=(len(sets) - 0.4, -0.6))
            axes.set_yticks(range(len(sets)), names)
            axes.tick_params(labelbottom=layout.last(place), labelleft=place % columns == 0)
            axes.set_xlabel("AUROC (%)" if layout.last(place) else "", fontsize=SMALL)
        legend(figure, handles, _SIZES, legend_columns)


def _dumbbells(axes: Any, ends: Sequence[tuple[int, float, float]]) -> list[Any]:
    """ends: (line, native, ID resolution) of each set. The dots, as _SIZES names them."""
    y, native, at_id = (list(values) for values in zip(*ends, strict=True))
    axes.hlines(y, native, at_id, color="0.6", linewidth=1.5, zorder=1)
    filled = axes.scatter(at_id, y, s=20, color=COLOURS[0], label=_SIZES[0], zorder=2)
    hollow = axes.scatter(
        native, y, s=30, facecolor="none", edgecolor=COLOURS[1], linewidth=1.3, label=_SIZES[1], zorder=3
    )
    axes.axvline(50, color="0.8", linestyle=":", linewidth=1, zorder=0)
    axes.grid(axis="y", alpha=0.3)
    return [filled, hollow]
