"""A view as a paper's table: what was measured, the published number, the difference, and what was not measured."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from benchmark import records, reference, tables
from benchmark.frames import ALL, COMMON, Record, View, results_of
from benchmark.papers import Part, Row, Table
from benchmark.plan import Options, results_folder
from datasets import catalogue
from datasets.sources import present

Page = tuple[list[Record], View]  # the records of one part, and what is shown of them


def pages(name: str, table: Table, options: Options) -> list[Page]:
    """One page for each part of a table."""
    return [_page(name, table, part, options) for part in table.parts]


def render(found: Iterable[Page]) -> dict[str, str]:
    """The table by file extension (md, csv, tex), and as `txt` for a terminal; parts one after the other."""
    found = list(found)
    return {
        "txt": "\n".join(tables.text(*page) for page in found),
        "md": "\n".join(tables.markdown(*page) for page in found),
        "csv": _csv(found),
        "tex": "\n".join(tables.latex(*page) for page in found),
    }


def _csv(found: list[Page]) -> str:
    """The parts below each other, under one head, with the ID set in front."""
    import pandas as pd

    frames = []
    for records_of, view in found:
        lines = tables.frame(records_of, view)
        lines.insert(0, "id", view.id_title)
        frames.append(lines)
    return str(pd.concat(frames).to_csv(index=False, float_format="%.2f", lineterminator="\n"))


def measured(options: Options, rows: Iterable[str], pretrained: str | None) -> list[Record]:
    """The records of rows named `suite/row`, from the results folders of these options, under these names."""
    options = replace(options, pretrained=pretrained or options.pretrained)
    found: list[Record] = []
    wanted = set(rows)
    for suite in dict.fromkeys(row.partition("/")[0] for row in wanted):
        for record in records.read_all(results_folder(suite, options)):
            name = f"{suite}/{record['row']}"
            if name in wanted or record.get("method") == "lowlevel":  # what marks a set as separable
                found.append({**record, "row": name})
    return found


def _page(name: str, table: Table, part: Part, options: Options) -> Page:
    named = [(row.row or f"published/{row.published}", row) for row in part.rows]
    found = measured(options, [key for key, row in named if row.row is not None], part.pretrained)
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
    there = _common(view, found)
    published = _published(part, named, there)
    misprints = {
        (key, set_, metric): note
        for (method, ood, metric), note in reference.misprints(part.reference, part.id).items()
        for key, row in named
        for set_, printed in [*part.ood.items(), (ALL, ALL)]
        if (row.published, printed) == (method, ood)
    }
    return found, replace(
        view,
        published=published,
        misprints={cell: note for cell, note in misprints.items() if cell[2] in table.metrics},
        common=there if 0 < len(there) < len(part.ood) else (),
        absent=_absent(part, results, options),
        footnotes=_unmeasured(named, about),
    )


def _titles(row: Row, record: Record | None) -> tuple[str, str]:
    """The row's title as the paper has it, else ours; and the encoder that it was measured on."""
    label = (row.row or "").partition("/")[2]
    title = row.title or row.published or (record["title"] if record else label)
    return title, record["encoder_title"] if record else "not measured"


def _columns(part: Part, results: list[Record], rows: set[str]) -> list[tuple[str, str, str]]:
    """The paper's OOD sets, and behind them what was measured in the place of one."""
    columns = [(name, printed, "") for name, printed in part.ood.items()]
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


def _published(part: Part, named: list[tuple[str, Row]], common: list[str]) -> Mapping[tuple[str, str, str], float]:
    cells = reference.published(part.reference, part.id)
    found: dict[tuple[str, str, str], float] = {}
    for key, row in named:
        method = row.published or ""
        for name, printed in [*part.ood.items(), (ALL, ALL)]:
            for metric in ("auroc", "fpr95"):
                if (method, printed, metric) in cells:
                    found[key, name, metric] = cells[method, printed, metric]
        if (method, "", "images_per_second") in cells:
            found[key, ALL, "images_per_second"] = cells[method, "", "images_per_second"]
        for metric in ("auroc", "fpr95"):
            of_common = [found[key, name, metric] for name in common if (key, name, metric) in found]
            if of_common and len(of_common) == len(common):
                found[key, COMMON, metric] = sum(of_common) / len(common)
    return found


def _absent(part: Part, results: list[Record], options: Options) -> list[tuple[str, str]]:
    there = {record["ood"]["name"] for record in results}
    return [
        (printed, catalogue.get(name).how_to_get.replace("DATA/", f"{options.data}/"))
        for name, printed in part.ood.items()
        if name not in there and not present(name, options.data, "test")
    ]


def _unmeasured(named: list[tuple[str, Row]], about: Mapping[str, Record]) -> list[str]:
    """What there is to run, and what the project does not build."""
    notes = []
    commands: dict[str, list[str]] = {}
    for key, row in named:
        if row.row is not None and key not in about:
            suite, _, label = row.row.partition("/")
            commands.setdefault(suite, []).append(label)
    for suite, labels in commands.items():
        notes.append(f"Not measured: run_all.py --id {suite} --methods {' '.join(labels)}")
    foreign = [row.published for _, row in named if row.row is None and row.published is not None]
    if foreign:
        notes.append(f"As published alone, not built here: {', '.join(foreign)}")
    return notes
