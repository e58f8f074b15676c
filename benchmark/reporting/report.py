"""What a results folder shows: tables and figures from its records and scores, drawn again only where these changed."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import comb

from benchmark.planning.plan import Plan
from benchmark.planning.suite import Suite
from benchmark.records import fitting, records, reference, resolutions, score_files
from benchmark.records.frames import ALL, COVARIATE, FAR, NEAR, SPECTRUM, View, is_sanity, spectral
from benchmark.records.records import Record
from benchmark.records.searching import as_it_was, state
from benchmark.reporting import drawing, terminal, thresholds
from benchmark.reporting.drawers import Drawers
from benchmark.reporting.terminal import WHOLE, Look
from benchmark.shown import printable
from benchmark.store.files import write_atomically


def text(plan: Plan, look: Look = WHOLE) -> str:
    """The table of what this run selected, for a terminal."""
    found, notes = _current(plan)
    shown = view(plan, found, selected=True, notes=notes)
    if not shown.ood and thresholds.of(found):
        return thresholds.text(found, shown)
    if not shown.ood:
        return "\n".join(
            ["There is no OOD set to measure against.", *notes, *(f"absent: {a}: {how}" for a, how in plan.absent)]
        )
    return terminal.text(found, shown, look)


def json(plan: Plan) -> str:
    """The same for machines; of a suite without OOD sets its thresholds."""
    from benchmark.reporting import tables

    found, notes = _current(plan)
    shown = view(plan, found, selected=True, notes=notes)
    return tables.json(found, shown) if shown.ood else thresholds.json(found, shown)


def check_columns(plan: Plan, columns: Sequence[str]) -> None:
    """UsageError for what `--columns` names and no table of this run has."""
    terminal.check(columns, view(plan, [], selected=True, notes=[]))


def write(
    plan: Plan,
    *,
    redraw: bool = False,
    pdf: bool = False,
    images: bool = True,
    drawers: Drawers | None = None,
    drawn: Mapping[str, str] | None = None,
) -> None:
    """Tables, findings, figures and page of the whole results folder. What is drawn already stays, unless `redraw`.

    pdf: figures as PDF as well. images: in the page also those that may not be passed on. drawers, drawn: who draws
    the figures, and which are just drawn, as `drawing.draw` takes them.
    """
    from benchmark.records import significance
    from benchmark.reporting import index, tables
    from benchmark.reporting.findings import findings
    from benchmark.reporting.page import report as page
    from benchmark.reporting.page import thresholds as page_of_thresholds

    found, notes = _current(plan)
    shown = view(plan, found, selected=False, notes=notes)
    if not shown.ood:
        if calibrated := thresholds.of(found):
            write_atomically(plan.folder / "table.md", thresholds.markdown(calibrated, shown))
            write_atomically(plan.folder / "table.csv", thresholds.csv(calibrated))
            page_of_thresholds.write(plan.folder, calibrated, shown)
            index.write(plan.folder.parent)
        return
    compared = significance.of_folder(plan.folder, found, shown)
    both = resolutions.pairs(found, resolutions.sibling(plan.folder), shown)
    write_atomically(plan.folder / "table.md", tables.markdown(found, shown))
    write_atomically(plan.folder / "table.csv", tables.csv(found, shown))
    write_atomically(plan.folder / "table.tex", tables.latex(found, shown))
    write_atomically(plan.folder / "findings.md", printable(findings(found, shown, compared, both)))
    if compared is not None:
        write_atomically(plan.folder / significance.TESTS, compared.csv())
    drawing.draw(plan.folder, found, shown, compared, both, redraw=redraw, pdf=pdf, drawers=drawers, ahead=drawn)
    page.write(plan.folder, found, shown, compared, both, images=images)
    index.write(plan.folder.parent)


def _current(plan: Plan) -> tuple[list[Record], list[str]]:
    """The records of the folder that fit what the plan has now, whatever run they are from, and notes on the others."""
    expected = {cell.path: (cell.key, row.about["precision"]) for row in plan.rows for cell in row.cells}
    read, damaged = records.load(plan.folder)
    current: list[Record] = []
    changed: list[Record] = []
    for record in read:
        path = records.place(plan.folder, record)
        key, precision = expected.get(path, (record["key"], None))
        # a key covers the precision: a record of another one is held against what it depends on alone
        other = record.get("precision") not in (None, precision)
        stale = record["status"] == "done" and record["key"] != key and not other
        (changed if stale else current).append(record)
    present = {name: part for row in plan.rows for name, part in row.present}
    found, others = fitting.split(current, present)
    rows = sorted({record["row"] for record in (*changed, *others)})
    unknown = sorted({r["row"] for r in found if r["status"] == "done" and not _at_hand(plan, r)})
    differing = records.differing(plan.folder)
    notes = [
        f"Left out, because what they depend on has changed since (run again): {', '.join(rows)}." if rows else "",
        f"Left out, because they are damaged (run again): {'; '.join(damaged)}." if damaged else "",
        f"Another machine has other numbers under the same key: {'; '.join(differing)}." if differing else "",
        f"Scores that do not fit their records, in no figure (run again): {', '.join(unknown)}." if unknown else "",
    ]
    return found, [note for note in notes if note]


def _at_hand(plan: Plan, record: Record) -> bool:
    """Whether no file of scores is there that is not the record's."""
    if record["kind"] != "result" or score_files.fit(plan.folder, record):
        return True
    return not any(os.path.lexists(score_files.path_of(plan.folder, record, side)) for side in score_files.SIDES)


