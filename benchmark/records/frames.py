"""Records into the lines of a table: seeds into mean and spread, OOD sets into averages, published numbers beside."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from benchmark.metrics import METRICS
from benchmark.records.searching import state

Record = Mapping[str, Any]
Lines = dict[tuple[str, str], dict[str, Any]]  # by row, and OOD set or average
CONTROL = "lowlevel"  # the method that checks the sets: what it tells apart needs no look at what is in an image
SANITY = frozenset({"random", "constant"})  # methods that check the harness: shown last, never the best
PUBLISHED = ("auroc", "fpr95", "fpr95_ood")  # each beside ours of the same name, never the other FPR95
WHOLE = ("accuracy", "images_per_second", "published_images_per_second")  # what a row has once
NEAR, FAR, ALL = "average near", "average far", "average"  # in the column `ood`, beside the sets
COMMON = "average of measured"  # over the sets that are there, where the whole average cannot be
COUNTED = ("near", "far", "")  # groups of OOD sets that averages count; "": a paper does not say which
COVARIATE = "covariate"  # group of ID sets whose images are shifted: in no average, but see SPECTRUM
SPECTRUM = "full-spectrum"  # of sets and averages: against ID test and covariate-shifted images as one ID set
SPECTRAL = ("fs-near", "fs-far")  # its groups
GROUPS = (*COUNTED, "stand-in", *SPECTRAL, COVARIATE, "control")  # in the order that they are shown
_SPECTRAL_AVERAGES = {f"average {group}": (group,) for group in SPECTRAL} | {f"average {SPECTRUM}": SPECTRAL}


@dataclass(frozen=True)
class View:
    """What a table shows, and in which order.

    rows: (row, title, encoder title). ood: (set, title, one of GROUPS). published: (row, set or average, metric) ->
    percent for those of PUBLISHED; (row, "average", "images_per_second") -> images a second. misprints: what is wrong
    with a published cell. metrics: what a cell shows. common: the sets that COMMON is over, where it is shown.
    absent: (title, how to get it). remarks: on how published numbers were made. tests: pairs of rows that the suite
    names, whatever of them is measured. A row without records is shown with what is published of it; the published
    cells of sets that are not shown tell what a published average is over.
    """

    name: str
    title: str
    id_title: str
    rows: Sequence[tuple[str, str, str]]
    ood: Sequence[tuple[str, str, str]]
    published: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    misprints: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    metrics: Sequence[str] = ("auroc", "fpr95")
    common: Sequence[str] = ()
    absent: Sequence[tuple[str, str]] = ()
    footnotes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    tests: int = 0

    def near_first(self) -> list[tuple[str, str, str]]:
        """The OOD sets, near before far, then those that no average counts."""
        return sorted(self.ood, key=lambda column: GROUPS.index(column[2]))

    def averages(self) -> list[tuple[str, str]]:
        """(name, title) of the averages over OOD sets: near and far apart where both are there, then all."""
        groups = {group for _, _, group in self.ood}
        apart = [(NEAR, "near average"), (FAR, "far average")] if groups >= {"near", "far"} else []
        common = [(COMMON, f"average of these {len(self.common)}")] if self.common else []
        if len(self.over(ALL)) < 2:
            return []
        wide = [f"average {group}" for group in SPECTRAL] if groups >= set(SPECTRAL) else []
        wide += [f"average {SPECTRUM}"] if groups & set(SPECTRAL) else []
        spectrum = [(name, f"{name.removeprefix('average ')} average") for name in wide]
        return [*apart, *common, (ALL, "average"), *spectrum]

    def over(self, average: str) -> list[str]:
        """The OOD sets that an average is over; stand-ins, controls and shifted ID sets are in none."""
        if average == COMMON:
            return list(self.common)
        wanted = {NEAR: ("near",), FAR: ("far",), **_SPECTRAL_AVERAGES}.get(average, COUNTED)
        return [name for name, _, group in self.ood if group in wanted]


def spectral(ood: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The columns of OOD sets against the full spectrum, beside `ood`; none where no set is covariate-shifted."""
    ood = list(ood)
    if not any(group == COVARIATE for _, _, group in ood):
        return []
    return [(f"{SPECTRUM} {n}", f"{title}, {SPECTRUM}", f"fs-{g}") for n, title, g in ood if f"fs-{g}" in SPECTRAL]


