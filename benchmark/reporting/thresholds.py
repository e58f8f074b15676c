"""The table of a suite without OOD sets: each row's thresholds, and what they accept of the ID test set."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmark import shown
from benchmark.records.frames import Record, View
from benchmark.records.thresholds import PERCENT
from benchmark.reporting.footnotes import sweeps
from benchmark.reporting.markup import md

HEAD = "There is no OOD set: no AUROC. Thresholds that accept a share of the ID calibration images"
BELOW = (
    "A score above the threshold is flagged. In brackets: what the threshold accepts of the ID test set, in percent.",
    "A dash: too few calibration images for that share.",
)


def of(records: Iterable[Record]) -> list[Record]:
    """The records of thresholds alone, row by row."""
    return [record for record in records if record["kind"] == "thresholds"]


def text(records: Iterable[Record], view: View) -> str:
    """The table for a terminal."""
    found = _shown(records, view)
    lines = [heads(), *map(row_of, found)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([view.title, "", f"{HEAD}.", "", *table, "", *below(found, view), ""])


def markdown(found: Sequence[Record], view: View) -> str:
    """The table as a page."""
    lines = [heads(), [":---", ":---", *["---:"] * (len(heads()) - 2)], *([*map(md, row_of(r))] for r in found)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"# {md(view.title)}", "", f"{HEAD}.", "", *table, "", *map(md, below(found, view)), ""])


def csv(found: Sequence[Record]) -> str:
    """`_lines` as CSV; thresholds with all their digits."""
    return shown.csv(
        {
            name: repr(float(value)) if name.startswith("threshold_") and value is not None else value
            for name, value in line.items()
        }
        for line in _lines(found)
    )


def json(records: Iterable[Record], view: View) -> str:
    """`_lines` of the rows of a view as JSON."""
    return shown.json(_lines(_shown(records, view)))


def _shown(records: Iterable[Record], view: View) -> list[Record]:
    return [record for record in of(records) if record["row"] in {row for row, _, _ in view.rows}]


def _lines(found: Sequence[Record]) -> list[dict[str, Any]]:
    """One line a row and seed; thresholds as they are, shares and accuracy in percent."""
    lines = []
    for record in found:
        line = {name: record[name] for name in ("row", "title", "encoder", "seed")}
        line |= {"accuracy": _percent(record["accuracy"]), "n_calibration": record["thresholds"]["n"]}
        for percent in PERCENT:
            cell = record["thresholds"]["accepting"].get(str(percent)) or {}
            line |= {f"threshold_{percent}": cell.get("threshold")}
            line |= {f"accepted_id_{percent}": _percent(cell.get("id"))}
        lines.append(line)
    return lines


def heads() -> list[str]:
    """The heads of its columns."""
    return ["row", "encoder", "ID accuracy", *(f"{percent} %" for percent in PERCENT)]


def row_of(record: Record) -> list[str]:
    """A line of the table, as text."""
    accepting = record["thresholds"]["accepting"]
    cells = (accepting.get(str(percent)) for percent in PERCENT)
    shares = [f"{cell['threshold']:.5g} ({100 * cell['id']:.1f})" if cell else "–" for cell in cells]
    accuracy = _percent(record["accuracy"])
    return [record["title"], record["encoder_title"], "–" if accuracy is None else f"{accuracy:.1f}", *shares]


def below(found: Sequence[Record], view: View) -> list[str]:
    """What a reader must know beside it."""
    counts = sorted({record["thresholds"]["n"] for record in found})
    images = f"{', '.join(f'{n:,}' for n in counts)} calibration images."
    seen = sorted({record["encoder_title"] for record in found if record["calibration"].startswith("seen")})
    told = (
        [f"Calibration images were seen by the network: {', '.join(seen)}; thresholds may be too low."] if seen else []
    )
    footnotes = dict.fromkeys(note for record in found for note in (*record["footnotes"], *record["id"]["notes"]))
    absent = [f"absent: {what}: {how}" for what, how in view.absent]
    return [*BELOW, images, *told, *sweeps(found, view), *footnotes, *view.footnotes, *absent]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
