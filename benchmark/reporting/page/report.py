"""`report.html`: a results folder as one page, from the same frames as its tables."""

import webbrowser
from pathlib import Path

from benchmark.records.frames import View
from benchmark.records.records import Record
from benchmark.records.resolutions import Pairs
from benchmark.records.significance import Significance
from benchmark.reporting.page import details, document, plots, table
from benchmark.reporting.page.images import Images, shareable
from benchmark.store.files import write_atomically

NAME = "report.html"
_SCRIPTS = ("state", "difference", "table", "reference", "export", "plots", "cell", "main")
_START = {  # what a page shows first: all that its #hash can change
    **dict.fromkeys(("sort", "text", "encoder", "reads", "reference", "cell"), ""),
    **dict.fromkeys(("down", "intervals", "averages", "published"), True),
    "metric": "auroc",
}


def write(
    folder: Path, found: list[Record], shown: View, compared: Significance | None, both: Pairs, *, images: bool = True
) -> None:
    """The page of a results folder, beside its tables. images: also those that may not be passed on."""
    content = table.content(found, shown, compared)
    shown_images = Images(folder, every=images)
    opened = details.content(folder, found, shown, shown_images)
    drawn = plots.content(folder, found, shown, compared, both)
    of_id = [record for record in found if record["kind"] == "result"]
    may_show = images or all(shareable(record, "id") for record in of_id)
    pictures = plots.pictures(folder, [row for row, _, _ in shown.rows]) if may_show else []
    page = document.render(
        "report.html.jinja",
        _SCRIPTS,
        {"start": _START, "table": content, "details": opened, "plots": drawn},
        drawing=True,
        table=content,
        folder=folder.name,
        images=shown_images.notes,
        plots=drawn,
        pictures=pictures,
    )
    write_atomically(folder / NAME, page)


def show(page: Path) -> str:
    """Open a page in the browser; what the user is told of it."""
    if not page.is_file():
        return f"no page to open: {page} is not there"
    return f"{'opened' if webbrowser.open(page.as_uri()) else 'no browser here; open'} {page}"
