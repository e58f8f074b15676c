"""What the page's table holds, as plain data: every number as `lines_of` and `Grid` give it, for each metric."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isnan
from statistics import NormalDist
from typing import Any

import methods
from benchmark.metrics import METRICS, Metric
from benchmark.records.frames import Record, View, lines_of, results_of
from benchmark.records.paired import LEVEL
from benchmark.records.significance import Significance
from benchmark.reporting import footnotes
from benchmark.reporting.cells import SEPARABLE, Grid

_GENERATOR = "trained generator"


def content(found: Iterable[Record], view: View, compared: Significance | None) -> dict[str, Any]:
    """Columns, rows, cells and notes.

    A cell's `figures`, by metric: [as in table.csv, as shown, rank, interval, published, difference to that, lower and
    upper bound], each "" where it is not there; bounds are those of the mean over images and trainings.
    """
    found = list(found)
    at = lines_of(found, view)
    grids = {metric.name: Grid(found, replace(view, metrics=(metric.name,)), at) for metric in METRICS}
    grid = grids["auroc"]
    cells = results_of(found, view)
    otherwise = _otherwise(record for seeds in cells.values() for record in seeds)
    about = {row: seeds[0] for (row, _), seeds in cells.items()}
    rows: list[dict[str, Any]] = []
    for encoder, of_encoder in grid.encoders.items():
        for row, title in of_encoder:
            rows.append(
                {
                    "row": row,
                    "title": title,
                    "encoder": encoder,
                    "reads": _reads(about[row]["method"]) if row in about else [],
                    "accuracy": grid.accuracy(row),
                    "speed": grid.speed(row),
                    "published_speed": grid.published_speed(row),
                    "cells": [_cell(grids, at[row, ood], row, ood) for ood, _, _ in grid.columns],
                }
            )
    order = list(dict.fromkeys(row for row, _, _ in view.rows))
    rows.sort(key=lambda row: order.index(row["row"]))
    return {
        "name": view.name,
        "title": view.title,
        "id": view.id_title,
        "metrics": [
            {"name": m.name, "title": m.title, "arrow": m.arrow, "higher": m.higher_is_better} for m in METRICS
        ],
        "columns": [
            {
                "ood": ood,
                "title": title,
                "group": group,
                "average": not group and ood not in {name for name, _, _ in view.ood},
                "over": view.over(ood) if ood in dict(view.averages()) else [],
                **dict(zip(("subset", "stands_in_for"), otherwise.get(ood, ("", "")), strict=True)),
                "note": _note(title, grid.below),
            }
            for ood, title, group in grid.columns
        ],
        "rows": rows,
        "encoders": list(grid.encoders),
        "reads": sorted({what for row in rows for what in row["reads"]}),
        "has": {
            "accuracy": grid.has_accuracy,
            "speed": grid.has_speed,
            "published": bool(view.published),
            "encoders": len(grid.encoders) > 1,
        },
        "pairs": _pairs(compared),
        "notes": grid.below,
        "absent": footnotes.absent(view),
    }


def _cell(grids: Mapping[str, Grid], line: Mapping[str, Any], row: str, ood: str) -> dict[str, Any]:
    """One cell: what it says without numbers, and why; its numbers by metric."""
    first = grids["auroc"]
    figures = {metric.name: _figures(grids[metric.name], metric, line, row, ood) for metric in METRICS}
    return {
        "status": line["status"],
        "mark": "" if line["status"] == "done" else first.mark(row, ood),
        "why": line["reason"],
        "seeds": line["seeds"],
        "images": [line["n_id"], line["n_ood"]],
        "figures": figures,
    }


def _figures(grid: Grid, metric: Metric, line: Mapping[str, Any], row: str, ood: str) -> list[str]:
    published = [grid.published(row, ood), grid.difference(row, ood)]
    shown = grid.figures(row, ood)
    if shown is None:
        return ["", "", "", "", *published, "", ""]
    ((text, rank),) = shown
    low, high = bounds(line, metric.name)
    if isnan(line[metric.name]):  # of an old record
        return ["", text, "", "", *published, "", ""]
    return [f"{line[metric.name]:.2f}", text, rank, _interval(line, metric.name), *published, _two(low), _two(high)]


def _interval(line: Mapping[str, Any], metric: str) -> str:
    """What stands below a number: its 95 % interval, or its standard deviation where there are several seeds."""
    if not isnan(line[f"{metric}_std"]):
        return f"± {line[f'{metric}_std']:.1f}, {line['seeds']} seeds"
    low, high = line.get(f"{metric}_low"), line.get(f"{metric}_high")
    return "" if low is None or isnan(low) else f"{low:.1f} to {high:.1f}"


def bounds(line: Mapping[str, Any], metric: str) -> tuple[float | None, float | None]:
    """The 95 % interval of a line, in percent, over images and, where there are several, trainings."""
    value, low, high = (line.get(name) for name in (metric, f"{metric}_low", f"{metric}_high"))
    if value is None or low is None or high is None or isnan(low):
        return None, None
    spread = 0.0
    if line["seeds"] > 1:
        from scipy.special import stdtrit

        spread = float(stdtrit(line["seeds"] - 1, 0.975)) * line[f"{metric}_std"] / line["seeds"] ** 0.5
    return value - ((value - low) ** 2 + spread**2) ** 0.5, value + ((high - value) ** 2 + spread**2) ** 0.5


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _otherwise(records: Iterable[Record]) -> dict[str, tuple[str, str]]:
    """Of OOD sets that are not the whole set that was meant: how many images of how many; what it stands in for."""
    found: dict[str, tuple[str, str]] = {}
    for ood in (record["ood"] for record in records if record["status"] == "done"):
        part = f"{ood['n']:,} of {ood['of']:,}" if ood["n"] < ood["of"] else ""
        found[ood["name"]] = part, ood.get("stands_in_for") or ""
    return found


def _note(title: str, notes: Iterable[str]) -> str:
    """The note that speaks of an OOD set; "" where none does."""
    name = title.removesuffix(f" {SEPARABLE}")
    return next((note for note in notes if note.startswith(f"{name}: ")), "")


def _reads(method: str) -> list[str]:
    """What a method looks at, in a reader's words; nothing is known of one that is not registered here."""
    try:
        kind = methods.get(method)
    except ValueError:
        return []
    names = {name if name in ("logits", "pixels") else "features" for name in kind.reads if name != "labels"}
    return sorted(names | ({_GENERATOR} if kind.trains else set()))


