"""Which rows differ by more than the noise of test images and trainings: paired tests on mean AUROC, Holm-corrected.

The family of tests is named before anything is measured: all pairs of the suite's rows, measured or not.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmark import shown
from benchmark.metrics import Floats
from benchmark.records import score_files
from benchmark.records.frames import ALL, Record, View, is_sanity, results_of
from benchmark.records.paired import LEVEL, Placements, holm, paired_test, placements
from benchmark.records.searching import state

TESTS = "significance.csv"
_ROUNDED = 0.006  # points: its differences have two decimals
Group = tuple[str, ...]
Seed = int | None  # None: of a row that every seed gives alike


@dataclass(frozen=True)
class Pair:
    """Two rows, the better first. difference: of their mean AUROC, a fraction; p, p_holm: as tested, and corrected."""

    a: str
    b: str
    difference: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Significance:
    """Every pair of rows that are measured on all OOD sets and whose scores are there.

    means: row -> mean AUROC over OOD sets and seeds, a fraction, best first. pairs: in that order. tests: of the
    family that was named, and corrected as one. trainings: row -> how many, of those that are trained. mirrored: a row
    that is another's score with the other sign -> that one; it is not tested apart.
    """

    means: Mapping[str, float]
    pairs: tuple[Pair, ...]
    tests: int = 0
    trainings: Mapping[str, int] = field(default_factory=dict)
    mirrored: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _p(self) -> dict[frozenset[str], float]:
        return {frozenset((pair.a, pair.b)): pair.p_holm for pair in self.pairs}

    def p(self, a: str, b: str) -> float | None:
        """The corrected p-value of two rows in either order; None where they were not compared."""
        return self._p.get(frozenset((a, b)))

    def groups(self) -> list[Group]:
        """The longest runs of neighbours by mean AUROC in which no pair differs significantly; of two rows at least."""
        rows, runs, reached = list(self.means), [], 0
        for start in range(len(rows)):
            end = start + 1
            while end < len(rows) and all(self._alike(row, rows[end]) for row in rows[start:end]):
                end += 1
            if end > max(reached, start + 1):
                runs.append(tuple(rows[start:end]))
            reached = max(reached, end)
        return runs

    def _alike(self, a: str, b: str) -> bool:
        return self._p[frozenset((a, b))] >= LEVEL

    def csv(self) -> str:
        """One line for each pair: the better row, the other, their difference in percent, p and corrected p."""
        heads = ("row_a", "row_b", "auroc_difference", "p", "p_holm")
        lines = (
            (pair.a, pair.b, f"{100 * pair.difference:.2f}", f"{pair.p:.3g}", f"{pair.p_holm:.3g}")
            for pair in self.pairs
        )
        return shown.csv((dict(zip(heads, line, strict=True)) for line in lines), heads)


def compare(rows: Mapping[str, Mapping[Seed, Placements]], tests: int = 0) -> Significance:
    """All pairs of rows, each by seed. ValueError where two rows have other numbers of images.

    tests: of the family, where that has more than these pairs.
    """
    mirrored: dict[str, str] = {}
    for a, b in combinations(rows, 2):
        if a not in mirrored and _mirror(rows[a], rows[b]):
            mirrored[b] = a
    means = {row: float(np.mean([one.auroc for one in seeds.values()])) for row, seeds in rows.items()}
    means = {row: means[row] for row in sorted(means, key=lambda row: -means[row]) if row not in mirrored}
    pairs = list(combinations(means, 2))
    p_values = [paired_test(*_in_pairs(rows[a], rows[b])) for a, b in pairs]
    tests = max(tests, len(pairs))
    corrected = zip(pairs, p_values, holm(p_values, tests), strict=True)
    return Significance(
        means,
        tuple(Pair(a, b, means[a] - means[b], p, p_holm) for (a, b), p, p_holm in corrected),
        tests,
        {row: len(rows[row]) for row in means if None not in rows[row]},
        mirrored,
    )


def _in_pairs(a: Mapping[Seed, Placements], b: Mapping[Seed, Placements]) -> tuple[list[Placements], list[Placements]]:
    """The trainings of two rows that belong together: those of one seed; else, being independent, in their order."""
    if None in a or None in b:
        both = [list(row.values()) * (1 if len(row) > 1 else max(len(a), len(b))) for row in (a, b)]
        return both[0], both[1]
    seeds = [seed for seed in a if seed in b]
    pairs = [(a[seed], b[seed]) for seed in seeds] or list(zip(a.values(), b.values(), strict=False))
    return [x for x, _ in pairs], [y for _, y in pairs]


def _mirror(a: Mapping[Seed, Placements], b: Mapping[Seed, Placements]) -> bool:
    """Whether b orders all images the other way round, in every training: one score with two signs."""
    return a.keys() == b.keys() and all(
        len(x) == len(y) and np.allclose(x + y, 1)
        for seed in a
        for x, y in zip((a[seed].id, *a[seed].ood), (b[seed].id, *b[seed].ood), strict=True)
    )


def of_folder(folder: Path, found: Sequence[Record], view: View) -> Significance | None:
    """The comparison of a results folder's rows by their scores; None where there are not two to compare.

    A row takes part where its records are there for every OOD set of the view's average, with their scores, on the
    images that most rows are measured on. Rows that check the harness do not. A committed folder has no scores, but the
    p-values that came from them.
    """
    complete = dict(_complete(found, view))
    images = {row: _images(next(iter(seeds.values()))) for row, seeds in complete.items()}
    common = Counter(images.values()).most_common(1)
    rows: dict[str, dict[Seed, Placements]] = {}
    for row, seeds in complete.items():
        if images[row] == common[0][0]:
            try:
                rows[row] = {
                    seed if _drawn(seeds) else None: placed(folder, of_seed) for seed, of_seed in seeds.items()
                }
            except (OSError, ValueError, EOFError):  # committed folders have records alone; a file may be cut short
                continue
    if rows or not complete or not (folder / TESTS).is_file():
        return compare(rows, view.tests) if len(rows) > 1 else None
    return _as_tested(folder / TESTS, complete, view.tests)


def _as_tested(path: Path, complete: Mapping[str, Mapping[int, Sequence[Record]]], tests: int) -> Significance | None:
    """The comparison that is written there, whose scores are gone: the p-values stay, and are corrected anew.

    None, and it is told, where its differences are not those of these records: it was made from others.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    p_values = {(line["row_a"], line["row_b"]): float(line["p"]) for line in lines}
    aurocs = {
        row: {
            seed: np.array([record["metrics"]["auroc"] for record in of_seed])
            for seed, of_seed in complete[row].items()
        }
        for row in complete
        if any(row in pair for pair in p_values)
    }
    mirrored = {
        b: a
        for a, b in combinations(aurocs, 2)
        if all(seed in aurocs[b] and np.allclose(one + aurocs[b][seed], 1) for seed, one in aurocs[a].items())
    }
    means = {row: float(np.mean(list(aurocs[row].values()))) for row in aurocs if row not in mirrored}
    means = {row: means[row] for row in sorted(means, key=lambda row: -means[row])}
    for line in lines:
        a, b = (means.get(line[name]) for name in ("row_a", "row_b"))
        if a is not None and b is not None and abs(100 * (a - b) - float(line["auroc_difference"])) > _ROUNDED:
            print(f"note: {path}: left out, because it was made from other records", file=sys.stderr)
            return None
    found = [(a, b, p_values.get((a, b), p_values.get((b, a)))) for a, b in combinations(means, 2)]
    pairs = [(a, b, p) for a, b, p in found if p is not None]
    corrected = zip(pairs, holm([p for _, _, p in pairs], tests), strict=True)
    return Significance(
        means,
        tuple(Pair(a, b, means[a] - means[b], p, p_holm) for (a, b, p), p_holm in corrected),
        max(tests, len(pairs)),
        {row: len(complete[row]) for row in means if _drawn(complete[row])},
        mirrored,
    )


