"""One page with every table and figure of the papers: ours and published, what is missing and the command for it."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.papers import reading, tables
from benchmark.planning.options import Options
from benchmark.reporting.page import document, report, table
from benchmark.store.files import write_atomically


def write(folder: Path, said: Mapping[str, str], options: Options) -> None:
    """`report.html` of a folder of papers. said: view -> what a terminal was told of it."""
    views = [_view(name, folder, words, options) for name, words in said.items()]
    page = document.render("papers.html.jinja", (), {}, drawing=False, views=views, folder=folder.name)
    write_atomically(folder / report.NAME, page)


def _view(name: str, folder: Path, said: str, options: Options) -> dict[str, Any]:
    """A view's tables, each with the metrics that it shows; or its figure; or why there is neither."""
    view = reading.read(name)
    shown: dict[str, Any] = {"name": name, "title": view.title, "tables": [], "figure": "", "said": ""}
    if view.kind == "table":
        parts = tables.pages(name, view, options)
        shown["tables"] = [{**table.content(*part, None), "shown": list(part[1].metrics)} for part in parts]
        shown["said"] = tables.summary(name, view, options)
    elif "not measured" in said:
        shown["said"] = said
    else:
        figure = (folder / f"{name}.png").read_bytes()
        shown["figure"] = f"data:image/png;base64,{base64.b64encode(figure).decode()}"
    return shown
