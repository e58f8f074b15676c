"""A view's table for a terminal: what fits its width, the best bold, and in words what is not shown."""

import math
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import environ
from pathlib import Path

from benchmark.planning.suite import UsageError
from benchmark.records.frames import ALL, COMMON, FAR, NEAR, Record, View
from benchmark.reporting import footnotes
from benchmark.reporting.cells import NONE, SEPARABLE, Grid
from benchmark.shown import printable
from methods.base import nearest

EVERY = "all"
PROSE = 120  # characters of a line to read, however wide the terminal is
OF_ROWS = ("accuracy", "speed")  # columns beside those of OOD sets and averages
NEXT = {
    "report.html": "the whole of it, in a browser",
    "findings.md": "what the numbers say",
    "table.md": "the whole table, with intervals and how to read it",
}
Groups = Sequence[tuple[str, Sequence[tuple[str, str]]]]  # encoder, and its rows: (row, title)
_BEST = re.compile(r"[\d.]+\*")


@dataclass(frozen=True)
class Look:
    """How a table is shown. `columns`: names, titles or groups of sets, `average`, `accuracy`, `speed`, or `all`.

    These in as many blocks as they need; () = as many as fit, averages first. `all_rows`: also those that check the
    harness or the sets. `by_average`: the best first, over all encoders; else as the suite has them. `width`: in
    characters. `bold`: with a terminal's escapes, else the best has its star alone.
    """

    columns: tuple[str, ...] = ()
    all_rows: bool = False
    by_average: bool = False
    width: int = 120
    bold: bool = False


WHOLE = Look(columns=(EVERY,), all_rows=True)


def fitting(*, columns: Sequence[str], all_rows: bool, by_average: bool) -> Look:
    """What is asked for, as stdout can show it: of its width where it is a terminal."""
    bold = sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    width = max(40, shutil.get_terminal_size((Look.width, 24)).columns)
    return Look(tuple(columns), all_rows, by_average, width, bold)


def check(columns: Iterable[str], view: View) -> None:
    """UsageError, in one line, for a name that no column of the view has."""
    averages = {word for name, _ in view.averages() for word in _words(name, "", "")}
    valid = {word for column in view.ood for word in _words(*column)} | averages | {EVERY, *OF_ROWS}
    for name in columns:
        if name.casefold() not in {word.casefold() for word in valid}:
            raise UsageError(f"--columns: no column {name!r}; {nearest(name, valid)}")


def next_to_open(folder: Path) -> str:
    """One line: which file of a results folder to open, and what it is; "" where there is none."""
    name = next((name for name in NEXT if (folder / name).is_file()), None)
    return "" if name is None else f"open next: {folder / name} ({NEXT[name]})"


@dataclass(frozen=True)
class _Column:
    """Strings by row: ours, and beneath them the published ones and how far ours are from them."""

    name: str  # of an OOD set or average; else one of OF_ROWS
    words: frozenset[str]  # what `--columns` may call it
    rank: int  # the lower, the sooner it is given room
    title: str
    group: str
    ours: dict[str, str]
    published: dict[str, str] = field(default_factory=dict)
    difference: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return max(
            (len(cell) for of in (self.ours, self.published, self.difference) for cell in of.values()), default=0
        )


def _words(name: str, title: str, group: str) -> frozenset[str]:
    """What a column is called: an average over near sets stands with them, and so of far ones."""
    of = {NEAR: ("near", "near average"), FAR: ("far", "far average")}.get(name, (group, title))
    return frozenset({name, *of, title.removesuffix(f" {SEPARABLE}")} - {""})


