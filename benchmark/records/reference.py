"""The published numbers: `results/reference/*.csv`, one file a table; what is wrong with some, how some were made."""

import csv
from collections.abc import Iterable
from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
_METRICS = {
    "AUROC": "auroc",
    "FPR95": "fpr95",  # ID as the positive class
    "FPR95_OOD": "fpr95_ood",  # OOD as the positive class, as OpenOOD publishes it
    "images_per_second": "images_per_second",
}


def published(tables: tuple[str, ...], id_name: str) -> dict[tuple[str, str, str], float]:
    """(method, OOD set, metric) -> value as printed: percent, or images a second (OOD set ""). Names as published.

    The first table that has a cell wins. ValueError where a table is not there.
    """
    cells: dict[tuple[str, str, str], float] = {}
    for table in tables:
        path = REFERENCE / f"{table}.csv"
        if not path.is_file():
            raise ValueError(f"no reference table {table!r} in {REFERENCE}")
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                if line["id"] == id_name and line["metric"] in _METRICS:
                    cell = (line["method"], line["ood"], _METRICS[line["metric"]])
                    cells.setdefault(cell, float(line["value"]))
    return cells


def misprints(tables: tuple[str, ...], id_name: str) -> dict[tuple[str, str, str], str]:
    """(method, OOD set, metric) -> why the published cell cannot be right. Names as in `published`."""
    with (REFERENCE / "misprints.csv").open(encoding="utf-8", newline="") as file:
        return {
            (line["method"], line["ood"], _METRICS[line["metric"]]): line["note"]
            for line in csv.DictReader(file)
            if line["table"] in tables and line["id"] == id_name
        }


def remarks(methods: Iterable[str]) -> list[str]:
    """What is known of how the numbers of published methods were made, a sentence each: `notes.csv`."""
    shown = dict.fromkeys(method.partition("|")[0] for method in methods)
    with (REFERENCE / "notes.csv").open(encoding="utf-8", newline="") as file:
        notes = {line["method"]: line["note"] for line in csv.DictReader(file)}
    return [f"Published {method}: {notes[method]}" for method in shown if method in notes]
