"""Searches in records: which row was chosen on a validation set, marked for everybody who reads it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from benchmark.records import records

MARK = ", searched"  # behind a chosen row's title, wherever that stands
NAME = "searched"  # behind its name
State = Literal["", "swept", "searched"]


def state(found: Iterable[Mapping[str, Any]]) -> State:
    """Of a row's records: swept, whose numbers are only shown; searched, which was chosen; "" of others."""
    swept = [record for record in found if record.get("sweep") or record.get("searched")]
    if not swept:
        return ""
    return "searched" if any((record.get("searched") or {}).get("chosen") for record in swept) else "swept"


def as_it_was(label: str) -> str:
    """The label of the row whose settings, and those of its encoder, a chosen row has others of; others as they are."""
    name, _, encoder = label.partition("@")
    return f"{name.removesuffix(f':{NAME}')}@{encoder.partition(':')[0]}" if name.endswith(f":{NAME}") else label


def choose(folder: Path, rows: Sequence[str]) -> None:
    """Mark, in each sweep of `rows` that was searched, the best on the validation set; of equals, the first of them."""
    sweeps: dict[tuple[str, ...], list[records.Record]] = {}
    for record in records.load(folder)[0]:
        if record["status"] == "done" and record["row"] in rows and record.get("sweep") and record.get("searched"):
            sweep = record["sweep"]
            sweeps.setdefault((sweep["of"], sweep["hyperparameter"]), []).append(record)
    for found in sweeps.values():
        aurocs: dict[str, list[float]] = {}
        value = {record["row"]: str(record["sweep"]["value"]) for record in found}
        for record in sorted(found, key=lambda record: rows.index(record["row"])):
            aurocs.setdefault(record["row"], []).append(record["searched"]["auroc"])
        means = {row: fmean(values) for row, values in aurocs.items()}
        best = max(means, key=lambda row: means[row])
        for record in found:
            _mark(folder, record, record["row"] == best, {value[row]: mean for row, mean in means.items()})


def _mark(folder: Path, record: records.Record, chosen: bool, values: Mapping[str, float]) -> None:
    searched = {**record["searched"], "chosen": chosen, "values": values}
    title = record["title"].removesuffix(MARK) + (MARK if chosen else "")
    if (searched, title) != (record["searched"], record["title"]):
        records.write(records.place(folder, record), {**record, "searched": searched, "title": title})
