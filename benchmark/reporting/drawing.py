"""Which figures a results folder has: each drawn from its records and scores, again only where these changed."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from benchmark.records import names, scores
from benchmark.records.frames import ALL, COUNTED, View, frame
from benchmark.records.ranking import Ranking
from benchmark.records.records import Record
from benchmark.records.resolutions import Pairs
from benchmark.records.scores import Cell
from benchmark.records.significance import Significance
from benchmark.store import files, keys

DRAWN = "drawn.json"


@dataclass(frozen=True)
class Figure:
    """A figure: its path below the results folder without the ending, the key of what it shows, how it is drawn."""

    path: str
    key: str
    draw: Callable[[Path], None]


def draw(
    folder: Path,
    found: list[Record],
    shown: View,
    compared: Significance | None,
    both: Pairs,
    *,
    redraw: bool,
    pdf: bool = False,
) -> None:
    """Draw the figures that are not there, or whose records changed since; with `redraw` all of them.

    compared: the tests of the rows, None without scores. both: AUROCs at both resolutions, empty without the other.
    pdf: each as PDF as well.
    """
    drawn = {} if redraw else _read(folder / DRAWN)
    todo = [
        replace(figure, path=f"{figure.path}.{extension}")
        for figure in (*measured(folder, found, shown), *comparing(Ranking(found, shown), compared, both))
        for extension in (("png", "pdf") if pdf else ("png",))
    ]
    todo = [one for one in todo if drawn.get(one.path) != one.key or not (folder / one.path).is_file()]
    for figure in tqdm(todo, desc="draw", unit="figure", delay=2, leave=False):
        (folder / figure.path).parent.mkdir(parents=True, exist_ok=True)
        figure.draw(folder / figure.path)
        drawn[figure.path] = figure.key
        files.write_atomically(folder / DRAWN, files.text(files.sealed(drawn)))


def _read(path: Path) -> dict[str, str]:
    try:
        return files.read_sealed(path)
    except (OSError, ValueError):
        return {}


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

    def figures(self) -> Iterator[Figure]:
        seen = {name: [self.rows[name], self._sources(name)] for name in self.rows}
        seen = {name: about for name, about in seen.items() if about[1]}
        for name in seen:
            path = f"figures/histograms/{names.safe_name(name)}"
            yield Figure(path, self._key(seen[name]), partial(self._histograms, name))
        counted = {name for name, _, group in self.shown.ood if group in COUNTED}
        if any(name in counted for _, sources in seen.values() for name, *_ in sources):
            yield Figure("figures/roc", self._key(seen), partial(self._roc, list(seen)))
        points = self._points()
        if points:
            key = keys.digest(content=points, source=keys.source("benchmark.reporting.speeds"))
            yield Figure("figures/speed", key, partial(self._speed, points))

    def _key(self, content: Any) -> str:
        return keys.digest(content=content, ood=self.shown.ood, source=keys.source("benchmark.reporting.figures"))

    def _first(self, row: str) -> dict[str, Record]:
        """The records of a row's first seed by OOD set, near sets first."""
        seed = min(record["seed"] for record in self.done[row])
        there = {record["ood"]["name"]: record for record in self.done[row] if record["seed"] == seed}
        return {name: there[name] for name, _, _ in self.shown.near_first() if name in there}

    def _sources(self, row: str) -> list[list[str]]:
        """What a row's figures are drawn from: of each set its name, the key of its record, scores or quantiles."""
        found = ((name, record, scores.source(self.folder, record)) for name, record in self._first(row).items())
        return [[name, record["key"], source] for name, record, source in found if source is not None]

    def _cells(self, row: str) -> dict[str, Cell]:
        """By the name of the OOD set, as far as they can be read."""
        cells = {name: scores.read(self.folder, record) for name, record in self._first(row).items()}
        return {name: cell for name, cell in cells.items() if cell is not None}

    def _histograms(self, row: str, path: Path) -> None:
        from benchmark.reporting import figures

        groups = {self.titles[name]: group for name, _, group in self.shown.ood}
        if cells := {self.titles[name]: cell for name, cell in self._cells(row).items()}:
            figures.histograms(self.rows[row], cells, path, id_title=self.shown.id_title, groups=groups)

    def _roc(self, rows: Sequence[str], path: Path) -> None:
        from benchmark.reporting import figures

        counted = {name for name, _, group in self.shown.ood if group in COUNTED}  # as the averages in its legend
        curves = {
            self.rows[row]: {self.titles[name]: cell for name, cell in self._cells(row).items() if name in counted}
            for row in rows
        }
        if any(curves.values()):
            figures.roc_curves(curves, path)

    def _points(self) -> list[tuple[str, float, float, str]]:
        """(title, average AUROC, images a second, encoder) of every row that is timed and measured on all sets."""
        table = frame(self.found, self.shown)
        average = ALL if len(self.shown.over(ALL)) > 1 else "".join(self.shown.over(ALL))
        lines = table[(table["ood"] == average) & (table["status"] == "done") & table["images_per_second"].notna()]
        return [
            (line["title"], line["auroc"], line["images_per_second"], line["encoder"])
            for line in lines.to_dict("records")
            if not line["sanity"]
        ]

    def _speed(self, points: list[tuple[str, float, float, str]], path: Path) -> None:
        from benchmark.reporting import speeds

        speeds.speed(points, path)