def _wide(record: Record) -> Iterator[Record]:
    """The record of the same cell with covariate-shifted images as ID, where it has that."""
    done, found = record["status"] == "done", record.get("full_spectrum")
    if done and not found:
        return
    about = {**record["ood"], "name": f"{SPECTRUM} {record['ood']['name']}", "group": f"fs-{record['ood']['group']}"}
    measured: dict[str, Any] = {}
    if done and found:
        measured = {name: found[name] for name in ("metrics", "intervals")}
        measured["id"] = {**record["id"], "n": found["n_id"]}
    yield {**record, "ood": about, **measured}


def results_of(records: Iterable[Record], view: View) -> dict[tuple[str, str], list[Record]]:
    """The result records of each cell (row, OOD set) of the view, by seed; of two with one seed, the later."""
    shown = {name for name, _, _ in view.rows}, {name for name, _, _ in view.ood}
    cells: dict[tuple[str, str], dict[int, Record]] = {}
    for told in records:
        for record in (told, *_wide(told)) if told["kind"] == "result" and told["row"] in shown[0] else ():
            if record["ood"]["name"] in shown[1]:
                cells.setdefault((record["row"], record["ood"]["name"]), {})[record["seed"]] = record
    return {cell: [seeds[seed] for seed in sorted(seeds)] for cell, seeds in cells.items()}


def speeds_of(records: Iterable[Record]) -> dict[str, Mapping[str, Any]]:
    """The speed record of each row that has been timed; of several, the last."""
    return {record["row"]: record for record in records if record["kind"] == "speed" and record["status"] == "done"}


def is_sanity(row: str, records: Iterable[Record] = ()) -> bool:
    """Whether a row checks the harness instead of detecting anything (`random`, `constant`)."""
    methods = {record["method"] for record in records} or {row.partition("@")[0]}
    return methods <= SANITY


def is_control(row: str, records: Iterable[Record]) -> bool:
    """Whether a row checks the OOD sets instead of being a detector to choose."""
    return any(record["row"] == row and record.get("method") == CONTROL for record in records)


def lines_of(records: Iterable[Record], view: View) -> Lines:
    """`every_line` by row and OOD set or average: of a row that stands twice, under two titles, the second."""
    return {(line["row"], line["ood"]): line for line in every_line(records, view)}


def every_line(records: Iterable[Record], view: View) -> list[dict[str, Any]]:
    """A line for each row and OOD set of the view, and for each row and average; all shares in percent.

    Each has: row, title, encoder, sanity, searched (`searching.state`), ood, ood_title, group, status (done, failed,
    skipped, interrupted, absent; of an average: done or incomplete), reason, seeds (how many are done), n_id, n_ood;
    of each metric its mean over seeds, of seeds >= 2 the sample standard deviation `_std`, for auroc and fpr95 the
    mean bounds `_low`, `_high` of the 95 % intervals, and for those of PUBLISHED `published_`; accuracy,
    images_per_second, published_images_per_second; of a covariate-shifted set `set_accuracy`, the encoder's on it.
    Numbers are floats, NaN where there is none.

    An average is there only where every set that it is over is. Its bounds are the means of the sets' bounds,
    which is the most that its own can be: the sets share the ID images, so their errors may go the same way.
    """
    records = list(records)
    cells, speeds = results_of(records, view), speeds_of(records)
    lines = []
    for row, title, encoder in view.rows:
        of_row = {ood: cells.get((row, ood), []) for ood, _, _ in view.ood}
        found = [record for seeds in of_row.values() for record in seeds]
        accuracies = {r["seed"]: r["accuracy"] for r in found if r["status"] == "done" and r["accuracy"] is not None}
        speed = speeds.get(row, {}).get("speeds", {}).get("end_to_end", {})
        about = {"row": row, "title": title, "encoder": encoder, "sanity": is_sanity(row, found)}
        about["searched"] = state(found)
        accuracy = 100 * statistics.fmean(accuracies.values()) if accuracies else None
        rates = speed.get("images_per_second"), view.published.get((row, ALL, "images_per_second"))
        whole = dict(zip(WHOLE, (accuracy, *rates), strict=True))
        for ood, ood_title, group in view.ood:
            at = {"ood": ood, "ood_title": ood_title, "group": group}
            there = [r["ood_accuracy"] for r in of_row[ood] if r.get("ood_accuracy") is not None]
            own = {"set_accuracy": 100 * statistics.fmean(there) if there else None}
            lines.append({**about, **at, **_cell(of_row[ood]), **_published(view, row, ood), **whole, **own})
        for ood, ood_title in view.averages():
            at = {"ood": ood, "ood_title": ood_title, "group": "average"}
            over = [of_row[name] for name in view.over(ood)]
            lines.append({**about, **at, **_average(over), **_published(view, row, ood), **whole})
    numbers = {*_numbers([]), *_published(view, "", ""), *WHOLE, "set_accuracy"}
    names = dict.fromkeys(name for line in lines for name in line)
    return [{name: _number(line.get(name)) if name in numbers else line.get(name) for name in names} for line in lines]


