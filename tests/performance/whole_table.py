"""A whole table, by this project, by pytorch-ood, and the bare encoder forward that neither can do without.

MSP, energy, DICE, ASH, ReAct, Mahalanobis, kNN, MaxLogit and ViM on one ResNet-18 at 32 pixels, one ID and six OOD
sets: of --data those around CIFAR-10, else the embedded ones around the digits.

ours: from image files to records on disk (features, fits, scores, metrics with their intervals), as `run_all.py` does
    it, in an empty folder; no figures.
pytorch-ood: its benchmark over the list of detectors with its cache on. It is spared what it would have to pay for:
    its images are decoded, resized, normalised and in memory, its detectors fitted on features extracted once.
encoder: the forward pass of our encoder over each image once, at 32 pixels and in memory.

Where the AUROC of both differ in the third digit: ViM, because pytorch-ood takes its covariance in float32 (its own
steps in float64 give our alpha); ASH, because two features of one image tie at the cut, and rounding breaks the tie.
With fewer training images than features Mahalanobis differs by more: its covariance is then singular, of which we take
the pseudo-inverse, and pytorch-ood the inverse with 1e-6 added.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import yaml
from pytorch_ood import detector
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.utils import extract_features
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset

from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import Selection
from benchmark.jobs.measuring import Measure
from benchmark.jobs.worker import Worker
from benchmark.planning import plan, suite
from benchmark.planning.options import Options
from benchmark.records import records
from benchmark.running.runner import Runner
from benchmark.store.entries import Store
from datasets.loading import batches
from methods.encoders.classifier import Classifier
from methods.encoders.images import preprocessing
from methods.encoders.networks import cifar
from tests.performance import paired

BATCH, K, DIM, DICE, ASH, REACT = 64, 50, 256, 90, 90, 90
ROWS = {
    "msp": "MaxSoftmax",
    "maxlogit": "MaxLogit",
    "ebo": "EnergyBased",
    "dice": "DICE",
    "ash": "ASH",
    "react": "ReAct",
    "mahalanobis": "Mahalanobis",
    "knn": "KNN",
    "vim": "ViM",
}
SETTINGS = {"knn": {"k": K}, "vim": {"dim": DIM}}
SETS = {
    "cifar10": ("cifar100", "isun", "mnist", "fashion_mnist", "kmnist", "miniplaces_scenes_resize"),
    "digits": ("halves", "letters", "scans", "shuffled", "blurred", "enlarged"),
}
Figures = dict[tuple[str, str], float]  # AUROC by method and OOD set


@dataclass(frozen=True)
class Images:
    """A set as the others read it: uint8 (N, 32, 32, 3), the same normalised (N, 3, 32, 32), and labels (N,)."""

    pixels: Tensor
    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def dataset(self, label: int | None = None) -> Dataset[Any]:
        """For torch's loader; `label` in the place of all labels."""
        return TensorDataset(self.x, self.labels if label is None else torch.full_like(self.labels, label))


class Table:
    """One table to be made; `folder` is for what is written."""

    def __init__(self, folder: Path, data: Path | None, device: str, limits: dict[str, int | None]) -> None:
        self.folder, self.data, self.device, self.limits = folder, data, device, limits
        self.weights = paired.save_classifier(folder / "resnet18.safetensors")
        self.network = cifar.build("resnet18", 10).eval()
        self.network.load_state_dict(load_file(self.weights))
        self.network.to(device)
        name = "digits" if data is None else "cifar10"
        self.suite = _write_suite(folder / "table.yaml", name)
        encodes = [job.images for job in self.plan(folder).jobs() if isinstance(job, Encode)]
        sets = {(images.images.split, images.images.name): _prepared(images) for images in encodes}
        self.train, self.id = sets.pop(("train", name)), sets.pop(("test", name))
        self.ood = {ood: images for (_, ood), images in sets.items()}
        self.name = name
        self.images = sum(len(images) for images in (self.train, self.id, *self.ood.values()))
        self.encoded = {"ours": 0, "peer": 0}

    def plan(self, where: Path) -> plan.Plan:
        options = Options(
            data=self.data or self.folder,
            weights=self.folder,
            results=where / "results",
            cache=where / "cache",
            device=self.device,
            batch_size=BATCH,
            speed=False,
            **self.limits,
        )
        return plan.make(suite.read(str(self.suite)), options, download=False)

    def ours(self) -> Figures:
        where = Path(tempfile.mkdtemp(dir=self.folder))
        planned = self.plan(where)
        worker = Worker(Store(where / "cache"), device=self.device, batch_size=BATCH)
        with patch.object(Classifier, "encode", self._counted):
            outcome = Runner(planned, worker).run()
        assert not outcome.failed, outcome.failed
        assert not outcome.skipped, outcome.skipped
        found = {}
        for row, target in planned.targets():
            record = records.read(target.path) if isinstance(target, Measure) else None
            if record is not None:
                found[row.spec.method, record["ood"]["name"]] = record["metrics"]["auroc"]
        return found

    @property
    def _counted(self) -> Callable[[Classifier, Any], dict[str, Tensor]]:
        encode = Classifier.encode

        def counted(encoder: Classifier, images: Any) -> dict[str, Tensor]:
            self.encoded["ours"] += len(images)
            return encode(encoder, images)

        return counted

    def encoder(self) -> None:
        """The bare forward pass."""
        encoder = Classifier("resnet18", checkpoint="resnet18").open(self.weights, device=self.device)
        for images in (self.train, self.id, *self.ood.values()):
            for batch in torch.split(images.pixels, BATCH):
                encoder.encode(batch.to(self.device))

    def peer(self) -> Figures:
        def embed(x: Tensor) -> Tensor:
            self.encoded["peer"] += len(x)
            return self.network.embedding(self.network.stages(x)[-1])

        def logits(x: Tensor) -> Tensor:
            return head(embed(x))

        def maps(x: Tensor) -> Tensor:  # its ASH and ReAct take maps: the pooled ones, as the methods' papers do
            return embed(x)[:, :, None, None]

        def of_maps(x: Tensor) -> Tensor:
            return head(x.flatten(1))

        head = self.network.head
        weight, bias = head.weight.detach(), head.bias.detach()
        detectors = {
            "msp": detector.MaxSoftmax(logits),
            "maxlogit": detector.MaxLogit(logits),
            "ebo": detector.EnergyBased(logits),
            "dice": detector.DICE(embed, weight, bias, p=DICE / 100),
            "ash": detector.ASH(maps, of_maps, variant="ash-s", percentile=ASH / 100),
            "react": detector.ReAct(maps, of_maps, percentile=REACT / 100),
            "mahalanobis": detector.Mahalanobis(embed),
            "knn": detector.KNN(embed, k=K),
            "vim": detector.ViM(embed, d=DIM, w=weight, b=bias),
        }
        loader = DataLoader(self.train.dataset(), batch_size=BATCH)
        with torch.no_grad():
            z, y = extract_features(model=embed, data_loader=loader, device=self.device)
            for name in ("dice", "mahalanobis", "knn", "vim"):
                detectors[name].fit_features(z, y)
            detectors["react"].fit_feature_maps(z[:, :, None, None], y)
            results = _Peer(self.id, self.ood).evaluate(
                list(detectors.values()), loader_kwargs={"batch_size": BATCH}, device=self.device, cache=True
            )
        names = {peer: ours for ours, peer in ROWS.items()}
        return {(names[result["Detector"]], result["Dataset"]): result["AUROC"] for result in results}


