"""One page with every table and figure of the papers: ours and published, what is missing and the command for it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.papers import reading, tables
from benchmark.records.frames import Record, View
from benchmark.reporting.page import document, report, table
from benchmark.store.files import write_atomically


def write(folder: Path, written: Mapping[str, tuple[str, Sequence[tables.Page]]]) -> None:
    """`report.html` of a folder of papers. written: view -> how much of it there is, and what its tables show."""
    views = [_view(name, folder, *about) for name, about in written.items()]
    page = document.render("papers.html.jinja", (), {}, drawing=False, views=views, folder=folder.name)
    write_atomically(folder / report.NAME, page)


def _view(name: str, folder: Path, state: str, pages: Sequence[tables.Page]) -> dict[str, Any]:
    figure = folder / f"{name}.png" if state == "drawn" else None
    return {
        "name": name,
        "title": reading.read(name).title,
        "state": state,
        "tables": [_table(*part) for part in pages],
        "figure": figure and f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}",
    }


def _table(found: list[Record], view: View) -> dict[str, Any]:
    """What a suite's page has of a table, the metrics that this one shows, and the commands for what is missing."""
    content = table.content(found, view, None)
    missing = [note for note in content["notes"] if note.startswith(tables.MISSING)]
    notes = [note for note in content["notes"] if note not in missing]
    return {**content, "shown": list(view.metrics), "missing": missing, "notes": notes}
