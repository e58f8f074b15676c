"""The scores that a record was made from: out of their files, or as the quantiles that the record holds of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.metrics import Floats
from benchmark.records import score_files

if TYPE_CHECKING:  # figures are drawn without what reads records
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


def source(folder: Path, record: "Record") -> str | None:
    """What there is to draw a `done` record from: its `scores`, `quantiles`, or nothing."""
    if score_files.fit(folder, record):
        return "scores"
    return "quantiles" if record.get("quantiles") else None


def read(folder: Path, record: "Record") -> Cell | None:
    """The cell of a `done` record of a results folder; None where neither scores nor quantiles are there."""
    numbers = record["metrics"]["auroc"], record["metrics"]["fpr95"]
    try:
        ids, oods = (score_files.read(folder, record, side) for side in score_files.SIDES)
        return Cell(ids.astype(np.float64), oods.astype(np.float64), *numbers)
    except ValueError:  # not here, as in committed folders, or not those of the record
        kept = record.get("quantiles")
        if not kept:
            return None
        ids, oods = (np.asarray(kept[side], dtype=np.float64) for side in score_files.SIDES)
        return Cell(ids, oods, *numbers, whole=False)