def _drawn(seeds: Mapping[int, Sequence[Record]]) -> bool:
    """Whether another seed would give the row other scores."""
    return len(seeds) > 1 or any(record.get("random_fit") for of_seed in seeds.values() for record in of_seed)


def _complete(found: Sequence[Record], view: View) -> Iterator[tuple[str, dict[int, list[Record]]]]:
    """Of each row that is measured on all sets: the records of each seed that is, set by set."""
    cells, sets = results_of(found, view), view.over(ALL)
    for row, _, _ in view.rows:
        of_row = [{r["seed"]: r for r in cells.get((row, name), []) if r["status"] == "done"} for name in sets]
        whole = sorted(set.intersection(*map(set, of_row))) if of_row else []
        if whole and not is_sanity(row, [of_row[0][whole[0]]]) and state([of_row[0][whole[0]]]) != "swept":
            yield row, {seed: [of_set[seed] for of_set in of_row] for seed in whole}


def _images(of_seed: Sequence[Record]) -> str:
    """What the records say of the images that a row is measured on."""
    return repr([(record["id"]["n"], record["ood"]["n"], record["provenance"].get("data")) for record in of_seed])


def placed(folder: Path, of_seed: Sequence[Record]) -> Placements:
    """The placements of one row and seed. ValueError where scores are not those of the record."""

    def load(record: Record, side: score_files.Side) -> Floats:
        return np.asarray(score_files.read(folder, record, side), dtype=np.float64)

    return placements(load(of_seed[0], "id"), [load(record, "ood") for record in of_seed])
