"""A whole table, by this project, by pytorch-ood, and the bare encoder forward that neither can do without.

MSP, energy, DICE, ASH, ReAct, Mahalanobis, kNN, MaxLogit and ViM on one ResNet-18 at 32 pixels, one ID and six OOD
sets: of --data those around CIFAR-10, else the embedded ones around the digits.

ours: from image files to records on disk (features, fits, scores, metrics with their intervals), as `run_all.py` does
    it, in an empty folder; no figures.
pytorch-ood: its benchmark over the list of detectors with its cache on. It is spared what it would have to pay for:
    its images are decoded, resized, normalised and in memory, its detectors fitted on features extracted once.
encoder: the forward pass of our encoder over each image once, at 32 pixels and in memory.

On a GPU (--device cuda) a share of a short pass says little: there, with our images in memory as well, what counts is
what the table takes beyond the pass, on 4,500 images and, with --data, on all; and pytorch-ood is in a process of its
own, with torch's settings and its best batch size.

Where the AUROC of both differ in the third digit: ViM, because pytorch-ood takes its covariance in float32 (its own
steps in float64 give our alpha); ASH, because two features of one image tie at the cut, and rounding breaks the tie.
With fewer training images than features Mahalanobis differs by more: its covariance is then singular, of which we take
the pseudo-inverse, and pytorch-ood the inverse with 1e-6 added.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import Selection
from benchmark.jobs.measuring import Measure
from benchmark.jobs.worker import Worker
from benchmark.planning import plan as plans
from benchmark.planning import suite
from benchmark.planning.options import Options
from benchmark.records import records
from benchmark.running.runner import Runner
from benchmark.store.entries import Store
from datasets.loading import batches
from methods.encoders.classifier import Classifier
from methods.encoders.images import preprocessing
from methods.encoders.networks import cifar
from tests.performance import paired, peer
from tests.performance.peer import ROWS, Figures, Images, Sets

BATCH = 64
ON_GPU = (64, 256, 1024)  # of which the peer takes the best; this project, and the bare forward, the last
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
        limits: dict[str, int | None],
        batch: int = BATCH,
        architecture: str = "resnet18",
    ) -> None:
        self.folder, self.data, self.device, self.limits, self.batch = folder, data, device, limits, batch
        self.architecture = architecture
        self.weights = paired.save_classifier(folder / f"{architecture}.safetensors", architecture)
        self.network = cifar.build(architecture, 10).eval()
        self.network.load_state_dict(load_file(self.weights))
        self.network.to(device)
        name = "digits" if data is None else "cifar10"
        self.suite = _write_suite(folder / "table.yaml", name, architecture, self.network.head.weight.shape[1] // 2)
        encodes = [job.images for job in self.plan(folder).jobs() if isinstance(job, Encode)]
        sets = {(images.images.split, images.images.name): _prepared(images) for images in encodes}
        self.train, self.id = sets.pop(("train", name)), sets.pop(("test", name))
        self.ood = {ood: images for (_, ood), images in sets.items()}
        self.name = name
        self.images = sum(len(images) for images in (self.train, self.id, *self.ood.values()))
        self.encoded = {"ours": 0, "peer": 0}

    def plan(self, where: Path) -> plans.Plan:
        options = Options(
            data=self.data or self.folder,
            weights=self.folder,
            results=where / "results",
            cache=where / "cache",
            device=self.device,
            batch_size=self.batch,
            speed=False,
            **self.limits,
        )
        return plans.make(suite.read(str(self.suite)), options, download=False)

    def ours(self, planned: plans.Plan | None = None) -> Figures:
        """Of a plan that was carried out before, the images are in memory; its records are gone."""
        where = Path(tempfile.mkdtemp(dir=self.folder))
        planned = planned or self.plan(where)
        worker = Worker(Store(where / "cache"), device=self.device, batch_size=self.batch)
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
        encoder = Classifier(architecture=self.architecture, checkpoint="net").open(self.weights, device=self.device)
        for images in (self.train, self.id, *self.ood.values()):
            for batch in torch.split(images.pixels, self.batch):
                encoder.encode(batch.to(self.device))

    def peer(self) -> Figures:
        return peer.figures(self.sets, self.network, self.device, self.batch, self.encoded)

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


def _write_suite(path: Path, name: str, network: str, dim: int) -> Path:
    settings = {"knn": {"k": peer.K}, "vim": {"dim": dim}}
    content = {
        "title": "nine methods on one encoder",
        "id": {"set": name, "size": 32},
        "ood": [{"set": ood, "group": "control" if ood in SETS["digits"][-2:] else "far"} for ood in SETS[name]],
        "encoders": {network: {"kind": "classifier", "settings": {"architecture": network, "checkpoint": network}}},
        "rows": [{"method": method, "encoder": network, "settings": settings.get(method, {})} for method in ROWS],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _difference(found: dict[str, Figures], method: str) -> float:
    """The largest of a method's AUROC over the OOD sets, between the two."""
    cells = [cell for cell in found["ours"] if cell[0] == method]
    return max(abs(found["ours"][cell] - found["peer"][cell]) for cell in cells)


