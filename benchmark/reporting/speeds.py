"""AUROC against images per second: the rows that no other beats in both by name, the others by number."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.canvas import (
    COLOURS,
    MARGIN,
    MARKERS,
    SMALL,
    TINY,
    WIDTH,
    Layout,
    canvas,
    height,
    legend,
    legend_size,
    log_ticks,
    width,
    wrap,
)
from benchmark.metrics import Floats

Point = tuple[str, float, float, str]  # title, AUROC in percent, images per second, encoder title
_ANGLES = np.arange(16) * math.pi / 8
_APART = np.array([-3, 0, 3, 0])  # points: two numbers side by side are not one
_STEPS = np.arange(5, 80, 5)  # points: how far a label may stand from its point


def front(rows: Sequence[Point]) -> list[int]:
    """The places of the rows that no other beats in AUROC or speed without being beaten in the other, fastest first."""
    found: list[int] = []
    for place in sorted(range(len(rows)), key=lambda i: (-rows[i][2], -rows[i][1])):
        if not found or rows[place][1] > rows[found[-1]][1]:
            found.append(place)
    return found


def speed(rows: Sequence[Point], path: Path) -> None:
    """Mean AUROC in percent against images per second.

    The front is coloured and named, by encoder in colour and marker; all other rows are grey, with a number that the
    list below explains. ValueError for no rows.
    """
    if not rows:
        raise ValueError("no row has both an AUROC and a speed to draw")
    encoders = list(dict.fromkeys(encoder for *_, encoder in rows))
    named = front(rows)
    rest = sorted(set(range(len(rows))) - set(named), key=lambda i: -rows[i][1])
    numbers = {place: str(number) for number, place in enumerate(rest, start=1)}
    labels = [wrap(encoder, 3.0) for encoder in encoders]
    columns, high = legend_size(labels, WIDTH)
    several = len(encoders) > 1
    listed = [_entry(numbers[at], rows[at], several) for at in rest]
    lines, list_height = _columns(listed)
    foot = high + list_height
    layout = Layout("AUROC against speed", [""], 1, (6.9, 3.9), left=0.6, below_last=0.5, foot=foot)
    with canvas(path, layout.size) as figure:
        (axes,) = layout.draw(figure)
        from matplotlib.lines import Line2D

        for place, encoder in enumerate(encoders):
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            for group, style in ((rest, {"color": "0.65"}), (named, {"color": colour})):
                points = [(rows[i][2], rows[i][1]) for i in group if rows[i][3] == encoder]
                if points:
                    axes.scatter(*zip(*points, strict=True), s=26, marker=marker, zorder=2 + (group is named), **style)
        axes.set_xscale("log")
        axes.margins(0.12, 0.08)
        axes.set(xlabel="images per second, from stored bytes to score", ylabel="mean AUROC over OOD sets (%)")
        axes.grid(alpha=0.4)
        low, high = axes.get_xlim()
        if high < 3 * low:  # speeds that differ by a few percent do not look like more
            middle = math.sqrt(low * high)
            low, high = middle / math.sqrt(3), middle * math.sqrt(3)
            axes.set_xlim(low, high)
        log_ticks(axes.xaxis, low, high)
        _label(axes, rows, {i: wrap(rows[i][0], 2.2, lines=2) for i in named}, numbers)
        handles = [
            Line2D([], [], color=COLOURS[at % len(COLOURS)], marker=MARKERS[at % len(MARKERS)], linestyle="")
            for at in range(len(encoders))
        ]
        legend(figure, handles, labels, columns, up=list_height)
        _write(figure, lines, list_height)


def _entry(number: str, row: Point, several: bool) -> str:
    """A line of the list: number, row and AUROC."""
    title = f"{row[0]}, {row[3]}" if several else row[0]
    return f"{number}  {wrap(title, 3.1, TINY, lines=1)}  {row[1]:.1f}"


def _columns(listed: Sequence[str]) -> tuple[list[list[str]], float]:
    """The list in as many columns as fit, and its height in inches."""
    if not listed:
        return [], 0.0
    columns = max(1, min(4, int(WIDTH / (max(width(line, TINY) for line in listed) + 0.25))))
    each = math.ceil(len(listed) / columns)
    return [list(listed[i : i + each]) for i in range(0, len(listed), each)], each * height("x", TINY) + 0.1


def _write(figure: Any, columns: Sequence[Sequence[str]], high: float) -> None:
    wide, tall = figure.get_size_inches()
    step = (wide - 4 * MARGIN) / max(len(columns), 1)
    for place, lines in enumerate(columns):
        at = (2 * MARGIN + place * step) / wide, (MARGIN + high - 0.05) / tall
        figure.text(*at, "\n".join(lines), va="top", ha="left", fontsize=TINY, color="0.3", linespacing=1.22)


def _label(axes: Any, rows: Sequence[Point], names: dict[int, str], numbers: dict[int, str]) -> None:
    """Write each name and number where it covers no point and no other label, as near as that allows; in points."""
    inches = 72 / axes.figure.dpi
    points = axes.transData.transform([(rate, value) for _, value, rate, _ in rows]) * inches
    inside = axes.get_window_extent()
    room = np.array([inside.x0, inside.y0, inside.x1, inside.y1]) * inches
    taken = np.concatenate([points - 3.5, points + 3.5], axis=1)
    for place, text in (*names.items(), *numbers.items()):
        size = SMALL if place in names else TINY
        box = np.array([width(text, size), height(text, size)]) * 72
        offset = _place(points[place], box, taken, room)
        corners = np.concatenate([points[place] + offset, points[place] + offset + box])
        taken = np.vstack([taken, corners + _APART])
        gap = np.maximum(0, np.maximum(corners[:2] - points[place], points[place] - corners[2:]))
        line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            text,
            (rows[place][2], rows[place][1]),
            xytext=tuple(offset),
            textcoords="offset points",
            fontsize=size,
            color="0.1" if place in names else "0.4",
            va="bottom",
            arrowprops=line if np.hypot(*gap) > 8 else None,  # only where it is not near
        )


def _place(point: Floats, size: Floats, taken: Floats, room: Floats) -> Floats:
    """The offset of a box's lower left corner from its point that covers least, then lies nearest."""
    directions = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    offsets: Floats = (directions * (size / 2 + _STEPS[:, None, None]) - size / 2).reshape(-1, 2)
    boxes = np.concatenate([point + offsets, point + offsets + size], axis=1)
    covered = _overlap(boxes[:, None], taken[None]).sum(axis=1)
    outside = size.prod() - _overlap(boxes, room)
    best: Floats = offsets[int(np.argmin(np.round(covered + 10 * outside, 6)))]
    return best


def _overlap(a: Floats, b: Floats) -> Floats:
    across = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    area: Floats = across.clip(min=0).prod(axis=-1)
    return area
