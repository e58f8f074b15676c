"""Trains the network that a suite ships, as the suite says, with seed 0, and writes it beside the suite.

    OMP_NUM_THREADS=1 python -m benchmark.shipping digits resnet8

The header of the file says what the network is and what made it. Its name ends in the first 8 digits of its SHA-256:
put that name into the suite, as `shipped`.
"""

import json
import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from benchmark.jobs.accuracy import Accuracy
from benchmark.jobs.encoding import TrainEncoder
from benchmark.jobs.inputs import WITHOUT
from benchmark.jobs.worker import Worker
from benchmark.planning import planner
from benchmark.planning import suite as suites
from benchmark.planning.options import Options
from benchmark.records import provenance
from benchmark.store import keys
from benchmark.store.entries import Store
from methods.device import tensors


def main(name: str, encoder: str) -> None:
    suite = suites.read(name)
    spec = suite.encoders[encoder]
    spec = spec.model_copy(update={"settings": {**spec.settings}})
    spec.settings.pop("shipped", None)
    suite = suite.model_copy(update={"encoders": {**suite.encoders, encoder: spec}})
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        planned = planner.make(suite, Options(data=here, weights=here, results=here, cache=here), download=False)
        row = next(row for row in planned.rows if row.spec.encoder == encoder)
        (passed,) = next(iter(row.measures.values())).id.images
        use, images, accuracy = passed.use, passed.images.images, Accuracy((passed,))
        assert use.train is not None
        worker = Worker(Store(here), device="cpu", batch_size=64)
        for job in (TrainEncoder(use), passed, accuracy):
            job.run(worker)
        state = worker.store.tensors("fit", use.training_key)
        machine = provenance.machine()
        header = {
            "architecture": spec.settings["architecture"],
            "mean": json.dumps(state["mean"].tolist()),
            "std": json.dumps(state["std"].tolist()),
            "classes": json.dumps(list(images.classes)),
            "trained_on": images.name,
            "images": json.dumps(len(use.train.rows)),
            **({"without": WITHOUT} if use.train.calibration else {}),
            "settings": json.dumps(spec.settings),
            "seed": json.dumps(use.seed),
            "accuracy": json.dumps(accuracy.figures(worker.store)["accuracy"]),
            "command": f"OMP_NUM_THREADS={machine['threads']} python -m benchmark.shipping {name} {encoder}",
            "machine": json.dumps({part: machine[part] for part in ("cpu", "threads", "commit", "versions")}),
        }
        unnamed = here / "network.safetensors"
        save_file(tensors.under("network.", state), unnamed, header)
        path = suite.folder / f"{suite.name}_{encoder}-{keys.file_digest(unnamed)[:8]}.safetensors"
        path.write_bytes(unnamed.read_bytes())
    print(f"{path}: {path.stat().st_size:,} bytes, ID accuracy {float(header['accuracy']):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
