"""Views of papers: written from what suites have measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.papers import figures, page, reading, tables
from benchmark.papers.figures import NotMeasured
from benchmark.papers.gallery import gallery
from benchmark.planning.options import Options, results_folder
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
    folder = results_folder("papers", options)
    if name != "all":
        return _write(name, folder, options)
    said = {each: _write(each, folder, options) for each in reading.names()}
    page.write(folder, said, options)
    lines = [f"{each:10} {_state(each, folder, options)}" for each in said]
    return "\n".join([*lines, f"wrote {folder}"])


def _write(name: str, folder: Path, options: Options) -> str:
    view = reading.read(name)
    if view.kind == "table":
        rendered, measured = tables.render(tables.pages(name, view, options)), tables.summary(name, view, options)
        rendered["md"] += f"\n{measured}.\n"
        for extension in ("md", "csv", "tex"):
            write_atomically(folder / f"{name}.{extension}", rendered[extension])
        return f"{rendered['txt']}\nwrote {folder / name}.md, .csv, .tex\n{measured}"
    try:
        draw = FIGURES[view.kind](view, options)
    except NotMeasured as why:
        return f"{view.title}: not measured: {why}"
    for extension in figures.FORMATS:
        draw(folder / f"{name}.{extension}")
    return f"{view.title}\nwrote {folder / name}.png, .pdf"


def _state(name: str, folder: Path, options: Options) -> str:
    """How much of a view has been measured."""
    view = reading.read(name)
    if view.kind != "table":
        return f"{view.title}: {'drawn' if (folder / f'{name}.png').is_file() else 'not measured'}"
    return f"{view.title}: {tables.summary(name, view, options)}"
