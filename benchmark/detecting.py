"""Detectors to take home: a row of a plan saved into a folder, and a saved one that scores images."""

import sys
from collections.abc import Sequence

from benchmark.detectors import building
from benchmark.detectors.building import build, row_of
from benchmark.detectors.detector import Detector
from benchmark.detectors.scoring import score
from benchmark.jobs.worker import Worker
from benchmark.planning.plan import Plan
from benchmark.records.names import safe_name
from benchmark.shown import human_size
from benchmark.store.entries import Store
from methods.base import CannotRun

__all__ = ["Detector", "build", "row_of", "save", "score"]


def save(plan: Plan, named: Sequence[str], store: Store, *, device: str, onnx: bool) -> bool:
    """Save the detectors of these rows beside the results of a run; whether all could be. Said on stderr."""
    whole, worker = True, Worker(store, device=device)
    for label in (row_of(plan, name).spec.label for name in named):
        folder = plan.folder / "detectors" / safe_name(label)
        try:
            detector = build(plan, label, store, device=device, worker=worker)
            detector.save(folder, onnx=onnx)
        except (CannotRun, ValueError, RuntimeError) as reason:
            print(f"failed: --save {label}: {' '.join(str(reason).split())}", file=sys.stderr)
            whole = False
            continue
        size = human_size(sum(file.stat().st_size for file in folder.iterdir()))
        print(f"wrote {folder}: {size}; {'; '.join(building.notes(detector))}", file=sys.stderr)
    return whole
