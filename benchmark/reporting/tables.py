"""Records as tables: rows x OOD sets, each cell its metrics in percent. Here for a terminal and as CSV.

Every table takes the records (result and speed) and a `View` of them.
"""

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmark import shown
from benchmark.records.frames import Record, View, frame
from benchmark.reporting import footnotes
from benchmark.reporting.cells import Grid
from benchmark.reporting.markup import latex, markdown

__all__ = ["View", "csv", "frame", "latex", "markdown", "text"]


def csv(records: Iterable[Record], view: View) -> str:
    """`frame` as CSV: one line for each row and OOD set or average; percent with two decimals."""
    return shown.csv(frame(records, view))


@dataclass(frozen=True)
class _Column:
    """Strings by row: ours, and beneath them the published ones and how far ours are from them."""

    title: str
    group: str
    ours: dict[str, str]
    published: dict[str, str] = field(default_factory=dict)
    difference: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return max(len(cell) for cells in (self.ours, self.published, self.difference) for cell in cells.values())


def text(records: Iterable[Record], view: View, width: int = 110) -> str:
    """The table for a terminal: as many blocks of columns as fit `width`, each with the names of the rows."""
    grid = Grid(records, view)
    rows = [row for of_encoder in grid.encoders.values() for row, _ in of_encoder]
    columns = [
        _Column(
            title,
            group,
            {row: _cell(grid, row, ood) for row in rows},
            {row: grid.published(row, ood) for row in rows},
            {row: grid.difference(row, ood) for row in rows},
        )
        for ood, title, group in grid.columns
    ]
    if grid.has_accuracy:
        columns.append(_Column("ID accuracy ↑", "", {row: grid.accuracy(row) for row in rows}))
    if grid.has_speed:
        speeds = {row: grid.speed(row) for row in rows}, {row: grid.published_speed(row) for row in rows}
        columns.append(_Column("images/s ↑", "", *speeds))
    wide = max([13, *(column.width for column in columns)])
    titles = [title for of_encoder in grid.encoders.values() for _, title in of_encoder]
    margin = min(max(map(len, titles), default=0) + 2, max(20, width // 3))
    blocks = math.ceil(len(columns) / max(1, (width - margin) // (wide + 2)))
    size = math.ceil(len(columns) / blocks)  # blocks of about the same width, not one full and one with a column
    parts = [f"{view.title}\nID: {view.id_title}. {grid.directions} in percent, * = best of the column."]
    for start in range(0, len(columns), size):
        parts.append("\n".join(_block(grid, columns[start : start + size], margin, wide)))
    below = [*grid.below, *(f"absent: {line}" for line in footnotes.absent(view))]
    parts.append("\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in below))
    return "\n\n".join(parts) + "\n"


def _cell(grid: Grid, row: str, ood: str) -> str:
    figures = grid.figures(row, ood)
    if figures is None:
        return grid.mark(row, ood)
    return "/".join(f"{figure:>5}{'*' if rank == 'best' else ' '}" for figure, rank in figures)


def _block(grid: Grid, columns: list[_Column], margin: int, wide: int) -> list[str]:
    heads = [[*textwrap.wrap(c.title, wide), *([f"({c.group})"] if c.group else [])] for c in columns]
    depth = max(map(len, heads))
    heads = [[""] * (depth - len(head)) + head for head in heads]
    lines = [" " * margin + "".join(f"  {head[i]:>{wide}}" for head in heads) for i in range(depth)]
    lines.append("-" * (margin + len(columns) * (wide + 2)))

    def line(name: str, cells: list[str]) -> None:
        if any(cells):
            lines.append(f"{name:<{margin}}" + "".join(f"  {cell:>{wide}}" for cell in cells))

    for encoder, rows in grid.encoders.items():
        lines.append(encoder)
        for row, title in rows:
            name = title if len(title) <= margin - 2 else title[: margin - 3] + "…"
            line(f"  {name}", [column.ours[row] for column in columns])
            line("    published", [column.published.get(row, "") for column in columns])
            line("    difference", [column.difference.get(row, "") for column in columns])
    return [line.rstrip() for line in lines]
