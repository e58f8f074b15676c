"""A view as a paper's table: what was measured, the published number, the difference, and what was not measured."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from benchmark import shown
from benchmark.papers.reading import Part, Row, Table
from benchmark.papers.sources import borrowed, command, measured
from benchmark.planning.options import Options
from benchmark.records import reference
from benchmark.records.frames import ALL, COMMON, FAR, NEAR, Record, View, every_line, results_of
from benchmark.reporting import caveats, tables, terminal
from datasets import catalogue
from datasets.sources import present

Page = tuple[list[Record], View]  # the records of one part, and what is shown of them
MISSING = "Not measured: "  # before the command for it
_AVERAGES = {ALL: "average", NEAR: "near", FAR: "far"}  # as the reference tables name them


def pages(name: str, table: Table, options: Options) -> list[Page]:
    """One page for each part of a table, and one over all of them where the paper averages so."""
    parts = [_page(name, table, part, options) for part in table.parts]
    return [*parts, _overall(name, table, parts)] if table.overall is not None else parts


def render(found: Iterable[Page]) -> dict[str, str]:
    """The table by file extension (md, csv, tex), and as `txt` for a terminal; parts one after the other."""
    found = list(found)
    return {
        "txt": "\n".join(terminal.text(*page) for page in found),
        "md": "\n".join(tables.markdown(*page) for page in found),
        "csv": _csv(found),
        "tex": "\n".join(tables.latex(*page) for page in found),
    }


def _csv(found: list[Page]) -> str:
    """The parts below each other, under one head, with the ID set in front."""
    lines = ({"id": view.id_title} | line for page, view in found for line in every_line(page, view))
    return shown.csv(lines)


def summary(table: Table, found: Iterable[Page]) -> str:
    """How much of the paper's cells is measured: as the paper has it, or with something that stands in."""
    cells = measured_so = stand_ins = 0
    for part, (records_of, view) in zip(table.parts, found, strict=False):
        own = {row.row for row in part.rows} - {None}
        titles = {catalogue.get(name).title: name for name in part.ood}
        of_cell: dict[tuple[str, str], bool] = {}  # whether it is as the paper has it
        for (row, ood), seeds in results_of(records_of, view).items():
            done = [record for record in seeds if record["status"] == "done"]
            ood = ood if ood in part.ood else titles.get(seeds[0]["ood"]["stands_in_for"], ood)
            if done and row in own:
                as_published = not any(True for record in done for _ in caveats.made_otherwise(record))
                of_cell[row, ood] = of_cell.get((row, ood), False) or as_published
        cells += len(own) * len(part.ood)
        measured_so += sum(of_cell.values())
        stand_ins += len(of_cell) - sum(of_cell.values())
    return f"{measured_so} of {cells} cells at the paper's setting, {stand_ins} with a stand-in"


def _page(name: str, table: Table, part: Part, options: Options) -> Page:
    named = [(row.row or f"published/{row.published}", row) for row in part.rows]
    rows = [key for key, row in named if row.row is not None]
    found = measured(options, rows, part.pretrained)
    results = [record for record in found if record["kind"] == "result"]
    about = {record["row"]: record for record in results}
    view = View(
        name=name,
        title=table.title,
        id_title=next((record["id"]["title"] for record in results), part.id),
        rows=[(key, *_titles(row, about.get(key))) for key, row in named],
        ood=_columns(part, results, {key for key, _ in named}),
        metrics=table.metrics,
    )
    misprints = {
        (key, set_, metric): note
        for (method, ood, metric), note in reference.misprints(part.reference, part.id).items()
        for key, row in named
        for set_, printed in {**part.ood, **_AVERAGES}.items()
        if (row.published, printed) == (method, ood)
    }
    view = replace(
        view,
        published=_published(part, named),
        misprints={cell: note for cell, note in misprints.items() if cell[2] in table.metrics},
        absent=_absent(part, results, options),
        footnotes=[*borrowed(options, rows, part.pretrained), *_unmeasured(named, about, options, part.pretrained)],
        remarks=reference.remarks(row.published for row in part.rows if row.published is not None),
    )
    return found, _with_common(view, found)


