"""From a row of a plan to a detector: a fit without the calibration images, strict float32, and what it is worth."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors.torch import save_file

import methods
from benchmark.detectors.detector import Detector
from benchmark.detectors.verdicts import Scores
from benchmark.jobs import engines
from benchmark.jobs.accuracy import Accuracy
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, encodes, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.inputs import EncoderUse, calibrated
from benchmark.jobs.scoring import block_rows
from benchmark.jobs.worker import Worker
from benchmark.planning.engines import chosen
from benchmark.planning.plan import Plan, Row
from benchmark.planning.suite import UsageError
from benchmark.records import provenance, thresholds
from benchmark.store import keys
from benchmark.store.entries import Store
from datasets.catalogue import CATALOGUE
from methods.base import CannotRun, nearest


def row_of(plan: Plan, named: str) -> Row:
    """The row that `named` means: its label, else its name or its method where only one has it; its first seed.

    UsageError where there is none, or several.
    """
    first = {row.spec.label: row for row in reversed(plan.rows)}
    chosen = {label: row for label, row in first.items() if row.selected} or first
    for rows in (chosen, first):
        for part in ("label", "name", "method"):
            there = [row for row in rows.values() if _called(row)[part] == named]
            if len(there) > 1:
                labels = ", ".join(row.spec.label for row in there)
                raise UsageError(f"--save {named}: several rows are called so: {labels}; name one")
            if there:
                return there[0]
    raise UsageError(f"--save: no row {named!r}; {nearest(named, first)}")


def _called(row: Row) -> dict[str, str]:
    return {
        "label": row.spec.label,
        "name": row.spec.label.partition("@")[0],
        "method": row.spec.method,
    }


def build(plan: Plan, row_label: str, store: Store, *, device: str = "cpu", worker: Worker | None = None) -> Detector:
    """The detector of a row, whatever of it the store lacks made. CannotRun, with the reason, where it cannot be.

    worker: of `store` and `device`, with the encoders that it has open; None: one of its own.
    """
    row = row_of(plan, row_label)
    if row.scored is None:
        raise CannotRun(row.reason or "it has no jobs")
    worker = worker or Worker(store, device=device)
    worker.engines = chosen(row.cells, store, "torch")  # of what stands, where the row is not whole
    scored, train = row.scored, row.train
    for job in train if any(use.trained_here for passed in train for use in passed.use.made_of) or scored.fit else ():
        _carry_out(job, worker)
    use = _strict(scored.images[-1].use, worker)

    def passes(before: tuple[Encode, ...]) -> tuple[Encode, ...]:
        return before if use is before[-1].use else encodes(use, before[-1].images)

    train = passes(train)
    whole = train[-1].images
    apart = whole.calibration is None
    images = calibrated(whole).calibration if apart else whole.calibration
    assert images is not None
    if not len(images.rows):
        raise CannotRun("there are no calibration images")
    fit = scored.fit and FitMethod(scored.method, scored.settings, scored.seed, train, "32", apart)
    if fit is None:
        method = methods.create(scored.method, **scored.settings)
    else:
        _carry_out(fit, worker)
        method = worker.fitted(scored.method, scored.settings, fit.key)
    on_onnx = _on_onnx(scored.images[0].use, worker)
    graph = engines.kept(store, scored.images[0].use) if on_onnx else None
    detector = Detector({}, use, method, scored.method, np.empty(0), worker, graph)

    def scores(before: tuple[Encode, ...]) -> Scores:
        for job in before:
            _carry_out(job, worker)
        x = load_features(before, store, method.reads)
        parts = [detector.of(block).numpy() for block in x.blocks(block_rows(x))]
        return np.concatenate(parts).astype(np.float64)

    calibration = scores(encodes(use, images))
    if np.isnan(calibration).any():
        raise CannotRun(f"{int(np.isnan(calibration).sum())} of {len(calibration)} calibration images score NaN")
    of_test = scores(passes(scored.images))
    of_ood = {name: scores(passes(measure.ood.images)) for name, measure in row.measures.items()}
    _carry_out(scored, worker)
    table = scored.scores(store).astype(np.float64)
    accuracy = Accuracy(passes(scored.images))
    _carry_out(accuracy, worker)
    sets = [row.about["id"], *(measure.about["ood"] for measure in row.measures.values())]
    about = {
        **{name: row.about[name] for name in ("suite", "row", "title", "seed", "footnotes", "resolution")},
        "takes": "features" if detector.of_features else use.chain[0].encoder.takes,
        "preprocessing": [
            *[shrinking.described() for shrinking in use.shrinking],
            *[{name: json.loads(value)} for name, value in _normalisation(use, worker).items()],
        ],
        "calibration": {
            "images": {"name": images.images.name, "split": images.images.split, "n": len(images.rows)},
            "network": use.acquaintance(images),
            "noise": "that of index 0 for every image" if method.random_fit else "none",
        },
        **_thresholds(calibration, of_test, of_ood),
        "measured": {
            "id": row.about["id"],
            "train": {**row.about["train"], "without_calibration_images": apart},
            "ood": [measure.about["ood"] for measure in row.measures.values()],
            "precision": "32",
            **accuracy.figures(store),
        },
        "differs": _differs(table, of_test, row.about["precision"], apart, on_onnx),
        "data": {said["name"]: _licence(said["name"]) for said in sets},
        "made": provenance.provenance(device=worker.device),
    }
    return replace(detector, about=about, calibration=np.sort(calibration))


def _carry_out(job: Job, worker: Worker) -> None:
    if job.done(worker.store):
        return
    for need in job.needs:
        _carry_out(need, worker)
    with worker.store.lock(job.key):
        job.run(worker)


def _on_onnx(use: EncoderUse, worker: Worker) -> bool:
    """Whether the table's features of an encoder were made by ONNX Runtime."""
    engine = worker.engines.get(use.chain[0].key)
    return engine is not None and engine.name == engines.ONNX


