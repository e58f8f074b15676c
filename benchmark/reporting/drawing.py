"""Which figures a results folder has: each drawn from its records and scores, again only where these changed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from benchmark.records import names, scores
from benchmark.records.frames import COUNTED, View, timed
from benchmark.records.ranking import Ranking
from benchmark.records.records import Record
from benchmark.records.resolutions import Pairs
from benchmark.records.significance import Significance
from benchmark.reporting.drawers import Draw, Drawers, Gone
from benchmark.store import files, keys

DRAWN = "drawn.json"
_ALONE = 2  # so few figures are drawn here: another process would begin by importing what that takes


@dataclass(frozen=True)
class Figure:
    """A figure: its path below the results folder without the ending, the key of what it shows, how it is drawn."""

    path: str
    key: str
    draw: Draw

    def files(self, pdf: bool) -> list["Figure"]:
        """With the endings of its files."""
        return [replace(self, path=f"{self.path}.{ending}") for ending in (("png", "pdf") if pdf else ("png",))]


def draw(
    folder: Path,
    found: list[Record],
    shown: View,
    compared: Significance | None,
    both: Pairs,
    *,
    redraw: bool,
    pdf: bool = False,
    drawers: Drawers | None = None,
    ahead: Mapping[str, str] | None = None,
) -> None:
    """Draw the figures that are not there, or whose records changed since; with `redraw` all of them.

    compared: the tests of the rows, None without scores. both: AUROCs at both resolutions, empty without the other.
    pdf: each as PDF as well. drawers: who draws where there are many; None: this process. ahead: what was drawn
    already, path -> key.
    """
    drawn = {} if redraw else {**read(folder), **(ahead or {})}
    every = (*measured(folder, found, shown), *comparing(Ranking(found, shown), compared, both))
    todo = [
        one
        for figure in every
        for one in figure.files(pdf)
        if drawn.get(one.path) != one.key or not (folder / one.path).is_file()
    ]
    given: dict[str, Future[None]] = {}
    if drawers is not None and len(todo) > _ALONE:  # the last first: they show all rows, and take longest
        given = {figure.path: begin(folder, figure, drawers) for figure in reversed(todo)}
    try:
        for figure in tqdm(todo, desc="draw", unit="figure", delay=2, leave=False):
            _finish(folder, figure, given.get(figure.path))
            drawn[figure.path] = figure.key
    finally:
        if todo or ahead:
            files.write_atomically(folder / DRAWN, files.text(files.sealed(drawn)))


def begin(folder: Path, figure: Figure, drawers: Drawers) -> "Future[None]":
    """Have a figure drawn elsewhere."""
    (folder / figure.path).parent.mkdir(parents=True, exist_ok=True)
    return drawers.give(figure.draw, folder / figure.path)


def _finish(folder: Path, figure: Figure, future: "Future[None] | None") -> None:
    with suppress(Gone):
        if future is not None:
            future.result()
            return
    (folder / figure.path).parent.mkdir(parents=True, exist_ok=True)
    figure.draw(folder / figure.path)


def read(folder: Path) -> dict[str, str]:
    """What is drawn in a results folder: path -> key."""
    try:
        return {path: key for path, key in files.read_sealed(folder / DRAWN).items() if path != "checksum"}
    except (OSError, ValueError):
        return {}


def of_row(folder: Path, found: list[Record], shown: View, row: str) -> Figure | None:
    """The histograms of a row, where there is something to draw them from."""
    results = _Results(folder, found, shown)
    return results.histograms(row) if row in results.rows else None


def measured(folder: Path, found: list[Record], shown: View) -> Iterator[Figure]:
    """The figures of what was measured: they need scores, or the quantiles that records hold of them, or speeds."""
    return _Results(folder, found, shown).figures()


def comparing(rows: Ranking, compared: Significance | None, both: Pairs) -> Iterator[Figure]:
    """The figures that compare rows: they need no scores, only what was computed from them."""
    from benchmark.reporting import comparisons

    source = keys.source("benchmark.reporting.comparisons")
    if compared is not None and len(compared.means) > 1:  # of two, one may be the other with its sign changed
        means = [(_label(rows.view)[row], 100 * mean) for row, mean in compared.means.items()]
        place = {row: at for at, row in enumerate(compared.means)}
        groups = [(place[group[0]], place[group[-1]]) for group in compared.groups()]
        path, key = "figures/critical_difference", keys.digest(content=[means, groups], source=source)
        yield Figure(path, key, partial(comparisons.critical_difference, means, groups))
    titles = _distinct(rows.title)
    shown = {
        _label(rows.view)[row]: {titles[name]: both[row][name] for name in rows.sets if name in both[row]}
        for row in rows.main
        if row in both
    }
    if shown:
        key = keys.digest(content=list(shown.items()), source=source)
        yield Figure("figures/resolution", key, partial(comparisons.resolution_difference, shown))


def _label(shown: View) -> dict[str, str]:
    return _distinct({name: f"{title}, {encoder}" for name, title, encoder in shown.rows})


def _distinct(titles: Mapping[str, str]) -> dict[str, str]:
    """Titles by name, with the name behind those that stand twice."""
    twice = Counter(titles.values())
    return {name: title if twice[title] == 1 else f"{title} ({name})" for name, title in titles.items()}


class _Results:
    """The measured rows of a results folder, and their scores."""

    def __init__(self, folder: Path, found: list[Record], shown: View) -> None:
        self.folder, self.found, self.shown = folder, found, shown
        self.done: dict[str, list[Record]] = {}
        for record in found:
            if record["kind"] == "result" and record["status"] == "done":
                self.done.setdefault(record["row"], []).append(record)
        self.titles = _distinct({name: title for name, title, _ in shown.ood})
        self.rows = {name: label for name, label in _label(shown).items() if name in self.done}
        self._known: dict[str, list[Any]] = {}

    def figures(self) -> Iterator[Figure]:
        from benchmark.reporting import figures, speeds

        seen: dict[str, Any] = {}
        for name in self.rows:
            if (histograms := self.histograms(name)) is not None:
                seen[name] = self._about(name)
                yield histograms
        counted = {name: self.titles[name] for name, _, group in self.shown.ood if group in COUNTED}
        curves = {
            self.rows[row]: {counted[name]: record for name, record in self._first(row).items() if name in counted}
            for row in seen
        }
        if any(name in counted for _, sources in seen.values() for name, *_ in sources):
            yield Figure("figures/roc", self._key(seen), partial(figures.roc_of, self.folder, curves))
        points = self._points()
        if points:
            key = keys.digest(content=points, source=keys.source("benchmark.reporting.speeds"))
            yield Figure("figures/speed", key, partial(speeds.speed, points))

    def histograms(self, row: str) -> Figure | None:
        """Of one row; None where there is nothing to draw from."""
        from benchmark.reporting import figures

        if not (about := self._about(row))[1]:
            return None
        records = {self.titles[name]: record for name, record in self._first(row).items()}
        groups = {self.titles[name]: group for name, _, group in self.shown.ood}
        shown = {"id_title": self.shown.id_title, "groups": groups}
        draw = partial(figures.row_histograms, self.folder, self.rows[row], records, shown)
        return Figure(f"figures/histograms/{names.safe_name(row)}", self._key(about), draw)

    def _about(self, row: str) -> list[Any]:
        """What a row's figures show: its label; of each set name, key of the record, and scores or quantiles."""
        if row not in self._known:
            found = ((name, record, scores.source(self.folder, record)) for name, record in self._first(row).items())
            sources = [[name, record["key"], source] for name, record, source in found if source is not None]
            self._known[row] = [self.rows[row], sources]
        return self._known[row]

    def _key(self, content: Any) -> str:
        return keys.digest(content=content, ood=self.shown.ood, source=keys.source("benchmark.reporting.figures"))

    def _first(self, row: str) -> dict[str, Record]:
        """The records of a row's first seed by OOD set, near sets first."""
        seed = min(record["seed"] for record in self.done[row])
        there = {record["ood"]["name"]: record for record in self.done[row] if record["seed"] == seed}
        return {name: there[name] for name, _, _ in self.shown.near_first() if name in there}

    def _points(self) -> list[tuple[str, float, float, str]]:
        """(title, average AUROC, images a second, encoder) of every row that is timed and measured on all sets."""
        return [
            (line["title"], line["auroc"], line["images_per_second"], line["encoder"])
            for line in timed(self.found, self.shown)
        ]
