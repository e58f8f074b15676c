"""Views of papers: written from what suites have measured, and which of them the data here can fill."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmark import paper_figures, paper_tables, papers
from benchmark import suite as suites
from benchmark.gallery import gallery
from benchmark.paper_figures import NotMeasured
from benchmark.plan import Options, results_folder
from benchmark.store import write_atomically
from datasets.sources import present
from methods.base import CannotRun

FIGURES: dict[str, Callable[[Any, Options], paper_figures.Draw]] = {
    "distributions": paper_figures.distributions,
    "sweep": paper_figures.sweep,
    "bars": paper_figures.bars,
    "gallery": gallery,
}


_suite = cache(suites.read)  # most views stand on the same few


def show(name: str, options: Options) -> str:
    """Write the view `name`, or `all`, to `<results>/papers`; what a terminal is told of it.

    UsageError for an unknown name. Nothing is run: what has not been measured is shown as such, with the command.
    """
    folder = results_folder("papers", options)
    if name != "all":
        return _write(name, folder, options)
    lines = []
    for each in papers.names():
        _write(each, folder, options)
        lines.append(f"{each:10} {_state(each, folder, options)}")
    return "\n".join([*lines, f"wrote {folder}"])


def _write(name: str, folder: Path, options: Options) -> str:
    view = papers.read(name)
    if view.kind == "table":
        rendered = paper_tables.render(paper_tables.pages(name, view, options))
        for extension in ("md", "csv", "tex"):
            write_atomically(folder / f"{name}.{extension}", rendered[extension])
        return rendered["txt"] + f"\nwrote {folder / name}.md, .csv, .tex"
    try:
        draw = FIGURES[view.kind](view, options)
    except NotMeasured as why:
        return f"{view.title}: not measured: {why}"
    for extension in paper_figures.FORMATS:
        draw(folder / f"{name}.{extension}")
    return f"{view.title}\nwrote {folder / name}.png, .pdf"


def _state(name: str, folder: Path, options: Options) -> str:
    """How much of a view has been measured."""
    view = papers.read(name)
    if view.kind != "table":
        return f"{view.title}: {'drawn' if (folder / f'{name}.png').is_file() else 'not measured'}"
    done = cells = 0
    for records, page in paper_tables.pages(name, view, options):
        own = {row for row, _, _ in page.rows if not row.startswith("published/")}
        sets = set(page.over("average"))
        cells += len(own) * len(sets)
        done += len(
            {
                (r["row"], r["ood"]["name"])
                for r in records
                if r["kind"] == "result" and r["status"] == "done" and r["row"] in own and r["ood"]["name"] in sets
            }
        )
    return f"{view.title}: {done} of {cells} cells measured"


def lacking(name: str, data: Path, weights: Path) -> list[str]:
    """What a view needs that is not here: data sets and encoders, by name; empty where it can be filled whole."""
    view = papers.read(name)
    absent = [each for each in papers.sets_of(view) if not present(each, data, "test")]
    specs: list[suites.EncoderSpec] = []
    for suite_name, label, pretrained in papers.rows_of(view):
        suite = _suite(suite_name)
        suite = suites.with_pretrained(suite, pretrained) if pretrained is not None else suite
        if not all(present(suite.id.set, data, split) for split in ("train", "test")):
            absent.append(suite.id.set)
        encoder = next(row.encoder for row in suite.rows if row.label == label)
        spec = suite.encoders[str(suite.encoders[encoder].settings.get("base", encoder))]
        specs += [] if spec in specs else [spec]
    for spec in specs:
        absent += _lacking_weights(spec, weights)
    return sorted(set(absent))


def _lacking_weights(spec: suites.EncoderSpec, weights: Path) -> list[str]:
    from methods.encoders import registry

    encoder: Any = registry.create(spec.kind, **spec.settings)
    try:
        if encoder.find_weights(weights) is None:
            encoder.find_start(weights)
    except CannotRun:
        return [str(spec.settings.get("model") or spec.settings.get("checkpoint") or spec.kind)]
    return []
