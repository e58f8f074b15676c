"""Views of papers: written from what suites have measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.papers import figures, page, reading, tables
from benchmark.papers.figures import NotMeasured
from benchmark.papers.gallery import gallery
from benchmark.planning.options import Options, results_folder
from benchmark.reporting import index
from benchmark.store.files import write_atomically

FIGURES: dict[str, Callable[[Any, Options], figures.Draw]] = {
    "distributions": figures.distributions,
    "sweep": figures.sweep,
    "bars": figures.bars,
    "gallery": gallery,
}


def show(name: str, options: Options) -> str:
    """Write the view `name`, or `all` and a page of them, to `<results>/papers`; what a terminal is told of it.

    UsageError for an unknown name. Nothing is run: what has not been measured is shown as such, with the command.
    """
    folder = results_folder(index.PAPERS, options)
    if name != "all":
        return _write(name, folder, options)[0]
    written = {each: _write(each, folder, options)[1:] for each in reading.names()}
    page.write(folder, written)
    index.write(folder.parent)
    lines = [f"{each:10} {reading.read(each).title}: {state.partition(':')[0]}" for each, (state, _) in written.items()]
    return "\n".join([*lines, f"wrote {folder}"])


def _write(name: str, folder: Path, options: Options) -> tuple[str, str, list[tables.Page]]:
    """Write a view: what a terminal is told of it; how much of it there is, in a few words; what its tables show."""
    view = reading.read(name)
    if view.kind == "table":
        found = tables.pages(name, view, options)
        rendered, measured = tables.render(found), tables.summary(view, found)
        rendered["md"] += f"\n{measured}.\n"
        for extension in ("md", "csv", "tex"):
            write_atomically(folder / f"{name}.{extension}", rendered[extension])
        return f"{rendered['txt']}\nwrote {folder / name}.md, .csv, .tex\n{measured}", measured, found
    try:
        draw = FIGURES[view.kind](view, options)
    except NotMeasured as why:
        return f"{view.title}: not measured: {why}", f"not measured: {why}", []
    for extension in figures.FORMATS:
        draw(folder / f"{name}.{extension}")
    return f"{view.title}\nwrote {folder / name}.png, .pdf", "drawn", []