class _Peer(Benchmark):
    """The same sets, as pytorch-ood takes them: each OOD set with the ID set."""

    def __init__(self, known: Images, unknown: dict[str, Images]) -> None:
        self.ood_names = list(unknown)
        self._sets = [ConcatDataset([known.dataset(), images.dataset(-1)]) for images in unknown.values()]

    def train_set(self) -> Dataset[Any]:
        raise NotImplementedError

    def test_sets(self, known: bool = True, unknown: bool = True) -> list[Dataset[Any]]:
        return list(self._sets)


def _prepared(images: Selection) -> Images:
    parts = [
        preprocessing.resize_and_crop(batch.images, 32, "cpu").round_()
        for batch in batches(images.images, images.rows, 1024)
    ]
    pixels = torch.cat(parts)
    x = preprocessing.normalise(pixels, paired.MEAN, paired.STD).contiguous()
    return Images(pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), x, torch.from_numpy(images.labels))


def _write_suite(path: Path, name: str) -> Path:
    content = {
        "title": "nine methods on one encoder",
        "id": {"set": name, "size": 32},
        "ood": [{"set": ood, "group": "control" if ood in SETS["digits"][-2:] else "far"} for ood in SETS[name]],
        "encoders": {
            "resnet18": {"kind": "classifier", "settings": {"architecture": "resnet18", "checkpoint": "resnet18"}}
        },
        "rows": [{"method": method, "encoder": "resnet18", "settings": SETTINGS.get(method, {})} for method in ROWS],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _difference(found: dict[str, Figures], method: str) -> float:
    """The largest of a method's AUROC over the OOD sets, between the two."""
    cells = [cell for cell in found["ours"] if cell[0] == method]
    return max(abs(found["ours"][cell] - found["peer"][cell]) for cell in cells)


def main() -> None:
    given = paired.arguments(__doc__)
    limits = {"limit": None, "limit_train": None} if given.full else {"limit": 500, "limit_train": 1000}
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits)
        found: dict[str, Figures] = {}
        ours, peer = lambda: found.update(ours=made.ours()), lambda: found.update(peer=made.peer())
        floor = paired.interleaved(3, {"encoder": made.encoder, "ours": ours}, device=given.device)
        rounds = 3 if given.full else 1  # it takes six times as long
        against = paired.interleaved(rounds, {"ours": ours, "peer": peer}, device=given.device)
    passes = made.encoded["ours"] / (3 + rounds) / made.images
    peer_passes = made.encoded["peer"] / rounds / made.images
    floor_ratio = paired.ratio(floor["ours"], floor["encoder"])
    peer_ratio = paired.ratio(against["peer"], against["ours"])
    rows = [
        ("bare encoder forward", median(floor["encoder"]), 1.0, 1.0),
        ("this project", median(floor["ours"]), floor_ratio, passes),
        ("pytorch-ood, cached", median(against["peer"]), floor_ratio * peer_ratio, peer_passes),
    ]
    paired.finish(
        f"The whole table: {len(ROWS)} methods, {made.name} and {len(made.ood)} OOD sets, {made.images:,} images, "
        "ResNet-18 at 32",
        ("who", "seconds", "x encoder", "passes an image"),
        rows,
        given.device,
        full=given.full,
        images=made.images,
        peer_ratio=peer_ratio,
        floor_ratio=floor_ratio,
        encoder_passes=passes,
        peer_encoder_passes=peer_passes,
        auroc_differences={method: _difference(found, method) for method in ROWS},
        seconds={"floor": floor, "peer": against},
    )


if __name__ == "__main__":
    main()
