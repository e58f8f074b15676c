"""DLSR's scores against simple detectors on the very same features, set by set, over images and trainings.

    python -m tests.evidence.against --folder NATIVE --folder AT_ID_SIZE --out results/evidence/dlsr-against.csv

Results folders of the suite `cifar10-dlsr-long` with their scores. The family is named here, before it is measured:
four scores x four detectors x the sets that all of them are measured on x the folders; a detector that is not there
still counts. Tests are `paired_test`'s, p-values Holm's over the family.
"""

import argparse
import csv
from pathlib import Path
from statistics import fmean

from benchmark.records import records
from benchmark.records.paired import Placements, holm, paired_test
from benchmark.records.significance import placed

SCORES = ("dlsr-mse", "dlsr-mfsim", "dlsr-lr", "dlsr-lr-released")
DETECTORS = ("mahalanobis-layers", "pca", "knn-layers", "autoencoder")
Rows = dict[tuple[str, str], dict[int, Placements]]  # row and set: of each training


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--folder", type=Path, action="append", required=True)
    parse.add_argument("--encoder", default="resnet20")
    parse.add_argument("--out", type=Path, required=True)
    given = parse.parse_args()
    lines, p_values, family = [], [], 0
    for folder in given.folder:
        rows = read(folder, given.encoder)
        sets = sorted({name for _, name in rows})
        family += len(SCORES) * len(DETECTORS) * len(sets)
        for score in SCORES:
            for detector in DETECTORS:
                for name in sets:
                    a, b = rows.get((score, name)), rows.get((detector, name))
                    if not a or not b:
                        continue
                    first, second = in_pairs(a, b)
                    difference = fmean(x.auroc - y.auroc for x, y in zip(first, second, strict=True))
                    p_values.append(paired_test(first, second))
                    resolution = "id" if "resolution=id" in folder.name else "native"
                    lines.append((resolution, score, detector, name, len(first), f"{100 * difference:.3f}"))
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("resolution", "score", "detector", "set", "trainings", "difference", "p", "p_holm"))
        for line, p, corrected in zip(lines, p_values, holm(p_values, family), strict=True):
            writer.writerow((*line, f"{p:.3g}", f"{corrected:.3g}"))
    print(f"a family of {family} tests, {len(lines)} of them measured")


def read(folder: Path, encoder: str) -> Rows:
    """The placements of every row of the family, from the folder's score files."""
    found: Rows = {}
    for record in records.read_all(folder):
        row, _, of = record["row"].partition("@")
        if record["status"] == "done" and of == encoder and row in (*SCORES, *DETECTORS):
            found.setdefault((row, record["ood"]["name"]), {})[record["seed"]] = placed(folder, [record])
    return found


def in_pairs(a: dict[int, Placements], b: dict[int, Placements]) -> tuple[list[Placements], list[Placements]]:
    """Trainings of the same seed; a row of one seed, fitted alike by each or trained once, is taken as it is."""
    if len(b) == 1:
        return list(a.values()), list(b.values()) * len(a)
    seeds = [seed for seed in a if seed in b]
    return [a[seed] for seed in seeds], [b[seed] for seed in seeds]


if __name__ == "__main__":
    main()