def beyond(made: Table, rounds: int) -> tuple[paired.Seconds, Figures]:
    """Seconds of the bare forward pass and of our whole table, in turn, with the images of both in memory."""
    found: Figures = {}
    planned = made.plan(made.folder / "planned")

    def ours() -> None:
        shutil.rmtree(made.folder / "planned", ignore_errors=True)
        found.update(made.ours(planned))

    ours()
    made.encoder()
    return paired.interleaved(rounds, {"encoder": made.encoder, "ours": ours}, device=made.device), found


def alone(made: Table, batches: Sequence[int]) -> dict[str, Any]:
    """What pytorch-ood takes in a process of its own, with torch's settings and the best of these batch sizes."""
    peer.write(made.sets, made.architecture, made.weights, made.folder)
    command = [sys.executable, "-m", "tests.performance.peer", str(made.folder), made.device, *map(str, batches)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def on_gpu(
    given: argparse.Namespace, limits: dict[str, int | None], large: bool, rounds: int = 3, network: str = "resnet18"
) -> None:
    """Seconds beyond the bare forward pass, on some images and on all that there are, and the peer by itself."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits, ON_GPU[-1], network)
        seconds, found = beyond(made, rounds)
        theirs = alone(made, ON_GPU)
    rows = [
        (f"bare encoder forward, {made.images:,} images", median(seconds["encoder"]), "-"),
        (f"this project, {made.images:,} images", median(seconds["ours"]), _beyond(seconds)),
        (f"pytorch-ood, cached, in its own process, batch {theirs['batch']}", theirs["seconds"], "-"),
    ]
    whole: paired.Seconds | None = None
    if large:
        with tempfile.TemporaryDirectory() as folder:
            all_of_it = Table(Path(folder), given.data, given.device, dict.fromkeys(limits), ON_GPU[-1])
            whole, _ = beyond(all_of_it, rounds)
        rows.append((f"bare encoder forward, {all_of_it.images:,} images", median(whole["encoder"]), "-"))
        rows.append((f"this project, {all_of_it.images:,} images", median(whole["ours"]), _beyond(whole)))
    differences = {
        method: max(abs(found[cell] - theirs["auroc"][" ".join(cell)]) for cell in found if cell[0] == method)
        for method in ROWS
    }
    paired.finish(
        f"The whole table beyond the bare forward: {len(ROWS)} methods, {made.name} and {len(made.ood)} OOD sets, "
        f"{network} at 32, images in memory",
        ("who", "seconds", "beyond the bare forward"),
        rows,
        given.device,
        full=given.full,
        images=made.images,
        beyond_seconds=_beyond(seconds),
        beyond_seconds_large=None if whole is None else _beyond(whole),
        peer_ratio_own=theirs["seconds"] / median(seconds["ours"]),
        auroc_differences=differences,
        seconds={"some": seconds, "all": whole, "peer": theirs["of"]},
    )


def _beyond(seconds: paired.Seconds) -> float:
    return median(ours - bare for ours, bare in zip(seconds["ours"], seconds["encoder"], strict=True))


def main() -> None:
    given = paired.arguments(__doc__)
    limits = {"limit": None, "limit_train": None} if given.full else {"limit": 500, "limit_train": 1000}
    if given.device.startswith("cuda"):
        on_gpu(given, {"limit": 500, "limit_train": 1000}, large=given.data is not None)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits)
        found: dict[str, Figures] = {}
        ours, theirs = lambda: found.update(ours=made.ours()), lambda: found.update(peer=made.peer())
        floor = paired.interleaved(3, {"encoder": made.encoder, "ours": ours}, device=given.device)
        rounds = 3 if given.full else 1  # it takes six times as long
        against = paired.interleaved(rounds, {"ours": ours, "peer": theirs}, device=given.device)
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