def _overall(name: str, table: Table, parts: list[Page]) -> Page:
    """The published rows against every pair of an ID and an OOD set."""
    found: list[Record] = []
    published: dict[tuple[str, str, str], float] = {}
    rows: dict[str, tuple[str, str, str]] = {}
    columns: list[tuple[str, str, str]] = []
    for part, (records_of, view) in zip(table.parts, parts, strict=True):
        titles = {row: title for row, title, _ in view.rows}
        names = {title: row.published for row, (_, title, _) in zip(part.rows, view.rows, strict=True) if row.published}
        columns += [(f"{part.id} {ood}", f"{part.id} → {printed}", "") for ood, printed in part.ood.items()]
        rows |= {title: (title, title, encoder) for _, title, encoder in view.rows if title in names}
        for record in records_of:
            if record["kind"] == "result" and titles.get(record["row"]) in names:
                ood = {**record["ood"], "name": f"{part.id} {record['ood']['name']}"}
                found.append({**record, "row": titles[record["row"]], "ood": ood})
        cells = reference.published(part.reference, part.id) | {
            (method, "all", metric): value
            for (method, ood, metric), value in reference.published(part.reference, str(table.overall)).items()
            if ood == "average"
        }
        pairs = {f"{part.id} {name}": printed for name, printed in part.ood.items()} | {ALL: "all"}
        for title in rows:
            for pair, printed in pairs.items():
                for metric in table.metrics:
                    if (names.get(title), printed, metric) in cells:
                        published[title, pair, metric] = cells[names[title], printed, metric]
    ids = " and ".join(part.id for part in table.parts)
    view = View(name, f"{table.title}: all pairs", ids, list(rows.values()), columns, published, metrics=table.metrics)
    return found, _with_common(view, found)


def _with_common(view: View, found: list[Record]) -> View:
    """The view with the average over the sets that are measured, ours and published, where not all are."""
    there = _common(view, found)
    if not 0 < len(there) < len(view.over(ALL)):
        return view
    published = dict(view.published)
    for row, _, _ in view.rows:
        for metric in ("auroc", "fpr95"):
            values = [published[row, name, metric] for name in there if (row, name, metric) in published]
            if len(values) == len(there):
                published[row, COMMON, metric] = sum(values) / len(values)
    return replace(view, published=published, common=there)


def _titles(row: Row, record: Record | None) -> tuple[str, str]:
    """The row's title as the paper has it, else ours; and the encoder that it was measured on."""
    label = (row.row or "").partition("/")[2]
    title = row.title or row.published or (record["title"] if record else label)
    return title, record["encoder_title"] if record else "not measured"


def _columns(part: Part, results: list[Record], rows: set[str]) -> list[tuple[str, str, str]]:
    """The paper's OOD sets, and behind them what was measured in the place of one."""
    columns = [
        (name, printed, "near" if name in part.near else "far" if part.near else "")
        for name, printed in part.ood.items()
    ]
    titles = {catalogue.get(name).title: printed for name, printed in part.ood.items()}
    for record in results:
        ood = record["ood"]
        if record["row"] in rows and ood["stands_in_for"] in titles and ood["name"] not in {c[0] for c in columns}:
            columns.append((ood["name"], f"{ood['title']} for {titles[ood['stands_in_for']]}", "stand-in"))
    return columns


def _common(view: View, found: list[Record]) -> list[str]:
    """The paper's sets that some row has been measured on."""
    done = {ood for (_, ood), seeds in results_of(found, view).items() if any(r["status"] == "done" for r in seeds)}
    return [name for name in view.over(ALL) if name in done]


def _published(part: Part, named: list[tuple[str, Row]]) -> Mapping[tuple[str, str, str], float]:
    cells = reference.published(part.reference, part.id)
    found: dict[tuple[str, str, str], float] = {}
    for key, row in named:
        method = row.published or ""
        for name, printed in {**part.ood, **_AVERAGES}.items():
            for metric in ("auroc", "fpr95"):
                if (method, printed, metric) in cells:
                    found[key, name, metric] = cells[method, printed, metric]
        if (method, "", "images_per_second") in cells:
            found[key, ALL, "images_per_second"] = cells[method, "", "images_per_second"]
    return found


def _absent(part: Part, results: list[Record], options: Options) -> list[tuple[str, str]]:
    there = {record["ood"]["name"] for record in results}
    return [
        (printed, catalogue.get(name).how_to_get)
        for name, printed in part.ood.items()
        if name not in there and not present(name, options.data, "test")
    ]


def _unmeasured(
    named: list[tuple[str, Row]], about: Mapping[str, Record], options: Options, pretrained: str | None
) -> list[str]:
    """What there is to run, and what the project does not build."""
    missing = [key for key, row in named if row.row is not None and key not in about]
    notes = [f"{MISSING}{command(options, missing, pretrained)}"] if missing else []
    foreign = [row.published for _, row in named if row.row is None and row.published is not None]
    if foreign:
        notes.append(f"As published alone: {', '.join(foreign)}")
    return notes
