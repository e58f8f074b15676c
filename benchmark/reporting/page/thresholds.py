"""`report.html` of a suite without OOD sets: the thresholds of its rows, and the records that they are from."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.records.frames import Record, View
from benchmark.reporting import thresholds
from benchmark.reporting.page import details, document, report
from benchmark.store.files import write_atomically


def write(folder: Path, found: Sequence[Record], view: View) -> None:
    """The page of a results folder that has thresholds and nothing else; it needs no script."""
    rows = [
        {
            "name": f"{record['title']} on {record['encoder_title']}, seed {record['seed']}",
            "cells": thresholds.row_of(record),
            "record": details.told(record),
        }
        for record in found
    ]
    page = document.render(
        "thresholds.html.jinja",
        (),
        {},
        drawing=False,
        title=view.title,
        id=found[0]["id"]["title"],
        folder=folder.name,
        said=thresholds.HEAD,
        heads=thresholds.heads(),
        rows=rows,
        notes=thresholds.below(found, view),
    )
    write_atomically(folder / report.NAME, page)
