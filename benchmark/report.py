"""What a results folder shows: tables and figures from its records and scores, drawn again only where these changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmark import keys, records, reference
from benchmark.frames import View, speeds_of
from benchmark.plan import Plan
from benchmark.records import Record
from benchmark.store import write_atomically

DRAWN = "drawn.json"


def text(plan: Plan) -> str:
    """The table of what this run selected, for a terminal."""
    from benchmark import tables

    found, notes = _current(plan)
    return tables.text(found, view(plan, found, selected=True, notes=notes))


def write(plan: Plan, *, redraw: bool = False) -> None:
    """Tables and figures of everything in the results folder. What is drawn already stays, unless `redraw`."""
    from benchmark import tables

    found, notes = _current(plan)
    if not found:
        return
    shown = view(plan, found, selected=False, notes=notes)
    write_atomically(plan.folder / "table.md", tables.markdown(found, shown))
    write_atomically(plan.folder / "table.csv", tables.csv(found, shown))
    write_atomically(plan.folder / "table.tex", tables.latex(found, shown))
    _draw(plan.folder, found, shown, redraw)


def _current(plan: Plan) -> tuple[list[Record], list[str]]:
    """The records of the folder without those that the plan's rows no longer stand for, and a note on these."""
    expected = {measure.path: measure.key for row in plan.rows for measure in row.measures.values()} | {
        row.speed.path: row.speed.key for row in plan.rows if row.speed is not None
    }
    found: list[Record] = []
    outdated: list[Record] = []
    for record in records.read_all(plan.folder):
        if record["kind"] == "speed":
            path = records.speed_path(plan.folder, record["row"])
        else:
            path = records.path_of(plan.folder, record["row"], record["ood"]["name"], record["seed"])
        stale = record["status"] == "done" and expected.get(path, record["key"]) != record["key"]
        (outdated if stale and record["kind"] == "result" else found).append(record)
    rows = sorted({record["row"] for record in outdated})
    note = f"Left out, because what they depend on has changed since (run again): {', '.join(rows)}."
    return found, [note] if rows else []


def view(plan: Plan, found: list[Record], *, selected: bool, notes: list[str]) -> View:
    """Which rows and OOD sets a table of the plan shows, and the published numbers beside them."""
    rows = {
        row.spec.label: (row.spec.label, row.about["title"], row.about["encoder_title"])
        for row in plan.rows
        if row.selected or not selected
    }
    columns = {
        column.name: (column.name, column.title, column.spec.group)
        for column in plan.columns
        if column.selected or not selected
    }
    results = [record for record in found if record["kind"] == "result"]
    if not selected:  # what earlier runs measured beside the suite; not what none has measured yet
        for record in results:
            ood = record["ood"]
            rows.setdefault(record["row"], (record["row"], record["title"], record["encoder_title"]))
            columns.setdefault(ood["name"], (ood["name"], ood["title"], ood["group"]))
        rows = {name: row for name, row in rows.items() if name in {record["row"] for record in results}}
        there = {record["ood"]["name"] for record in results}
        columns = {name: column for name, column in columns.items() if name in there}
    return View(
        name=plan.suite.name,
        title=plan.suite.title,
        id_title=results[0]["id"]["title"] if results else plan.suite.id.set,
        rows=tuple(rows.values()),
        ood=tuple(columns.values()),
        published=_published(plan),
        absent=plan.absent,
        footnotes=tuple(notes),
    )


def _published(plan: Plan) -> dict[tuple[str, str, str], float]:
    """(row, OOD set, metric) -> the published number, for rows and sets that are the published ones."""
    where = plan.suite.published
    if where is None:
        return {}
    cells = reference.published(where.tables, where.id)
    sets = {spec.published: spec.set for spec in plan.suite.ood if spec.published is not None} | {"": "average"}
    names: dict[str, list[str]] = {}
    for row in plan.suite.rows:
        if row.published is not None:
            names.setdefault(row.published, []).append(row.label)
    return {
        (label, sets[ood], metric): value
        for (method, ood, metric), value in cells.items()
        if ood in sets
        for label in names.get(method, [])
    }


def _draw(folder: Path, found: list[Record], shown: View, redraw: bool) -> None:
    """The figures whose records changed since they were drawn."""
    drawn = {} if redraw else _read(folder / DRAWN)
    todo = {
        path: job
        for path, job in _figures(folder, found, shown).items()
        if drawn.get(path) != job["signature"] or not (folder / path).is_file()
    }
    for path, job in tqdm(todo.items(), desc="draw", unit="figure", delay=2, leave=False):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        job["draw"](folder / path)
        drawn[path] = job["signature"]
        write_atomically(folder / DRAWN, json.dumps(drawn, indent=1, sort_keys=True))


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _figures(folder: Path, found: list[Record], shown: View) -> dict[str, dict[str, Any]]:
    """Each figure's path below the folder, what it depends on, and how it is drawn."""
    done: dict[str, list[Record]] = {}
    for record in found:
        if record["kind"] == "result" and record["status"] == "done":
            done.setdefault(record["row"], []).append(record)
    speeds = speeds_of(found)
    rows = [(name, title, encoder) for name, title, encoder in shown.rows if name in done]
    source = keys.source("benchmark.figures")

    def signature(*parts: Any) -> str:
        return keys.digest(parts=parts, source=source)

    def scores_of(row: str) -> tuple[Any, dict[str, Any]]:
        first = min(record["seed"] for record in done[row])
        of_seed = {r["ood"]["name"]: r for r in done[row] if r["seed"] == first}
        id_name = next(iter(of_seed.values()))["id"]["name"]
        load = [(title, name) for name, title, _ in shown.near_first() if name in of_seed]
        id_scores = np.load(records.scores_path(folder, row, id_name, first))
        return id_scores, {t: np.load(records.scores_path(folder, row, name, first)) for t, name in load}

    figures: dict[str, dict[str, Any]] = {}
    for name, title, encoder in rows:

        def histograms(path: Path, name: str = name, title: str = f"{title}, {encoder}") -> None:
            from benchmark import figures as draw

            id_scores, ood_scores = scores_of(name)
            draw.histograms(title, id_scores, ood_scores, path, id_title=shown.id_title, groups=groups)

        keys_of_row = sorted(record["key"] for record in done[name])
        figures[f"figures/histograms/{records.safe_name(name)}.png"] = {
            "signature": signature(name, title, encoder, keys_of_row),
            "draw": histograms,
        }
    groups = {title: group for _, title, group in shown.ood}

    def roc(path: Path) -> None:
        from benchmark import figures as draw

        curves = {}
        for name, title, encoder in rows:
            id_scores, ood_scores = scores_of(name)
            curves[f"{title}, {encoder}"] = {ood: (id_scores, scores) for ood, scores in ood_scores.items()}
        draw.roc_curves(curves, path)

    def speed(path: Path) -> None:
        from benchmark import figures as draw

        points = [
            (
                title,
                100 * float(np.mean([record["metrics"]["auroc"] for record in done[name]])),
                speeds[name]["speeds"]["end_to_end"]["images_per_second"],
                encoder,
            )
            for name, title, encoder in rows
            if name in speeds
        ]
        draw.speed(points, path)

    if rows:
        all_keys = [[name, title, encoder, sorted(r["key"] for r in done[name])] for name, title, encoder in rows]
        figures["figures/roc.png"] = {"signature": signature(all_keys), "draw": roc}
        if any(name in speeds for name, _, _ in rows):
            timed = [[name, speeds[name]["key"]] for name, _, _ in rows if name in speeds]
            figures["figures/speed.png"] = {"signature": signature(all_keys, timed), "draw": speed}
    return figures
