"""`index.html`: all results folders on one page, and any two of them compared."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmark.records import records
from benchmark.records.frames import ALL, COUNTED, FAR, NEAR
from benchmark.records.names import elsewhere, folder_parts
from benchmark.records.records import Record
from benchmark.reporting.page import document, report
from benchmark.reporting.page.table import bounds
from benchmark.store import files, keys
from benchmark.store.files import write_atomically

NAME = "index.html"
KNOWN = ".index.json"  # what it has read
TABLE = "table.csv"
PAPERS = "papers"  # how the folders of views of papers begin
COMPARED = ("auroc", "fpr95")  # the metrics that have intervals
_MOST = 1 << 28  # bytes of that
_SCRIPTS = ("state", "difference", "compare")
_START = {"first": "", "second": "", "metric": "auroc"}
_NUMBERS = tuple(f"{metric}{end}" for metric in COMPARED for end in ("", "_std", "_low", "_high"))
Line = dict[str, Any]


def write(results: Path) -> None:
    """The index of the results folders below `results`, the newest first; a damaged one is named.

    Its numbers are those of the folders' table.csv. What it says of a folder is kept for as long as no file changes.
    """
    known, kept = _known(results), {}
    for folder in sorted(results.iterdir()):
        if stamp := _stamp(folder):
            before = known.get(folder.name, {})
            kept[folder.name] = before if before.get("stamp") == stamp else {"stamp": stamp, **_about(folder)}
    found = sorted(kept.values(), key=lambda about: about["date"], reverse=True)
    pages = {page.parent.name for page in results.glob(f"*/{report.NAME}")}
    text = document.render(
        "index.html.jinja",
        _SCRIPTS,
        {"start": _START, "folders": [about["compared"] for about in found]},
        drawing=False,
        folders=[{**about, "link": _link(about["name"]) if about["name"] in pages else ""} for about in found],
        papers=[{"name": name, "link": _link(name)} for name in sorted(pages) if name.split("+")[0] == PAPERS],
    )
    write_atomically(results / NAME, text)
    write_atomically(results / KNOWN, json.dumps(files.sealed({"source": _source(), "folders": kept})))


def _known(results: Path) -> dict[str, dict[str, Any]]:
    """What the index has said of folders before, by their names."""
    try:
        known = files.read_sealed(results / KNOWN, _MOST)
        return known["folders"] if known["source"] == _source() else {}
    except (OSError, ValueError, KeyError):
        return {}


def _source() -> str:
    return keys.digest(index=keys.file_digest(Path(__file__)), form=keys.source("benchmark.records.form"))


def _stamp(folder: Path) -> str:
    """Of the names, sizes and times of all that the index reads of a folder; "" where that holds no results."""
    if not ((folder / "records").is_dir() or (folder / records.PACKED).is_file()):
        return ""
    paths = [folder / TABLE]
    for each in (folder, *elsewhere(folder)):
        paths += [each / records.PACKED, *sorted((each / "records").glob("*/*.json"))]
    stats = ((path, path.stat()) for path in paths if path.is_file())
    return keys.digest(files=[(str(path.relative_to(folder)), at.st_size, at.st_mtime_ns) for path, at in stats])


def _about(folder: Path) -> dict[str, Any]:
    """What the index says of a folder, and what a comparison needs of it."""
    lines: list[Line] = []
    read, damaged = records.load(folder)
    try:
        lines = _read(folder / TABLE)
    except FileNotFoundError:
        damaged.append(f"no {TABLE}: --redraw writes it")
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        damaged.append(f"{TABLE} cannot be read: --redraw writes it anew")
    dated = [record for record in read if (record.get("provenance") or {}).get("date")]
    newest: Record = max(dated, key=lambda record: str(record["provenance"]["date"]), default={})
    made = newest.get("provenance") or {}
    name, flags = folder_parts(folder)
    return {
        "name": folder.name,
        "suite": next((record["suite"] for record in read if record.get("suite")), name),
        "flags": flags,
        "rows": len({line["row"] for line in lines or read}),
        "near": _best(lines, "near", NEAR),
        "far": _best(lines, "far", FAR),
        "date": str(made.get("date", ""))[:16].replace("T", " "),
        "machine": _machine(made),
        "damaged": damaged,
        "compared": _compared(folder.name, lines),
    }


def _link(folder: str) -> str:
    return f"{quote(folder)}/{report.NAME}"


def _machine(made: Mapping[str, Any]) -> str:
    threads = made.get("threads")
    told = [made.get("gpu") or made.get("cpu"), threads and f"{threads} thread{'s' if threads > 1 else ''}"]
    return ", ".join(str(word) for word in told if word)


def _read(path: Path) -> list[Line]:
    """The lines of a table.csv, numbers as numbers; none of a table of thresholds. ValueError or KeyError else."""
    with path.open(encoding="utf-8", newline="") as file:
        read = csv.DictReader(file, strict=True)
        if "n_calibration" in (read.fieldnames or ()):
            return []
        return [_line(line) for line in read]


def _line(line: Mapping[str, str]) -> Line:
    words = {name: line[name] for name in ("row", "title", "encoder", "ood", "ood_title", "group", "status", "reason")}
    numbers = {name: float(line[name]) if line[name] else None for name in _NUMBERS}
    # a spreadsheet would have taken the word behind the ' for a formula
    words = {name: word[1:] if word[:2] in ("'=", "'+", "'-", "'@") else word for name, word in words.items()}
    return {
        **words,
        **numbers,
        "seeds": int(line["seeds"]),
        "sanity": line["sanity"] == "True",
        "swept": line.get("searched") == "swept",
    }


def _best(lines: Iterable[Line], group: str, average: str) -> str:
    """The best row on the OOD sets of a group, and how many rows have no mean over them; "" without such sets."""
    lines = [line for line in lines if not line["sanity"] and not line["swept"]]
    sets = {line["ood"]: line["group"] for line in lines if line["group"] in COUNTED}
    of_group = [name for name, its in sets.items() if its == group]
    if not of_group:
        return ""
    if len(of_group) < len(sets):
        over = average if any(line["ood"] == average for line in lines) else ""
    else:
        over = ALL if len(of_group) > 1 else of_group[0]
    means = [(line["auroc"], line["title"], line["encoder"]) for line in lines if line["ood"] == over]
    whole = sorted((mean for mean in means if mean[0] is not None), key=lambda mean: -mean[0])
    lacking = len(means) - len(whole)
    aside = f"{lacking} row{'s' if lacking > 1 else ''} without this mean aside" if lacking else ""
    if not whole:
        return aside
    (auroc, title, encoder), *_ = whole
    return f"{auroc:.1f} {title}, {encoder}" + (f" ({aside})" if aside else "")


def _compared(name: str, lines: Iterable[Line]) -> dict[str, Any]:
    """What a comparison needs of a folder.

    cells: row -> OOD set -> status, or by metric its value, lower and upper 95 % bound, over images and trainings.
    """
    rows: dict[str, str] = {}
    sets: dict[str, str] = {}
    cells: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["group"] == "average":
            continue
        rows[line["row"]] = f"{line['title']}, {line['encoder']}"
        sets[line["ood"]] = line["ood_title"]
        cell: dict[str, Any] = {"status": line["status"], "counted": line["group"] in COUNTED}
        if line["status"] == "done":
            for metric in COMPARED:
                low, high = bounds(line, metric)
                cell[metric] = [line[metric], *(None if end is None else round(end, 4) for end in (low, high))]
        cells.setdefault(line["row"], {})[line["ood"]] = cell
    return {"name": name, "rows": rows, "sets": sets, "cells": cells}