def text(records: Iterable[Record], view: View, look: Look = WHOLE) -> str:
    """The table for a terminal, and below it what a reader must know."""
    grid = Grid(records, view)
    columns = list(_columns(grid))
    wide = max([13, *(column.width for column in columns)])
    named = _in_order(grid, look)
    longest = max((len(printable(title)) for _, rows in named for _, title in rows), default=0)
    margin = min(longest + 2, look.width // 2)
    fit = max(1, (look.width - margin) // (wide + 2))
    shown, left_out = _chosen(columns, look, fit)
    groups, hidden = _detectors(grid, named, [column.name for column in shown], look)
    if "accuracy" not in {column.name for column in shown}:
        groups = [(_with_accuracy(grid, encoder, rows), rows) for encoder, rows in groups]
    blocks = max(1, math.ceil(len(shown) / fit))
    size = max(1, math.ceil(len(shown) / blocks))  # blocks of about the same width, not one full and one with a column
    what = f"ID: {view.id_title}. {grid.directions} in percent, * = best of the column."
    parts = ["\n".join(textwrap.fill(printable(line), look.width) for line in (view.title, what))]
    for start in range(0, len(shown), size):
        parts.append("\n".join(_block(groups, shown[start : start + size], margin, wide, look.bold)))
    not_shown = [f"{', '.join(left_out)}, for want of width (--columns NAME ..., or all)"] * bool(left_out)
    not_shown += [f"{', '.join(hidden)}, which check harness and sets (--all-rows)"] * bool(hidden)
    below = [f"Not shown: {'; '.join(not_shown)}."] if not_shown else []
    below += [*grid.below, *(f"absent: {line}" for line in footnotes.absent(view))]
    parts.append(
        "\n".join(textwrap.fill(printable(line), min(look.width, PROSE), subsequent_indent="    ") for line in below)
    )
    return "\n\n".join(parts) + "\n"


def _in_order(grid: Grid, look: Look) -> Groups:
    """All rows, below their encoders as the suite has them, or over all encoders."""
    if not look.by_average:
        return list(grid.encoders.items())
    several = len(grid.encoders) > 1
    rows = [
        (row, f"{title}, {encoder}" if several else title)
        for encoder, of_encoder in grid.encoders.items()
        for row, title in of_encoder
    ]
    head = "best on average first" if several else "".join(grid.encoders)
    return [(head, sorted(rows, key=lambda line: grid.place(line[0])))]


def _detectors(grid: Grid, groups: Groups, columns: Sequence[str], look: Look) -> tuple[Groups, list[str]]:
    """The rows that are shown, and the titles of those that are not: those that check something.

    One that is the best of a column is shown: it may not hide that.
    """
    hidden = set() if look.all_rows else {row for row in grid.checking if not grid.is_best(row, columns)}
    if hidden >= {row for _, rows in groups for row, _ in rows}:
        return groups, []
    kept = [(encoder, [line for line in rows if line[0] not in hidden]) for encoder, rows in groups]
    return [group for group in kept if group[1]], [title for _, rows in groups for row, title in rows if row in hidden]


def _columns(grid: Grid) -> Iterator[_Column]:
    rows = [row for of_encoder in grid.encoders.values() for row, _ in of_encoder]
    for ood, title, group in grid.columns:
        yield _Column(
            ood,
            _words(ood, title, group),
            _rank(grid.view, ood, group),
            printable(title),
            group,
            {row: _cell(grid, row, ood) for row in rows},
            {row: grid.published(row, ood) for row in rows},
            {row: grid.difference(row, ood) for row in rows},
        )
    if grid.has_accuracy:
        yield _Column(
            "accuracy", frozenset({"accuracy"}), 4, "ID accuracy ↑", "", {row: grid.accuracy(row) for row in rows}
        )
    if grid.has_speed:
        speeds = {row: grid.speed(row) for row in rows}, {row: grid.published_speed(row) for row in rows}
        yield _Column("speed", frozenset({"speed"}), 4, "images/s ↑", "", *speeds)


def _rank(view: View, ood: str, group: str) -> int:
    """Averages before sets, near sets before far ones, what no average counts last; and an average over one set."""
    if group:
        return {"near": 2, "far": 3}.get(group, 5)
    average = ood in {name for name, _ in view.averages()}
    if not average:
        return 3
    return 6 if len(view.over(ood)) == 1 else {ALL: 0, NEAR: 1, FAR: 1, COMMON: 1}.get(ood, 4)


def _chosen(columns: Sequence[_Column], look: Look, fit: int) -> tuple[list[_Column], list[str]]:
    """The columns that are shown, in their order, and the titles of those for which there is no room."""
    wanted = {name.casefold() for name in look.columns}
    if EVERY in wanted:
        return list(columns), []
    if wanted:
        return [column for column in columns if wanted & {word.casefold() for word in column.words}], []
    first = sorted(range(len(columns)), key=lambda place: columns[place].rank)[:fit]
    return [columns[place] for place in sorted(first)], [c.title for n, c in enumerate(columns) if n not in first]


def _with_accuracy(grid: Grid, encoder: str, rows: Sequence[tuple[str, str]]) -> str:
    found = {grid.accuracy(row) for row, _ in rows} - {NONE}
    return f"{encoder} (ID accuracy {found.pop()})" if len(found) == 1 else encoder


def _cell(grid: Grid, row: str, ood: str) -> str:
    figures = grid.figures(row, ood)
    if figures is None:
        return grid.mark(row, ood)
    return "/".join(f"{figure:>5}{'*' if rank == 'best' else ' '}" for figure, rank in figures)


def _block(
    groups: Groups,
    columns: Sequence[_Column],
    margin: int,
    wide: int,
    bold: bool,
) -> list[str]:
    heads = [[*textwrap.wrap(c.title, wide), *([f"({c.group})"] if c.group else [])] for c in columns]
    depth = max(map(len, heads))
    heads = [[""] * (depth - len(head)) + head for head in heads]
    lines = [" " * margin + "".join(f"  {head[i]:>{wide}}" for head in heads) for i in range(depth)]
    lines.append("-" * (margin + len(columns) * (wide + 2)))

    def line(name: str, cells: list[str]) -> None:
        if any(cells):
            filled = "".join(f"  {cell:>{wide}}" for cell in cells).rstrip()
            filled = _BEST.sub("\x1b[1m\\g<0>\x1b[0m", filled) if bold else filled
            lines.append(f"{name:<{margin}}{filled}")

    for encoder, rows in groups:
        lines.append(printable(encoder))
        for row, title in rows:
            name = printable(title)
            line(f"  {name if len(name) <= margin - 2 else f'{name[: margin - 3]}…'}", [c.ours[row] for c in columns])
            line("    published", [column.published.get(row, "") for column in columns])
            line("    difference", [column.difference.get(row, "") for column in columns])
    return [line.rstrip() for line in lines]