def _strict(use: EncoderUse, worker: Worker) -> EncoderUse:
    """The encoder in strict float32 on torch: itself, where it is; else with the same weights, maybe of a training."""
    on_onnx = _on_onnx(use, worker)
    if all(link.precision == "32" for link in use.chain) and not on_onnx:
        return use
    if use.encoder.is_given:  # an object, of which no file can be made
        return replace(use, precision="32")
    base = None if use.base is None else _strict(use.base, worker)
    of = None if use.of is None else _strict(use.of, worker)
    encoder = worker.open(use)
    state, header = encoder.weights()
    file = worker.store.workdir(keys.digest(what="weights of a detector", encoder=use.identity)) / "encoder.safetensors"
    if state:
        save_file({name: values.cpu().contiguous().clone() for name, values in state.items()}, file, header)
    return replace(
        use,
        settings=encoder.built_from,
        weights=file if state else None,
        shipped=None,
        precision="32",
        engine=engines.TORCH if on_onnx else None,
        base=base,
        of=of,
        train=None,
        start=None,
    )


def _normalisation(use: EncoderUse, worker: Worker) -> Mapping[str, Any]:
    first = use.chain[0]
    _, header = worker.open(first.of or first).weights()
    return {name: header[name] for name in ("mean", "std") if name in header}


def _thresholds(calibration: Scores, of_test: Scores, of_ood: Mapping[str, Scores]) -> dict[str, Any]:
    """By percent of the calibration images the threshold, what it accepts of ID test and passes of each OOD set."""
    found = thresholds.table(calibration, of_test)
    accepting: dict[str, Any] = {}
    for percent, cell in found["accepting"].items():
        if cell is not None:
            passed = {name: float(np.mean(scores <= cell["threshold"])) for name, scores in of_ood.items()}
            accepting[percent] = {**cell, "ood": passed}
    return {"thresholds": accepting, "absent": found["absent"]}


def _differs(table: Scores, of_test: Scores, precision: str, apart: bool, on_onnx: bool) -> dict[str, Any]:
    """By how much scores of the ID test set differ from those of the table's row, in their standard deviations."""
    finite = table[np.isfinite(table)]
    spread = float(finite.std()) if len(finite) and finite.std() > 0 else 1.0
    with np.errstate(invalid="ignore"):
        difference = np.where(table == of_test, 0, np.abs(table - of_test)) / spread
    reasons = [*(["a fit of its own, without the calibration images"] if apart else [])]
    reasons += [f"the table's precision is {precision}, its own 32"] if precision != "32" else []
    reasons += ["the table's engine is onnxruntime, its own torch"] if on_onnx else []
    return {
        "n": len(table),
        "largest": float(difference.max()),
        "median": float(np.median(difference)),
        "unit": "standard deviations of the table's scores of the ID test set",
        "because": reasons,
    }


def _licence(name: str) -> str:
    return CATALOGUE[name].licence if name in CATALOGUE else "none stated: a folder of the user's"


def notes(detector: Detector) -> Iterator[str]:
    """What is said of a detector that was saved."""
    about = detector.about
    yield f"thresholds: {', '.join(f'{p} %' for p in about['thresholds']) or 'none'}"
    yield from (f"absent: {why}" for why in about["absent"].values())
    if about["calibration"]["network"].startswith("seen"):
        yield "calibration: seen by the network"
    if about["differs"]["largest"] > 1e-5:
        because = "; ".join(about["differs"]["because"]) or "the noise of index 0 for every image"
        yield f"its scores differ from the table's by up to {about['differs']['largest']:.2g} deviations: {because}"
