"""Which rows differ by more than the noise of test images and trainings: paired tests on mean AUROC, Holm-corrected.

The family of tests is named before anything is measured: all pairs of the suite's rows, measured or not.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

from benchmark import shown
from benchmark.metrics import Floats
from benchmark.records import score_files
from benchmark.records.frames import ALL, Record, View, is_sanity, results_of

LEVEL = 0.05  # of the whole family of tests
TESTS = "significance.csv"
Group = tuple[str, ...]
Seed = int | None  # None: of a row that every seed gives alike


@dataclass(frozen=True)
class Placements:
    """How a row orders ID against OOD images, as shares in float64.

    id (m,): the share of OOD images above each ID image, the mean over OOD sets. ood: of each set (n_k,) the share of
    ID images below each OOD image. Ties count half.
    """

    id: Floats
    ood: tuple[Floats, ...]

    @property
    def auroc(self) -> float:
        """The mean AUROC over the OOD sets."""
        return float(np.mean([share.mean() for share in self.ood]))


def placements(id_scores: Floats, ood_scores: Sequence[Floats]) -> Placements:
    """From scores (m,) of the ID set and (n_k,) of each OOD set: by ranks, as Sun & Xu 2014."""
    m, alone = len(id_scores), _ranks(id_scores)
    above, below = np.zeros(m), []
    for scores in ood_scores:
        together = _ranks(np.concatenate([id_scores, scores]))
        above += 1 - (together[:m] - alone) / len(scores)
        below.append((together[m:] - _ranks(scores)) / m)
    return Placements(above / len(ood_scores), tuple(below))


def _ranks(values: Floats) -> Floats:
    """From 1, ties at the mean of theirs; scipy.stats has it too, and takes half a second to import."""
    ordered = np.sort(values)
    below, not_above = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    ranks: Floats = (below + not_above + 1) / 2
    return ranks


def mean(seeds: Sequence[Placements]) -> Placements:
    """The placements of a row with several seeds, whose AUROC is the mean of theirs."""
    sets = zip(*(seed.ood for seed in seeds), strict=True)
    return Placements(np.mean([seed.id for seed in seeds], axis=0), tuple(np.mean(shares, axis=0) for shares in sets))


def paired_test(a: Sequence[Placements], b: Sequence[Placements]) -> float:
    """Two-sided p-value for equal mean AUROC over K OOD sets of two rows, on the same images in the same order.

    a, b: one a training, in pairs. DeLong et al. 1988: the ID images are shared by all sets and the OOD sets are
    independent, so that the variance of the difference over images is var(id_a - id_b) / m + sum over k of
    var(ood_a - ood_b) / (K^2 n_k), with sample variances, here of the means over trainings. Of S > 1 trainings the
    variance of their differences, / S, is added, and Student's t taken with Satterthwaite's degrees of freedom (1946;
    images count as infinitely many). For K = S = 1 it is `metrics.delong_test`, also where the variance is 0 (there:
    the sign test on as many disjoint pairs as the smallest set has images) or a set has one image (1). Lengths that
    differ: ValueError.
    """
    counts = [[len(row.id), *map(len, row.ood)] for row in (*a, *b)]
    if any(count != counts[0] for count in counts):
        raise ValueError(f"a paired test needs the same images: {counts[0]} scores against {counts[-1]}")
    differences = np.array([x.auroc - y.auroc for x, y in zip(a, b, strict=True)])
    difference = abs(float(differences.mean()))
    if difference == 0 or min(counts[0]) < 2:
        return 1.0
    x, y = mean(a), mean(b)
    images = _variance_of_mean(x.id - y.id)
    images += sum(_variance_of_mean(p - q) for p, q in zip(x.ood, y.ood, strict=True)) / len(x.ood) ** 2
    trainings = _variance_of_mean(differences) if len(a) > 1 else 0.0
    variance = images + trainings
    if variance == 0:
        return 2.0 ** (1 - min(counts[0]))
    if trainings == 0:
        return math.erfc(difference / math.sqrt(2 * variance))
    from scipy.special import stdtr

    return float(2 * stdtr((len(a) - 1) * (variance / trainings) ** 2, -difference / math.sqrt(variance)))


def _variance_of_mean(values: Floats) -> float:
    if np.ptp(values) == 0:  # exactly 0 then, which rounding in the mean would miss
        return 0.0
    return float(values.var(ddof=1)) / len(values)


def holm(p_values: Sequence[float], tests: int = 0) -> list[float]:
    """The p-values so adjusted that the chance of any false one below `LEVEL` is at most that (Holm 1979).

    tests: of the family, where that has more than are at hand.
    """
    order = np.argsort(p_values, kind="stable")
    factors = max(tests, len(p_values)) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    return [float(p) for p in adjusted.clip(max=1)]


def above(auroc: float, low: float, bound: float) -> float:
    """One-sided p-value for an AUROC above `bound`, from the lower end of its 95 % interval; all fractions.

    On the arcsine scale, on which the width of an interval hardly depends on its place; .025 where `low` is `bound`.
    """
    value, low, bound = (math.asin(math.sqrt(min(max(share, 0), 1))) for share in (auroc, low, bound))
    if value == low:
        return float(value <= bound)
    return 1 - NormalDist().cdf(NormalDist().inv_cdf(0.975) * (value - bound) / (value - low))


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
        lines = [
            (pair.a, pair.b, f"{100 * pair.difference:.2f}", f"{pair.p:.3g}", f"{pair.p_holm:.3g}")
            for pair in self.pairs
        ]
        table = pd.DataFrame(lines, columns=["row_a", "row_b", "auroc_difference", "p", "p_holm"])
        return shown.csv(table)


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
                    seed if _drawn(seeds) else None: _placed(folder, of_seed) for seed, of_seed in seeds.items()
                }
            except (OSError, ValueError, EOFError):  # committed folders have records alone; a file may be cut short
                continue
    if rows or not (folder / TESTS).is_file():
        return compare(rows, view.tests) if len(rows) > 1 else None
    return _as_tested(folder / TESTS, complete, view.tests)


def _as_tested(path: Path, complete: Mapping[str, Mapping[int, Sequence[Record]]], tests: int) -> Significance:
    """The comparison that is written there, whose scores are gone: the p-values stay, and are corrected anew."""
    with path.open(encoding="utf-8", newline="") as file:
        p_values = {(line["row_a"], line["row_b"]): float(line["p"]) for line in csv.DictReader(file)}
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
        if whole and not is_sanity(row, [of_row[0][whole[0]]]):
            yield row, {seed: [of_set[seed] for of_set in of_row] for seed in whole}


def _images(of_seed: Sequence[Record]) -> str:
    """What the records say of the images that a row is measured on."""
    return repr([(record["id"]["n"], record["ood"]["n"], record["provenance"].get("data")) for record in of_seed])


def _placed(folder: Path, of_seed: Sequence[Record]) -> Placements:
    """The placements of one row and seed. ValueError where scores are not those of the record."""

    def load(record: Record, side: score_files.Side) -> Floats:
        return np.asarray(score_files.read(folder, record, side), dtype=np.float64)

    return placements(load(of_seed[0], "id"), [load(record, "ood") for record in of_seed])