def timed(records: Iterable[Record], view: View) -> list[dict[str, Any]]:
    """The line of the view's average, or of its one set, of each row that is measured there and timed."""
    sets = view.over(ALL)
    average = ALL if len(sets) > 1 else "".join(sets)
    lines = (line for (_, ood), line in lines_of(records, view).items() if ood == average and line["status"] == "done")
    return [line for line in lines if not (isnan(line["images_per_second"]) or line["sanity"])]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _published(view: View, row: str, ood: str) -> dict[str, float | None]:
    return {f"published_{metric}": view.published.get((row, ood, metric)) for metric in PUBLISHED}


def _done(seeds: Sequence[Record]) -> dict[int, Record]:
    return {record["seed"]: record for record in seeds if record["status"] == "done"}


def _cell(seeds: Sequence[Record]) -> dict[str, Any]:
    done = _done(seeds)
    if not done:
        ended = {record["status"]: record["reason"] for record in seeds}
        status = next((s for s in ("failed", "interrupted", "skipped") if s in ended), "absent")
        return {"status": status, "reason": ended.get(status, ""), "seeds": 0, "n_id": 0, "n_ood": 0, **_numbers([])}
    first = next(iter(done.values()))
    counts = {"n_id": first["id"]["n"], "n_ood": first["ood"]["n"]}
    return {"status": "done", "reason": "", "seeds": len(done), **counts, **_numbers([_flat(r) for r in done.values()])}


def _average(cells: Sequence[Sequence[Record]]) -> dict[str, Any]:
    done = [_done(seeds) for seeds in cells]
    whole = sorted(set.intersection(*(set(seeds) for seeds in done)))
    if not whole:
        measured = sum(bool(seeds) for seeds in done)
        reason = f"measured on {measured} of {len(done)} OOD sets" if measured < len(done) else "no seed on all sets"
        return {"status": "incomplete", "reason": reason, "seeds": 0, "n_id": 0, "n_ood": 0, **_numbers([])}
    of_seeds = []
    for seed in whole:
        flat = [_flat(seeds[seed]) for seeds in done]
        of_seeds.append({name: statistics.fmean(line[name] for line in flat) for name in flat[0]})
    counts = {"n_id": done[0][whole[0]]["id"]["n"], "n_ood": sum(seeds[whole[0]]["ood"]["n"] for seeds in done)}
    return {"status": "done", "reason": "", "seeds": len(whole), **counts, **_numbers(of_seeds)}


def _flat(record: Record) -> dict[str, float]:
    """The numbers of a record in percent: a metric's value by its name, its bounds by name_low and name_high."""
    flat = {}
    for metric in METRICS:
        flat[metric.name] = 100 * record["metrics"].get(metric.name, float("nan"))  # an old record may lack one
        if metric.interval:
            low, high = record["intervals"][metric.name]
            flat |= {f"{metric.name}_low": 100 * low, f"{metric.name}_high": 100 * high}
    return flat


def _numbers(of_seeds: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for metric in METRICS:
        values = [line[metric.name] for line in of_seeds]
        numbers[metric.name] = statistics.fmean(values) if values else None
        numbers[f"{metric.name}_std"] = statistics.stdev(values) if len(values) > 1 else None
        if metric.interval:
            for bound in (f"{metric.name}_low", f"{metric.name}_high"):
                numbers[bound] = statistics.fmean(line[bound] for line in of_seeds) if of_seeds else None
    return numbers
