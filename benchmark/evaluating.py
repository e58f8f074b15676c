"""`evaluate`: the command line's jobs, metrics and tables for a network, images and features that are objects."""

import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from benchmark.jobs.base import Job
from benchmark.jobs.worker import Worker
from benchmark.planning import planner
from benchmark.planning.folder_suite import Group
from benchmark.planning.given_suite import Head, given_suite
from benchmark.planning.id_images import BadData
from benchmark.planning.options import Options, device_of, resolved
from benchmark.planning.plan import Plan, Row
from benchmark.records import names, records
from benchmark.reporting import report
from benchmark.running.runner import Outcome, Runner
from benchmark.store.entries import Store

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.detecting import Detector

COLUMNS = ("auroc", "auroc_low", "auroc_high", "fpr95", "fpr95_low", "fpr95_high")


def evaluate(
    network: nn.Module | None,
    id: tuple[Any, Any],
    near: Mapping[str, Any] | None = None,
    far: Mapping[str, Any] | None = None,
    methods: Sequence[str] | None = None,
    *,
    covariate: Mapping[str, Any] | None = None,
    head: Head = None,
    layers: Sequence[str] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> "Result":
    """Measure OOD detectors on a network of one's own: `id` = (train, test), OOD sets by name, near and far.

    covariate: sets of covariate-shifted ID by name (other cameras, weather, ..): the OOD sets are held against ID test,
    and against all of that as one ID set (full-spectrum).

    network: an nn.Module that returns logits (N, K), (embedding, logits), or a dict of `embedding`, `logits`, `layers`.
    Embedding and head are the input and the weights of the linear layer `head` (a module's name; None: its last one),
    proved on a batch; `layers` names modules whose maps are read (None: those that timm lists of its own networks).
    A copy of it runs; the caller's, with its mode, device, gradients, hooks and buffers, stays as it is, and so do all
    generators. None: the sets are features.

    A set: a torch dataset or loader of (image, label), a tensor (N, ...) of images as the network reads them, or
    (images, labels); for features an array (N, D), (array, labels), or a dict of the keys that files have
    (`embedding`, `logits`, `layers`, `layer_sizes`, `labels`), with `head` = (weight, bias). Labels of OOD sets are not
    read, those of covariate-shifted ID say how accurate the network is on it. Images of datasets and loaders are kept
    in a temporary folder for as long as the result lives.

    methods: as `--methods` has them ("vim", "knn:k=5"); None: every row. Nothing is written but in that folder.
    ValueError, in one line, for what cannot be; an OOD set that cannot be read is told and left out, and so is a row
    that cannot run.
    """
    if not isinstance(id, tuple | list) or len(id) != 2:
        raise ValueError("id: give (train, test): what methods learn from, and what they are tested on")
    if network is not None and not isinstance(network, nn.Module):
        raise ValueError(f"network: a {type(network).__name__} is no torch.nn.Module; give None for features")
    where = device_of(device)
    folder = tempfile.TemporaryDirectory(prefix="ood-", ignore_cleanup_errors=True)
    place = Path(folder.name)
    options = Options(
        data=place / "data",
        weights=place / "weights",
        results=place / "results",
        cache=place / "store",
        device=where,
        batch_size=batch_size,
        precision=resolved(None, where, runs=True),
        speed=False,
        methods=(methods,) if isinstance(methods, str) else tuple(methods or ()),
    )
    with _as_before(), _plainly(place):
        groups: dict[Group, Mapping[str, Any]] = {"near": near or {}, "far": far or {}, "covariate": covariate or {}}
        ood = {(group, name): data for group, sets in groups.items() for name, data in sets.items()}
        suite = given_suite(network, (id[0], id[1]), ood, place, head=head, layers=layers)
        planned = planner.make(suite, options, download=False)
        broken = tuple((name, _without(place, why).removeprefix(f"{name}: ")) for name, why in planned.broken)
        planned = replace(planned, broken=broken)
        store = Store(options.cache, say=_say)
        worker = Worker(store, device=where, batch_size=batch_size)
        store.welcome()
        for line in suite.notes:
            _say(f"{line}.")
        for line in _accuracies(planned, worker):
            _say(line)
        outcome = Runner(planned, worker).run()
    for name, reason in planned.broken:
        _say(f"failed: {name}: {reason}")
    for what, rows in (("failed", outcome.failed), ("skipped", outcome.skipped)):
        for reason in dict.fromkeys(rows.values()):
            _say(f"{what}: {', '.join(row for row in rows if rows[row] == reason)}: {reason}")
    return Result(planned, outcome, store, where, folder)


@dataclass(frozen=True, eq=False)
class Result:
    """What `evaluate` measured. `plan`: its jobs; `store`: their features, fits and scores, as long as this lives."""

    plan: Plan
    outcome: Outcome
    store: Store
    device: str
    _folder: "tempfile.TemporaryDirectory[str]"

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """One line a row and set: row, title, method, set, group, status, reason, and as fractions auroc and fpr95 with
        their 95 % intervals (`_low`, `_high`), and accuracy (of the network on the ID test set).

        Without OOD sets one line a row. What was not measured is NaN, and `status` and `reason` say why.
        """
        import pandas as pd

        found = {records.place(self.plan.folder, record): record for record in records.load(self.plan.folder)[0]}
        lines = []
        for row in self._rows:
            label, seed = row.spec.label, row.about["seed"]
            of_row = {"row": label, "title": row.about["title"], "method": row.spec.method}
            cells: list[tuple[str, str, Path]] = [
                (column.name, column.spec.group, names.path_of(self.plan.folder, label, column.name, seed))
                for column in self.plan.columns
            ]
            for name, group, path in cells or [("", "", cell.path) for cell in row.cells]:
                record = found.get(path, {"status": "failed", "reason": self.outcome.failed.get(label, "")})
                ended = {"status": record["status"], "reason": record["reason"]}
                lines.append({**of_row, "set": name, "group": group, **ended, **_figures(record)})
        about = ("row", "title", "method", "set", "group", "status", "reason")
        numbers = dict.fromkeys((*COLUMNS, "accuracy"), float)
        return pd.DataFrame(lines, columns=[*about, *numbers]).astype(numbers)

    def write(self, folder: str | Path) -> Path:
        """Tables, figures, findings, records and scores into `folder`, as the command line writes them."""
        target = Path(folder).expanduser().absolute()
        for part in ("records", "scores", "figures"):
            if (self.plan.folder / part).is_dir():
                shutil.copytree(self.plan.folder / part, target / part, dirs_exist_ok=True)
        with _as_before():
            report.write(replace(self.plan, folder=target, rows=tuple(_moved(row, target) for row in self.plan.rows)))
        return target

    def detector(self, row: str) -> "Detector":
        """The detector of a row (`vim@ResNet`, or its method's name where it is unique), fitted and calibrated.

        ValueError where there is no such row, or it was not measured.
        """
        named = {one.spec.label: one for one in self._rows}
        there = [label for label, one in named.items() if row in (label, one.spec.name or one.spec.method)]
        there = there or [label for label, one in named.items() if row == one.spec.method]
        if len(there) != 1:
            raise ValueError(f"detector: {row!r} names {len(there)} rows of {', '.join(named)}; name one")
        if why := named[there[0]].reason or self.outcome.failed.get(there[0]) or self.outcome.skipped.get(there[0]):
            raise ValueError(f"detector: {there[0]} was not measured: {why}")
        from benchmark.detecting import build

        with _as_before():
            return build(self.plan, there[0], self.store, device=self.device)

    def __str__(self) -> str:
        """The table, as the command line prints it."""
        return report.text(self.plan)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The table in a notebook: AUROC and FPR95 in percent, an OOD set a column."""
        import pandas as pd

        cells: dict[str, dict[str, str]] = {}
        for _, line in self.frame.iterrows():
            shown = f"{100 * line.auroc:.2f} / {100 * line.fpr95:.2f}" if line.status == "done" else line.status
            of_row = cells.setdefault(line.row, {})
            if line.set:
                of_row[f"{line.set} ({line.group})"] = shown
            if line.accuracy == line.accuracy:
                of_row["ID accuracy"] = f"{100 * line.accuracy:.2f}"
        table = pd.DataFrame.from_dict(cells, orient="index").fillna("")
        table = table[sorted(table.columns, key=lambda column: column == "ID accuracy")]
        return f"{table.to_html()}<p>AUROC &uarr; / FPR95 &darr; in percent</p>"

    @property
    def _rows(self) -> list[Row]:
        return [row for row in self.plan.rows if row.selected]


def _figures(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a line, fractions; none where it has none."""
    if record["status"] != "done":
        return {}
    found: dict[str, float | None] = {"accuracy": record["accuracy"]}
    for metric in ("auroc", "fpr95") if record["kind"] == "result" else ():
        low, high = record["intervals"][metric]
        found |= {metric: record["metrics"][metric], f"{metric}_low": low, f"{metric}_high": high}
    return found


def _accuracies(planned: Plan, worker: Worker) -> Iterator[str]:
    """How well each encoder knows the ID test set, measured before anything else: wrong preprocessing shows there."""
    told = set()
    for row in planned.rows:
        cell = next(iter(row.cells), None)
        if cell is None or not row.selected or cell.accuracy.key in told:
            continue
        told.add(cell.accuracy.key)
        _carry_out(cell.accuracy, worker)
        figures, test = cell.accuracy.figures(worker.store), cell.id.images[-1]
        of = f"of the {len(test.images.rows):,} ID test images"
        head, neighbours = figures["accuracy"], figures["knn_accuracy"]
        if head is not None:
            known = f"{100 * head:.2f} % {of} are labelled rightly"
        elif neighbours is not None:
            known = f"{100 * neighbours:.2f} % {of}, by their neighbours in the embedding"
        else:
            unlabelled = bool((test.images.labels < 0).any())
            known = f"not known, {'for they have no labels' if unlabelled else test.use.no_head or 'without a head'}"
        yield f"ID accuracy of {test.use.name}: {known}."


def _carry_out(job: Job, worker: Worker) -> None:
    if not job.done(worker.store):
        for need in job.needs:
            _carry_out(need, worker)
        job.run(worker)


def _moved(row: Row, folder: Path) -> Row:
    """The row with its records in another folder: no key depends on it."""
    measures = {name: replace(measure, folder=folder) for name, measure in row.measures.items()}
    return replace(row, measures=measures, thresholds=row.thresholds and replace(row.thresholds, folder=folder))


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Whatever happens inside, the caller's generators are afterwards as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def _plainly(place: Path) -> Iterator[None]:
    """Errors of planning as ValueErrors, without the temporary folder."""
    try:
        yield
    except (BadData, ValueError) as error:
        raise ValueError(_without(place, str(error))) from error


def _without(place: Path, words: str) -> str:
    return words.replace(f"{place}/", "")


def _say(line: str) -> None:
    """A note for people, on stderr, that leaves progress bars whole."""
    tqdm.write(line, file=sys.stderr)
