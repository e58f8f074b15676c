"""What a cell shows when it is opened: its scores' histogram, thresholds with their shares, and its record."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.metrics import Floats, threshold_at_tpr
from benchmark.records import scores
from benchmark.records.frames import SPECTRAL, View, results_of
from benchmark.records.records import Record
from benchmark.records.scores import Cell
from benchmark.reporting.page.images import Images

POINTS = 120  # thresholds of a cell, which are the points of its ROC curve as well
BINS = 48
_DIGITS = 5  # of a threshold, counted from the spread of the scores


def content(folder: Path, found: Sequence[Record], view: View, images: Images) -> dict[str, Any]:
    """By row and OOD set, for the first seed that is done: histogram, thresholds, images, and the record in parts.

    `parts`: what records hold, in words, each once; a record is {name: its place there}. `images`: data URIs.
    """
    parts: dict[str, int] = {}
    cells: dict[str, dict[str, Any]] = {}
    for (row, ood), seeds in results_of(found, view).items():
        if seeds[0]["ood"]["group"] in SPECTRAL:  # the same scores, against more ID images
            continue
        first = dict(next((record for record in seeds if record["status"] == "done"), seeds[0]))
        about: dict[str, Any] = {
            "record": {name: parts.setdefault(value, len(parts)) for name, value in told(first).items()},
            "seeds": [record["seed"] for record in seeds],
        }
        if first["status"] == "done":
            cell = scores.read(folder, first)
            about["scores"] = None if cell is None else {**drawn(cell), "n": [first["id"]["n"], first["ood"]["n"]]}
            about["images"] = images.of(first)
        cells.setdefault(row, {})[ood] = about
    return {"cells": cells, "parts": list(parts), "images": list(images.uris)}


def told(record: Mapping[str, Any]) -> dict[str, str]:
    """What a reader asks of a number, in words and in order: settings, data, weights, versions, machine, command."""
    made: Mapping[str, Any] = record.get("provenance") or {}
    sets = {name: _without(record.get(name) or {}, "group") for name in ("id", "ood", "train")}
    encoder: Mapping[str, Any] = made.get("encoder") or {}
    machine = ("cpu", "cores", "threads", "memory_gib", "gpu", "device", "system")
    every = {
        "status": record["status"],
        "reason": record["reason"],
        "method": record["method"],
        "hyper-parameters": record["hyperparameters"],
        "seed": record["seed"],
        "ID set": sets["id"],
        "OOD set": sets["ood"],
        "fitted on": sets["train"],
        "encoder": {name: value for name, value in encoder.items() if name != "source"},
        "precision": record.get("precision"),
        "resolution": record["resolution"],
        "calibration": record.get("calibration"),
        "thresholds": record.get("thresholds"),
        "notes": record["footnotes"],
        "versions": made.get("versions"),
        "commit": made.get("commit"),
        "machine": {name: made[name] for name in machine if made.get(name) is not None},
        "seconds": made.get("seconds"),
        "date": made.get("date"),
        "command": made.get("command"),
    }
    return {name: _words(value) for name, value in every.items() if value not in (None, "", {}, [])}


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        of = {name: each for name, each in value.items() if each is not None}
        return ", ".join(
            f"{name} ({_words(each)})" if isinstance(each, Mapping | list) else f"{name} {_words(each)}"
            for name, each in of.items()
        )
    if isinstance(value, list):
        return "; ".join(_words(each).removesuffix(".") for each in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _without(about: Mapping[str, Any], name: str) -> dict[str, Any]:
    keys = dict.fromkeys(("title", "name", "split", "n", "of", *about))  # the rest as it comes
    return {key: about[key] for key in keys if key != name and about.get(key) not in (None, [])}


def drawn(cell: Cell) -> dict[str, Any]:
    """Histogram and thresholds of a cell.

    edges: [first, last] of `BINS` bins, the inner 99 % of both sets; histogram: of each side the scores in every bin,
    below the first and above the last. thresholds: at most `POINTS`, rising; accepted, missed: ID and OOD scores at
    most that, of `counts`. at95: the place of FPR95's threshold. whole: False where all this is of quantiles.
    """
    ids, oods = np.sort(cell.ids), np.sort(cell.oods)
    low, high = _span(ids, oods)
    edges = np.linspace(low, high, BINS + 1)
    thresholds, place = _thresholds(ids, oods)
    return {
        "edges": [float(low), float(high)],
        "histogram": [_counted(side, edges) for side in (ids, oods)],
        "thresholds": thresholds.tolist(),
        "accepted": np.searchsorted(ids, thresholds, "right").tolist(),
        "missed": np.searchsorted(oods, thresholds, "right").tolist(),
        "counts": [len(ids), len(oods)],
        "at95": place,
        "whole": cell.whole,
    }


def _counted(side: Floats, edges: Floats) -> list[int]:
    inside = np.histogram(side, edges)[0].tolist()
    return [*inside, int((side < edges[0]).sum()), int((side > edges[-1]).sum())]


def _span(ids: Floats, oods: Floats) -> tuple[float, float]:
    """The inner 99 % of the finite scores of both sides; a little room around scores that are all one."""
    ends = [np.quantile(side[np.isfinite(side)], (0.005, 0.995)) for side in (ids, oods) if np.isfinite(side).any()]
    low, high = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (0.0, 0.0)
    room = 0.5 if high - low <= 1e-9 * max(abs(low), abs(high)) else 0.0
    return float(low - room), float(high + room)


def _thresholds(ids: Floats, oods: Floats) -> tuple[Floats, int]:
    """Finite scores, in few digits, at equal steps along the ROC curve as it is drawn, FPR95's own among them."""
    both = np.unique(np.concatenate([ids, oods]))
    both = both[np.isfinite(both)]
    chosen = threshold_at_tpr(ids)
    if not len(both):
        return np.zeros(0), -1
    flagged = [1 - np.searchsorted(side, both, "right") / len(side) for side in (ids, oods)]
    way = -(np.sqrt(flagged[0]) + flagged[1])  # along the curve, rising; the few ID images flagged matter most
    steps = np.searchsorted(way, np.linspace(way[0], way[-1], POINTS - 1)).clip(max=len(both) - 1)
    spread = float(np.ptp(both)) or abs(float(both[0])) or 1.0
    digits = _DIGITS - 1 - int(np.floor(np.log10(spread)))
    few = np.round(both[steps], digits)
    few = few[few != chosen]
    thresholds = np.unique(np.append(few, chosen) if np.isfinite(chosen) else few)
    return thresholds, int(np.searchsorted(thresholds, chosen)) if np.isfinite(chosen) else -1
