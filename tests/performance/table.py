"""A table of many post-hoc methods on one ResNet at 32 pixels, by this project, and the bare forward pass beside it."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import methods
from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import Selection
from benchmark.jobs.measuring import Measure
from benchmark.jobs.worker import Worker
from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.planning.plan import Plan
from benchmark.records import records
from benchmark.running.runner import Runner
from benchmark.store.entries import Store
from datasets.loading import batches
from methods.device import precision
from methods.encoders.classifier import Classifier
from methods.encoders.images import preprocessing
from methods.encoders.networks import cifar
from tests.performance import paired, peer
from tests.performance.peer import ROWS, Figures, Images, Sets

BATCH = 64


class Limits(NamedTuple):
    """Images of a test set, and of the training set; None: all."""

    limit: int | None
    limit_train: int | None


LIMITS = Limits(500, 1000)
SETS = {
    "cifar10": ("cifar100", "isun", "mnist", "fashion_mnist", "kmnist", "miniplaces_scenes_resize"),
    "digits": ("halves", "letters", "scans", "shuffled", "blurred", "enlarged"),
}


class Table:
    """One table to be made; `folder` is for what is written."""

    def __init__(
        self,
        folder: Path,
        data: Path | None,
        device: str,
        limits: Limits,
        batch: int = BATCH,
        architecture: str = "resnet18",
        rows: Sequence[str] = tuple(ROWS),
    ) -> None:
        self.folder, self.data, self.device, self.limits, self.batch = folder, data, device, limits, batch
        self.architecture, self.skipped, self.beyond = architecture, dict[str, str](), dict[str, float]()
        self.precision = precision.resolve("auto", device)  # what a user of ours gets, as a user of the peer does
        self.weights = paired.save_classifier(folder / f"{architecture}.safetensors", architecture)
        self.network = cifar.build(architecture, 10).eval()
        self.network.load_state_dict(load_file(self.weights))
        self.network.to(device)
        name = "digits" if data is None else "cifar10"
        self.suite = _write_suite(
            folder / "table.yaml", name, architecture, self.network.head.weight.shape[1] // 2, rows
        )
        encodes = [job.images for job in self.plan(folder).jobs() if isinstance(job, Encode)]
        sets = {(images.images.split, images.images.name): _prepared(images) for images in encodes}
        self.train, self.id = sets.pop(("train", name)), sets.pop(("test", name))
        self.ood = {ood: images for (_, ood), images in sets.items()}
        self.name = name
        self.images = sum(len(images) for images in (self.train, self.id, *self.ood.values()))
        self.encoded = 0

    def plan(self, where: Path) -> Plan:
        options = Options(
            data=self.data or self.folder,
            weights=self.folder,
            results=where / "results",
            cache=where / "cache",
            device=self.device,
            batch_size=self.batch,
            precision=self.precision,
            speed=False,
            limit=self.limits.limit,
            limit_train=self.limits.limit_train,
        )
        made = planner.make(suite.read(str(self.suite)), options, download=False)
        return replace(made, rows=tuple(replace(row, mistakes={}) for row in made.rows))

    def ours(self, planned: Plan | None = None) -> Figures:
        """Of a plan that was carried out before, the images are in memory; its records are gone."""
        where = Path(tempfile.mkdtemp(dir=self.folder))
        planned = planned or self.plan(where)
        worker = Worker(Store(where / "cache"), device=self.device, batch_size=self.batch)
        with patch.object(Classifier, "encode", self._counted):
            outcome = Runner(planned, worker).run()
        assert not outcome.failed, outcome.failed
        self.skipped = outcome.skipped
        found, self.beyond = dict[tuple[str, str], float](), dict[str, float]()
        for row, target in planned.targets():
            record = records.read(target.path) if isinstance(target, Measure) else None
            if record is not None and record["status"] == "done":
                of, ood = row.spec.method, record["ood"]["name"]
                found[of, ood] = record["metrics"]["auroc"]
                of_cell = record["provenance"]["seconds"]
                # a fit and the scores of the ID images stand in each cell of a row
                once = 0.0 if of in self.beyond else of_cell["score_id"] + of_cell.get("fit", 0.0)
                spent = once + of_cell["score_ood"] + of_cell["measure"]
                self.beyond[of] = self.beyond.get(of, 0.0) + spent
        return found

    @property
    def _counted(self) -> Callable[[Classifier, Any], dict[str, Tensor]]:
        encode = Classifier.encode

        def counted(encoder: Classifier, images: Any) -> dict[str, Tensor]:
            self.encoded += len(images)
            return encode(encoder, images)

        return counted

    def encoder(self, done: Callable[[int], object] = lambda images: None) -> None:
        """The bare forward pass; `done` hears of each batch."""
        encoder = Classifier(architecture=self.architecture, checkpoint="net")
        encoder.open(self.weights, device=self.device, precision=self.precision)
        for images in (self.train, self.id, *self.ood.values()):
            for batch in torch.split(images.pixels, self.batch):
                encoder.encode(batch.to(self.device))
                done(len(batch))

    @property
    def sets(self) -> Sets:
        return Sets(self.train, self.id, self.ood)


def _prepared(images: Selection) -> Images:
    parts = [
        preprocessing.resize_and_crop(batch.images, 32, "cpu").round_()
        for batch in batches(images.images, images.rows, 1024)
    ]
    pixels = torch.cat(parts)
    x = preprocessing.normalise(pixels, paired.MEAN, paired.STD).contiguous()
    return Images(pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), x, torch.from_numpy(images.labels))


def _write_suite(path: Path, name: str, network: str, dim: int, rows: Sequence[str]) -> Path:
    settings = {"knn": {"k": peer.K}, "vim": {"dim": dim}}
    content = {
        "title": "nine methods on one encoder",
        "id": {"set": name, "size": 32},
        "ood": [{"set": ood, "group": "control" if ood in SETS["digits"][-2:] else "far"} for ood in SETS[name]],
        "encoders": {network: {"kind": "classifier", "settings": {"architecture": network, "checkpoint": network}}},
        "rows": [{"method": method, "encoder": network, "settings": settings.get(method, {})} for method in rows],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def post_hoc() -> tuple[list[str], list[str]]:
    """Every method that reads what this encoder offers and trains nothing; and those that search for neighbours."""
    offered = {"embedding", "logits", "layers", "head"}
    found = [name for name in methods.names() if not trains(name) and offered.issuperset(methods.get(name).reads)]
    searching = [name for name in found if any(_searches(base) for base in methods.get(name).__mro__)]
    return [name for name in found if name not in searching], searching


def _searches(kind: type) -> bool:
    return hasattr(sys.modules[kind.__module__], "neighbours")


def trains(name: str) -> bool:
    return methods.get(name).trains or hasattr(methods.get(name), "epochs")
