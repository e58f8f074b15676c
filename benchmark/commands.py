"""What the command line does with a suite: plan it, run it, show it again."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.planning.options import Options
    from benchmark.planning.plan import Plan
    from benchmark.planning.suite import Suite
    from benchmark.reporting.terminal import Look
    from benchmark.running.runner import Outcome
    from benchmark.running.where import Place
    from benchmark.store.entries import Store


def plan(suite: "Suite", options: "Options") -> int:
    from benchmark.jobs.worker import Worker
    from benchmark.planning.planner import Planner
    from benchmark.running import estimating
    from datasets.sources import Missing

    try:
        planner = Planner(suite, options, download=False)
    except Missing as missing:
        print(f"note: {missing}", file=sys.stderr)
        print("note: planned as the catalogue counts its images; keys are not those of a run", file=sys.stderr)
        planner = Planner(suite, replace(options, counted=True), download=False)
    store = _store(options)
    worker = Worker(store, device=options.device, batch_size=options.batch_size)
    print(estimating.describe(planner.plan(store), worker))
    return 0


def redraw(given: argparse.Namespace, suite: "Suite", options: "Options") -> int:
    from benchmark import publishing
    from benchmark.planning.options import as_recorded, results_folder
    from benchmark.planning.planner import Planner
    from benchmark.reporting import report, terminal
    from benchmark.reporting.drawers import Drawers

    folder = results_folder(suite.name, options, own=suite.own)
    committed = [each for each in publishing.committed(options.results) if not given.id or each == folder]
    if committed and not (folder / "records").exists():
        return _show_committed(given, committed)
    options = as_recorded(folder, options)
    planned = Planner(suite, options, download=False).plan(_store(options))
    report.check_columns(planned, given.columns)
    _show_table(given, planned)
    with Drawers() as drawers:
        report.write(planned, redraw=True, pdf=options.pdf, images=not given.no_images, drawers=drawers)
    print(terminal.next_to_open(planned.folder), file=sys.stderr)
    open_page(given, planned.folder / "report.html")
    return 0


def measure(given: argparse.Namespace, suite: "Suite", options: "Options", place: "Place | None") -> int:
    from benchmark.jobs.worker import Worker
    from benchmark.planning import engines
    from benchmark.planning.planner import Planner
    from benchmark.records import searching
    from benchmark.reporting import report, terminal
    from benchmark.reporting.ahead import Ahead
    from benchmark.reporting.drawers import Drawers
    from benchmark.running import cluster
    from benchmark.running.runner import Runner, ordered

    started = time.perf_counter()
    engine = engines.resolved(given.engine or suite.engine, options.device, options.precision)
    planner = Planner(suite, options, download=True)
    store = _store(options)
    planned = planner.plan(store)
    if given.save:
        from benchmark import detecting

        for name in given.save:
            detecting.row_of(planned, name)  # before anything is run
    report.check_columns(planned, given.columns)
    worker = Worker(store, device=options.device, batch_size=options.batch_size)

    def run(what: "Plan", beside: Ahead | None = None) -> "Outcome":
        targets = tuple(target for _, target in ordered(what))
        worker.engines = engines.chosen(targets, store, engine, worker.say)
        carrier = None
        if place is not None:
            folders, plugins = (options.data, options.weights), tuple(given.plugin)
            carrier = cluster.Cluster(
                place, worker, targets, what.folder, folders=folders, plugins=plugins, argv=tuple(sys.argv[1:])
            )
        return Runner(what, worker, carrier=carrier, debug=given.debug, beside=beside).run()

    if (first := planned.searching) is not None:
        run(first)
        planned = planner.plan(store, settle=True)
    with Drawers() as drawers:

        def show_chosen() -> None:
            searching.choose(planned.folder, [row.spec.label for row in planned.rows if row.selected])
            _show_table(given, planned)

        ahead = Ahead(planned, drawers, show_chosen, pdf=options.pdf)
        outcome = run(planned, ahead)
        report.write(planned, pdf=options.pdf, images=not given.no_images, drawers=drawers, drawn=ahead.drawn)
    saved = not given.save or detecting.save(planned, given.save, store, device=options.device, onnx=given.onnx)
    for name, reason in planned.broken:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    _say_how_it_went(outcome, planned.folder, time.perf_counter() - started)
    print(terminal.next_to_open(planned.folder), file=sys.stderr)
    open_page(given, planned.folder / "report.html")
    incomplete = bool(outcome.skipped or planned.absent)
    nothing = outcome.measured + outcome.reused == 0
    return 1 if nothing or outcome.failed or planned.broken or not saved or (given.strict and incomplete) else 0


def _store(options: "Options") -> "Store":
    from benchmark.store.entries import Store

    return Store(options.cache, say=lambda line: print(line, file=sys.stderr))


def _show_table(given: argparse.Namespace, planned: "Plan") -> None:
    from benchmark.reporting import report
    from benchmark.shown import show

    if given.json:
        print(report.json(planned))
    else:
        show(report.text(planned, _look(given)))


def _look(given: argparse.Namespace) -> "Look":
    from benchmark.reporting import terminal

    every = given.all_rows or bool(given.methods)  # what is named is shown
    return terminal.fitting(columns=given.columns, all_rows=every, by_average=given.sort == "average")


def _show_committed(given: argparse.Namespace, folders: list[Path]) -> int:
    """Write the pages of folders of committed records, and their index; the table of a single one is shown."""
    from benchmark import publishing
    from benchmark.reporting import index, tables, terminal
    from benchmark.reporting.page import report as page
    from benchmark.shown import show

    written = []
    for folder in folders:
        try:
            found, shown = publishing.page(folder, images=not given.no_images)
        except ValueError as error:
            print(f"failed: {folder}: {error}", file=sys.stderr)
            continue
        written.append(folder / page.NAME)
        print(f"wrote {written[-1]}", file=sys.stderr)
    index.write(given.results)
    print(f"wrote {given.results / index.NAME}", file=sys.stderr)
    if written and len(folders) == 1:
        show(tables.json(found, shown) if given.json else terminal.text(found, shown, _look(given)))
    open_page(given, written[0] if written and len(folders) == 1 else given.results / index.NAME)
    return 0 if len(written) == len(folders) else 1


def open_page(given: argparse.Namespace, page: Path) -> None:
    if given.open:
        from benchmark.reporting.page import report

        print(report.show(page), file=sys.stderr)


def _say_how_it_went(outcome: "Outcome", folder: Path, seconds: float) -> None:
    lines = [f"failed: {row}: {reason}" for row, reason in outcome.failed.items()]
    skipped: dict[str, list[str]] = {}
    for row, reason in outcome.skipped.items():
        skipped.setdefault(reason, []).append(row)
    for reason, rows in skipped.items():
        more = f" and {len(rows) - 6} more" if len(rows) > 6 else ""  # all are in the table
        lines.append(f"skipped: {', '.join(rows[:6])}{more}: {reason}")
    lines += [f"{name}: {images:,} images encoded" for name, images in outcome.passes.items()]
    lines.append(f"{outcome.measured} measured, {outcome.reused} reused, {seconds:.0f} s")
    written = ("table.md", "table.csv", "table.tex", "report.html", "figures/", "records/", "scores/")
    lines.append(f"wrote {folder}: {', '.join(name for name in written if (folder / name).exists())}")
    print("\n".join(lines), file=sys.stderr)
