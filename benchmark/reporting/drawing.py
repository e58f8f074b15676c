"""Which figures a results folder has: each drawn from its records and scores, again only where these changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.records import records, score_files
from benchmark.records.frames import ALL, COUNTED, View, frame
from benchmark.records.ranking import Ranking
from benchmark.records.records import Record
from benchmark.records.resolutions import Pairs
from benchmark.records.significance import Significance
from benchmark.store import files, keys

DRAWN = "drawn.json"


@dataclass(frozen=True)
class Figure:
    """A figure: its path below the results folder, the key of what it shows, and how it is drawn."""

    path: str
    key: str
    draw: Callable[[Path], None]


def draw(
    folder: Path, found: list[Record], shown: View, compared: Significance | None, both: Pairs, *, redraw: bool
) -> None:
    """Draw the figures that are not there, or whose records changed since; with `redraw` all of them.

    compared: the tests of the rows, None without scores. both: AUROCs at both resolutions, empty without the other.
    """
    drawn = {} if redraw else _read(folder / DRAWN)
    todo = [
        figure
        for figure in (*_Results(folder, found, shown).figures(), *_comparisons(Ranking(found, shown), compared, both))
        if drawn.get(figure.path) != figure.key or not (folder / figure.path).is_file()
    ]
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


def _comparisons(rows: Ranking, compared: Significance | None, both: Pairs) -> Iterator[Figure]:
    from benchmark.reporting import comparisons

    source = keys.source("benchmark.reporting.comparisons")
    if compared is not None:
        means = [(_label(rows.view)[row], 100 * mean) for row, mean in compared.means.items()]
        place = {row: at for at, row in enumerate(compared.means)}
        groups = [(place[group[0]], place[group[-1]]) for group in compared.groups()]
        path, key = "figures/critical_difference.png", keys.digest(content=[means, groups], source=source)
        yield Figure(path, key, partial(comparisons.critical_difference, means, groups))
    shown = {
        _label(rows.view)[row]: {rows.title[name]: both[row][name] for name in rows.sets if name in both[row]}
        for row in rows.main
        if row in both
    }
    if shown:
        key = keys.digest(content=list(shown.items()), source=source)
        yield Figure("figures/resolution.png", key, partial(comparisons.resolution_difference, shown))


def _label(shown: View) -> dict[str, str]:
    return {name: f"{title}, {encoder}" for name, title, encoder in shown.rows}


class _Results:
    """The measured rows of a results folder, and their scores."""

    def __init__(self, folder: Path, found: list[Record], shown: View) -> None:
        self.folder, self.found, self.shown = folder, found, shown
        self.done: dict[str, list[Record]] = {}
        for record in found:
            if record["kind"] == "result" and record["status"] == "done":
                self.done.setdefault(record["row"], []).append(record)
        self.rows = {name: label for name, label in _label(shown).items() if name in self.done}

    def figures(self) -> Iterator[Figure]:
        if not self.rows:
            return
        self.rows = {name: label for name, label in self.rows.items() if self._at_hand(name)}
        of_row = {name: [label, sorted(r["key"] for r in self.done[name])] for name, label in self.rows.items()}
        for name in self.rows:
            path = f"figures/histograms/{records.safe_name(name)}.png"
            yield Figure(path, self._key(of_row[name]), partial(self._histograms, name))
        if self.rows:
            yield Figure("figures/roc.png", self._key(of_row), self._roc)
        points = self._points()
        if points:
            yield Figure("figures/speed.png", self._key(points), partial(self._speed, points))

    def _key(self, content: Any) -> str:
        return keys.digest(content=content, ood=self.shown.ood, source=keys.source("benchmark.reporting.figures"))

    def _first(self, row: str) -> dict[str, Record]:
        """The records of the first seed, by OOD set."""
        seed = min(record["seed"] for record in self.done[row])
        return {record["ood"]["name"]: record for record in self.done[row] if record["seed"] == seed}

    def _at_hand(self, row: str) -> bool:
        return all(score_files.fit(self.folder, record) for record in self._first(row).values())

    def _scores(self, row: str) -> tuple[Any, dict[str, Any]]:
        """Scores of the ID set, and of each OOD set by its title, near sets first; of the first seed."""
        there = self._first(row)
        ood = {
            title: score_files.read(self.folder, there[name], "ood")
            for name, title, _ in self.shown.near_first()
            if name in there
        }
        return score_files.read(self.folder, next(iter(there.values())), "id"), ood

    def _histograms(self, row: str, path: Path) -> None:
        from benchmark.reporting import figures

        id_scores, ood = self._scores(row)
        groups = {title: group for _, title, group in self.shown.ood}
        figures.histograms(self.rows[row], id_scores, ood, path, id_title=self.shown.id_title, groups=groups)

    def _roc(self, path: Path) -> None:
        from benchmark.reporting import figures

        curves = {}
        counted = {title for _, title, group in self.shown.ood if group in COUNTED}  # as the averages in its legend
        for row, label in self.rows.items():
            ids, ood = self._scores(row)
            curves[label] = {title: (ids, oods) for title, oods in ood.items() if title in counted}
        figures.roc_curves({label: sets for label, sets in curves.items() if sets}, path)

    def _points(self) -> list[tuple[str, float, float, str]]:
        """(title, average AUROC, images a second, encoder) of every row that is timed and measured on all sets."""
        table = frame(self.found, self.shown)
        average = ALL if len(self.shown.ood) > 1 else self.shown.ood[0][0]
        lines = table[(table["ood"] == average) & (table["status"] == "done") & table["images_per_second"].notna()]
        return [
            (line["title"], line["auroc"], line["images_per_second"], line["encoder"])
            for line in lines.to_dict("records")
            if not line["sanity"]
        ]

    def _speed(self, points: list[tuple[str, float, float, str]], path: Path) -> None:
        from benchmark.reporting import figures

        figures.speed(points, path)