def view(plan: Plan, found: list[Record], *, selected: bool, notes: list[str]) -> View:
    """Which rows and OOD sets a table of the plan shows, and the published numbers beside them."""
    rows = {
        row.spec.label: (row.spec.label, row.about["title"], row.about["encoder_title"])
        for row in plan.rows
        if row.selected or not selected
    }
    columns: dict[str, tuple[str, str, str]] = {
        column.name: (column.name, column.title, column.spec.group)
        for column in plan.columns
        if column.selected or not selected
    }
    results = [record for record in found if record["kind"] == "result"]
    swept = {row.spec.label for row in plan.rows if state([row.about])} | {r["row"] for r in results if state([r])}
    chosen = {record["row"]: record["title"] for record in found if state([record]) == "searched"}
    rows = {name: (name, chosen.get(name, title), encoder) for name, title, encoder in rows.values()}
    compared = {row.spec.label for row in plan.rows} | {record["row"] for record in results}
    compared -= swept - set(chosen)
    if not selected:  # what earlier runs measured beside the suite; not what none has measured yet
        for record in results:
            ood = record["ood"]
            rows.setdefault(record["row"], (record["row"], record["title"], record["encoder_title"]))
            columns.setdefault(ood["name"], (ood["name"], ood["title"], ood["group"]))
        rows = {name: row for name, row in rows.items() if name in {record["row"] for record in results}}
        there = {record["ood"]["name"] for record in results}
        columns = {name: column for name, column in columns.items() if name in there}
    columns |= {column[0]: column for column in spectral(columns.values())}
    return View(
        name=plan.suite.name,
        title=plan.suite.title,
        id_title=results[0]["id"]["title"] if results else plan.suite.id.set,
        rows=tuple(rows.values()),
        ood=tuple(columns.values()),
        published=published(plan.suite, {c.spec.set for c in plan.columns if c.stands_in_for is None}, rows),
        metrics=plan.suite.metrics,
        absent=plan.absent,
        footnotes=tuple(notes),
        remarks=reference.remarks(row.published for row in plan.suite.rows if row.published and row.label in rows),
        tests=comb(sum(not is_sanity(row) for row in compared), 2),
    )


def published(suite: Suite, there: Collection[str], rows: Iterable[str]) -> dict[tuple[str, str, str], float]:
    """(row, OOD set, metric) -> the published number, for rows and sets that are the published ones.

    rows: their labels; a row that was searched has the number of the row that it was.
    there: the sets that are measured, each as itself. An average stands beside ours where it is over the same sets: all
    of them are there, and ours has no other; and a figure of the full spectrum where all shifted sets are.
    """
    where = suite.published
    if where is None:
        return {}
    cells = reference.published(where.tables, where.id)
    sets = {spec.published: spec.set for spec in suite.ood if spec.published is not None}
    lacking = {spec.group for spec in suite.ood if spec.set not in there or (sets and spec.published is None)}
    averages = {group: name for group, name in (("near", NEAR), ("far", FAR)) if group not in lacking}
    if all(spec.set in there for spec in suite.ood if spec.group == COVARIATE):
        sets |= {f"fs-{name}": f"{SPECTRUM} {own}" for name, own in sets.items()}
        sets |= {f"fs-{group}": f"average fs-{group}" for group in averages}
    sets |= {**averages, "": ALL}  # "": images a second
    called = {row.label: row.published for row in suite.rows}
    names: dict[str | None, list[str]] = {}
    for label in rows:
        names.setdefault(called.get(as_it_was(label)), []).append(label)
    return {
        (label, sets[ood], metric): value
        for (method, ood, metric), value in cells.items()
        if ood in sets
        for label in names.get(method, [])
    }
