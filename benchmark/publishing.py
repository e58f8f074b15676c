"""Committed results as pages, from their records alone: `python -m benchmark.publishing` writes them all anew.

Tables, findings and comparisons of every folder of `results/published`, tables of papers, and the tables in README.md
and results/*.md (`benchmark/quoted`). Nothing is measured; no images and no scores are needed.
"""

from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.papers import views
from benchmark.planning.options import Options
from benchmark.quoted import PAGES, filled
from benchmark.quoted.committed import PUBLISHED, ROOT, view
from benchmark.records import records, resolutions, significance
from benchmark.records.frames import View
from benchmark.records.names import folder_parts
from benchmark.records.ranking import Ranking
from benchmark.reporting import drawing, index, tables
from benchmark.reporting.findings import findings
from benchmark.reporting.page import report as html
from benchmark.store.files import write_atomically

_COLOURS = 96  # of a committed figure


def committed(results: Path) -> list[Path]:
    """The folders there that hold committed records, and none of this machine's own."""
    return [
        path.parent for path in sorted(results.glob(f"*/{records.PACKED}")) if not (path.parent / "records").exists()
    ]


def page(folder: Path, *, images: bool = True) -> tuple[list[dict[str, Any]], View]:
    """Write the page of a committed folder, which is not committed; the records that it shows, and how.

    Neither data nor weights are needed. Tables and figures stay as they were committed. ValueError where there is no
    result among the records.
    """
    found, shown, compared, both = _content(folder)
    html.write(folder, found, shown, compared, both, images=images)
    return found, shown


def _content(folder: Path) -> tuple[list[dict[str, Any]], View, significance.Significance | None, resolutions.Pairs]:
    """What a committed folder shows: its records, of which view, with the tests and the other resolution's beside."""
    found = records.read_all(folder)
    if all(record["kind"] != "result" for record in found):
        raise ValueError(f"no result in {records.PACKED}")
    shown = view(found)
    compared = significance.of_folder(folder, found, shown)
    return found, shown, compared, resolutions.pairs(found, resolutions.sibling(folder), shown)


def redraw(folder: Path) -> None:
    """Tables and findings of a committed folder, its figures that compare rows, and what else it has of figures.

    Of scores there are the quantiles in newer records: figures from older ones stay as they were drawn.
    """
    found, shown, compared, both = _content(folder)
    write_atomically(folder / "table.md", tables.markdown(found, shown))
    write_atomically(folder / "table.csv", tables.csv(found, shown))
    write_atomically(folder / "table.tex", tables.latex(found, shown))
    write_atomically(folder / "findings.md", findings(found, shown, compared, both))
    if compared is not None:
        write_atomically(folder / significance.TESTS, compared.csv())
    html.write(folder, found, shown, compared, both)
    kept = [figure for figure in drawing.measured(folder, found, shown) if (folder / f"{figure.path}.png").is_file()]
    for figure in (*kept, *drawing.comparing(Ranking(found, shown), compared, both)):
        path = folder / f"{figure.path}.png"
        path.parent.mkdir(exist_ok=True)
        figure.draw(path)
        with Image.open(path) as drawn:  # what is committed stays light
            drawn.convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def redraw_papers(folder: Path) -> None:
    """The tables of papers in a committed folder, from the committed results of the same flags."""
    flags = dict(flag.partition("=")[::2] for flag in folder_parts(folder)[1])
    options = Options(
        data=ROOT / "data",
        weights=ROOT / "weights",
        results=folder.parent,
        cache=folder.parent / ".cache",
        pretrained=flags.get("pretrained"),
        limit=int(flags["limit"]),
        limit_train=int(flags["limit-train"]),
        quick="quick" in flags,
    )
    for table in sorted(folder.glob("*.tex")):
        views.show(table.stem, options)


def main() -> None:
    for packed in sorted(PUBLISHED.glob(f"*/*/{records.PACKED}")):
        redraw(packed.parent)
        print(packed.parent)
    for folder in sorted(PUBLISHED.glob("*/papers+*")):
        redraw_papers(folder)
        print(folder)
    for results in sorted({folder.parent for folder in PUBLISHED.glob("*/*")}):
        index.write(results)
    for page in PAGES:
        write_atomically(page, filled(page.read_text(encoding="utf-8")))
        print(page)


if __name__ == "__main__":
    main()