def _pairs(compared: Significance | None) -> list[list[Any]]:
    """Of every pair of rows that was tested: both, difference of mean AUROC in percent, corrected p, 95 % interval.

    The interval is of this pair alone, and where a normal distribution was tested with: from its difference and p.
    """
    if compared is None:
        return []
    found: list[list[Any]] = []
    for pair in compared.pairs:
        several = max(compared.trainings.get(row, 1) for row in (pair.a, pair.b)) > 1
        reach = None if several else reach_of(100 * pair.difference, pair.p)
        shown = f"{100 * pair.difference:.2f}"
        ends = ["", ""] if reach is None else [_two(100 * pair.difference - reach), _two(100 * pair.difference + reach)]
        p = f"p\u00a0=\u00a0{pair.p_holm:.2g}" if pair.p_holm >= 0.001 else "p\u00a0<\u00a00.001"
        found.append([pair.a, pair.b, shown, p, pair.p_holm < LEVEL, *ends])
    return found


def reach_of(difference: float, p: float) -> float | None:
    """Half the 95 % interval of a difference whose two-sided normal test gave p; None where p tells no more."""
    if not 1e-300 < p < 0.999:
        return None
    normal = NormalDist()
    return abs(difference) * normal.inv_cdf(0.025) / normal.inv_cdf(p / 2)
