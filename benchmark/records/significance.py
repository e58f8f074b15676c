"""Which rows differ by more than the noise of their test images: paired DeLong tests on mean AUROC, Holm-corrected."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.metrics import Floats
from benchmark.records import score_files
from benchmark.records.frames import ALL, Record, View, is_sanity, results_of

LEVEL = 0.05  # of the whole family of tests
Group = tuple[str, ...]


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


def paired_test(a: Placements, b: Placements) -> float:
    """Two-sided p-value for equal mean AUROC over K OOD sets of two rows, on the same images in the same order.

    DeLong et al. 1988. The ID images are shared by all sets and the OOD sets are independent, so that the variance of
    the difference is var(id_a - id_b) / m + sum over k of var(ood_a - ood_b) / (K^2 n_k), with sample variances. For
    K = 1 it is `metrics.delong_test`, also where the variance is 0 (there: the sign test on as many disjoint pairs as
    the smallest set has images) or a set has one image (1). Lengths that differ: ValueError.
    """
    counts = [[len(row.id), *map(len, row.ood)] for row in (a, b)]
    if counts[0] != counts[1]:
        raise ValueError(f"a paired test needs the same images: {counts[0]} scores against {counts[1]}")
    difference = abs(a.auroc - b.auroc)
    if difference == 0 or min(counts[0]) < 2:
        return 1.0
    variance = _variance_of_mean(a.id - b.id)
    variance += sum(_variance_of_mean(x - y) for x, y in zip(a.ood, b.ood, strict=True)) / len(a.ood) ** 2
    if variance == 0:
        return 2.0 ** (1 - min(counts[0]))
    return math.erfc(difference / math.sqrt(2 * variance))


def _variance_of_mean(values: Floats) -> float:
    if np.ptp(values) == 0:  # exactly 0 then, which rounding in the mean would miss
        return 0.0
    return float(values.var(ddof=1)) / len(values)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values so adjusted that the chance of any false one below `LEVEL` is at most that (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1))
    return [float(p) for p in adjusted.clip(max=1)]


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

    means: row -> mean AUROC over OOD sets and seeds, a fraction, best first. pairs: in that order.
    """

    means: Mapping[str, float]
    pairs: tuple[Pair, ...]

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
        return str(table.to_csv(index=False, lineterminator="\n"))


def compare(rows: Mapping[str, Placements]) -> Significance:
    """All pairs of rows. ValueError where two rows have other numbers of images."""
    means = {row: rows[row].auroc for row in sorted(rows, key=lambda row: -rows[row].auroc)}
    pairs = list(combinations(means, 2))
    p_values = [paired_test(rows[a], rows[b]) for a, b in pairs]
    return Significance(
        means,
        tuple(
            Pair(a, b, means[a] - means[b], p, corrected)
            for (a, b), p, corrected in zip(pairs, p_values, holm(p_values), strict=True)
        ),
    )


def of_folder(folder: Path, found: Sequence[Record], view: View) -> Significance | None:
    """The comparison of a results folder's rows by their scores; None where there are not two to compare.

    A row takes part where its records are there for every OOD set of the view's average, with their scores, on the
    images that most rows are measured on. Rows that check the harness do not.
    """
    complete = dict(_complete(found, view))
    images = {row: _images(next(iter(seeds.values()))) for row, seeds in complete.items()}
    common = Counter(images.values()).most_common(1)
    rows = {}
    for row, seeds in complete.items():
        if images[row] == common[0][0]:
            try:
                rows[row] = mean([_placed(folder, of_seed) for of_seed in seeds.values()])
            except (OSError, ValueError, EOFError):  # committed folders have records alone; a file may be cut short
                continue
    return compare(rows) if len(rows) > 1 else None


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
