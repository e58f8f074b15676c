"""A suite at both resolutions: where the other results are, and both numbers of a cell."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from benchmark.records import records
from benchmark.records.frames import ALL, Record, View, lines_of
from benchmark.records.names import folder_parts

_MARK = "resolution=id"  # in the name of a results folder
_SAME = ("method", "encoder_title", "hyperparameters", "train")  # what two records of a row must agree in

Pairs = dict[str, dict[str, tuple[float, float]]]


def sibling(folder: Path) -> list[Record]:
    """The records of the same run at the other resolution; none where it has not been run."""
    suite, flags = folder_parts(folder)
    wanted = suite, set(flags) ^ {_MARK}
    beside = ((other, *folder_parts(other)) for other in folder.parent.iterdir())
    found = [other for other, name, marks in beside if (name, set(marks)) == wanted]
    return [record for other in found for record in records.read_all(other)]


def pairs(found: Sequence[Record], other: Sequence[Record], view: View) -> Pairs:
    """row -> OOD set -> AUROC in percent (native, ID resolution), means over seeds, for what both runs measured.

    Rows that check the harness are left out, and those whose method, encoder or training images are not the same.
    """
    runs = {_resolution(run): run for run in (found, other)}
    if set(runs) != {"native", "id"}:
        return {}
    (native, about), (at_id, about_id) = (
        (_aurocs(runs[which], view), _abouts(runs[which])) for which in ("native", "id")
    )
    both: Pairs = {}
    for row, ood in native:
        if (row, ood) in at_id and about[row] == about_id[row]:
            both.setdefault(row, {})[ood] = native[row, ood], at_id[row, ood]
    return both


def _resolution(run: Sequence[Record]) -> str | None:
    return next((record["resolution"] for record in run if record["kind"] == "result"), None)


def _aurocs(run: Sequence[Record], view: View) -> dict[tuple[str, str], float]:
    """Of the rows and sets that the view's average counts, near sets first."""
    lines = lines_of(run, view)
    there = {cell: line["auroc"] for cell, line in lines.items() if not isnan(line["auroc"]) and not line["sanity"]}
    sets = [name for name, _, _ in view.near_first() if name in view.over(ALL)]
    return {(row, name): there[row, name] for row, _, _ in view.rows for name in sets if (row, name) in there}


def _abouts(run: Sequence[Record]) -> dict[str, list[object]]:
    return {record["row"]: [record[name] for name in _SAME] for record in run if record["kind"] == "result"}
