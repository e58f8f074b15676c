"""The scores that a record was made from: out of their files, or as the quantiles that the record holds of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.metrics import Floats
from benchmark.records import records
from benchmark.records.records import Record


@dataclass(frozen=True)
class Cell:
    """Scores (n,) of one row on the ID set and on one OOD set, and the record's AUROC and FPR95, as fractions.

    whole: False where `ids` and `oods` are quantiles: a share of them is then as fine as their number. ValueError for
    NaN or no scores.
    """

    ids: Floats
    oods: Floats
    auroc: float
    fpr95: float
    whole: bool = True

    def __post_init__(self) -> None:
        for name, scores in (("ID", self.ids), ("OOD", self.oods)):
            if not len(scores) or np.isnan(scores).any():
                raise ValueError(f"{name} scores to draw: {len(scores):,}, of which {np.isnan(scores).sum():,} are NaN")


def source(folder: Path, record: Record) -> str | None:
    """Whether a `done` record has `scores` here, `quantiles`, or neither."""
    paths = (records.scores_path(folder, record["row"], record[side]["name"], record["seed"]) for side in ("id", "ood"))
    return "scores" if all(path.is_file() for path in paths) else "quantiles" if record.get("quantiles") else None


def read(folder: Path, record: Record) -> Cell | None:
    """The cell of a `done` record of a results folder; None where neither scores nor quantiles are there."""
    numbers = record["metrics"]["auroc"], record["metrics"]["fpr95"]
    try:
        return Cell(_load(folder, record, record["id"]), _load(folder, record, record["ood"]), *numbers)
    except (OSError, ValueError, EOFError):  # not here, as in committed folders, or cut short
        kept = record.get("quantiles")
        if not kept:
            return None
        ids, oods = (np.asarray(kept[side], dtype=np.float64) for side in ("id", "ood"))
        return Cell(ids, oods, *numbers, whole=False)


def _load(folder: Path, record: Record, images: dict[str, Any]) -> Floats:
    scores = np.load(records.scores_path(folder, record["row"], images["name"], record["seed"]))
    if scores.shape != (images["n"],):
        raise ValueError(f"{record['row']}: {scores.shape} scores of {images['n']:,} images of {images['name']}")
    return np.asarray(scores, dtype=np.float64)
