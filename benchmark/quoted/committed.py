"""The committed records that pages quote, as views of their suites and as Markdown."""

from collections.abc import Sequence
from math import comb
from pathlib import Path

from benchmark.planning import suite as suites
from benchmark.records import records, reference
from benchmark.records.frames import Record, View, is_sanity, spectral
from benchmark.reporting import report
from datasets import catalogue

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "published"


def results(folder: str) -> list[Record]:
    return [r for r in records.read_all(PUBLISHED / "cpu" / folder) if r["kind"] == "result"]


def view(found: Sequence[Record]) -> View:
    """What there is of a suite, in its order, and behind it what was measured beside it."""
    results = [record for record in found if record["kind"] == "result"]
    suite = suites.read(results[0]["suite"])
    rows = {record["row"]: (record["row"], record["title"], record["encoder_title"]) for record in results}
    sets = {r["ood"]["name"]: (r["ood"]["name"], r["ood"]["title"], r["ood"]["group"]) for r in results}
    sets |= {column[0]: column for column in spectral(sets.values())}
    named = [row.label for row in suite.rows]
    places = [name for spec in suite.ood for name in (spec.set, spec.stand_in) if name is not None]
    absent = [
        (catalogue.get(spec.set).title, catalogue.get(spec.set).how_to_get)
        for spec in suite.ood
        if spec.group != "control" and spec.set not in sets
    ]
    return View(
        name=suite.name,
        title=suite.title,
        id_title=results[0]["id"]["title"],
        rows=sorted(rows.values(), key=lambda row: _place(row[0], named)),
        ood=sorted(sets.values(), key=lambda column: _place(column[0], places)),
        published=report.published(suite, sets, rows),
        metrics=suite.metrics,
        remarks=reference.remarks(row.published for row in suite.rows if row.published and row.label in rows),
        absent=absent,
        tests=comb(sum(not is_sanity(row) for row in {*named, *rows}), 2),
    )


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    every = [head, [":---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in every)
