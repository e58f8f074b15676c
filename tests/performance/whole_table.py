"""A whole table, by this project, by pytorch-ood, and the bare encoder forward that neither can do without.

MSP, energy, DICE, ASH, ReAct, Mahalanobis, kNN, MaxLogit and ViM on one ResNet-18 at 32 pixels, one ID and six OOD
sets: of --data those around CIFAR-10, else the embedded ones around the digits.

ours: from image files to records on disk (features, fits, scores, metrics with their intervals), as `run_all.py` does
    it, in an empty folder; no figures, and no pictures of what rows erred on, which are the page's.
pytorch-ood: its benchmark over the list of detectors with its cache on, with torch's settings and the batch size that
    is best for its forward pass. It is spared what it would have to pay for: its images are decoded, resized,
    normalised and in memory, its detectors fitted on features extracted once.
encoder: the forward pass of our encoder over each image once, at 32 pixels and in memory.

Each is a process of its own, and takes turns of a second with the forward pass, which goes on and on: how many images
went through it in the turns beside is what a table is as long as (`sliced`). A ratio is the median of some tables',
with the least and the greatest. Beside the nine: every post-hoc method of the registry (`floor_ratio_all`), and those
among them that search for neighbours (`floor_ratio_neighbours`), which the others are without. `--parts all` measures
these alone. What each method takes beyond the pass, by
the records of the last table, is told as `beyond_the_pass`.

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
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
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
from tests.performance import paired, peer, sliced
from tests.performance.peer import ROWS, Figures, Images, Sets

BATCH = 64
ON_GPU = (64, 256, 1024)  # of which the peer takes the best; this project, and the bare forward, the last
LIMITS: dict[str, int | None] = {"limit": 500, "limit_train": 1000}
PARTS = ("nine", "all", "neighbours", "peer")
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
            **self.limits,
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


def on_gpu(given: argparse.Namespace, limits: dict[str, int | None], rounds: int, network: str) -> None:
    """Seconds beyond the bare forward pass, and the peer by itself."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits, ON_GPU[-1], network)
        seconds, found = beyond(made, rounds)
        theirs = alone(made, ON_GPU)
    peer_row = (f"pytorch-ood, cached, in its own process, batch {theirs['batch']}", theirs["seconds"], "-")
    differences = {
        method: max(abs(found[cell] - theirs["auroc"][" ".join(cell)]) for cell in found if cell[0] == method)
        for method in ROWS
    }
    _tell_beyond(
        made,
        seconds,
        [peer_row],
        given,
        peer_ratio_own=theirs["seconds"] / median(seconds["ours"]),
        auroc_differences=differences,
        seconds={"ours": seconds, "peer": theirs["of"]},
    )


def on_all_images(given: argparse.Namespace, rounds: int, network: str) -> None:
    """Seconds beyond the bare forward pass on all images of the sets."""
    with tempfile.TemporaryDirectory() as folder:
        limits = dict[str, int | None](limit=None, limit_train=None)
        made = Table(Path(folder), given.data, given.device, limits, ON_GPU[-1], network)
        seconds, _ = beyond(made, rounds)
    _tell_beyond(made, seconds, [], given, seconds={"ours": seconds})


def _tell_beyond(
    made: Table, taken: paired.Seconds, more: list[tuple[Any, ...]], given: argparse.Namespace, **figures: Any
) -> None:
    rows = [
        (f"bare encoder forward, {made.images:,} images", median(taken["encoder"]), "-"),
        (f"this project, {made.images:,} images", median(taken["ours"]), _beyond(taken)),
        *more,
    ]
    paired.finish(
        f"The whole table beyond the bare forward: {len(ROWS)} methods, {made.name} and {len(made.ood)} OOD sets, "
        f"{made.architecture} at 32, {made.images:,} images in memory",
        ("who", "seconds", "beyond the bare forward"),
        rows,
        given.device,
        full=given.full,
        images=made.images,
        beyond_seconds=_beyond(taken),
        **figures,
    )


def _beyond(seconds: paired.Seconds) -> float:
    return median(ours - bare for ours, bare in zip(seconds["ours"], seconds["encoder"], strict=True))


Given = tuple[Path | None, str, dict[str, int | None]]  # data, device, limits


def forward(tell: sliced.Tell, count: sliced.Count, given: Given) -> None:
    """The yardstick: images through the bare forward pass, on and on."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), *given)

        def add(images: int) -> None:
            count.value += images

        made.encoder()
        tell("ready")
        while True:
            made.encoder(add)


def tables(tell: sliced.Tell, count: sliced.Count, given: Given, rows: Sequence[str]) -> None:
    """Our tables of these methods, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), *given, rows=rows)
        made.ours()
        tell("ready")
        while True:
            made.encoded = 0
            found = made.ours()
            passes = made.encoded / made.images
            tell({"auroc": found, "passes": passes, "skipped": made.skipped, "beyond": made.beyond})


def peers(tell: sliced.Tell, count: sliced.Count, given: Given) -> None:
    """pytorch-ood's tables, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), *given)
        batch = peer.best_batch(made.network, made.train.x, made.device)
        tell("ready")
        while True:
            encoded: Counter[str] = Counter()
            found = peer.figures(made.sets, made.network, made.device, batch, encoded)
            tell({"auroc": found, "passes": encoded["peer"] / made.images, "batch": batch})


def measured(rounds: int, yardstick: sliced.Halted, target: Callable[..., None], *given: Any) -> list[sliced.Piece]:
    """So many tables beside the yardstick."""
    with sliced.Halted(target, *given) as work:
        return list(islice(sliced.pieces(work, yardstick), rounds))


def main() -> None:
    parse = paired.parser(__doc__)
    parse.add_argument("--rounds", type=int, default=3, help="tables of each kind (default: 3)")
    parse.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured (default: all)")
    given = parse.parse_args()
    given.device = "cuda" if given.device == "auto" and torch.cuda.is_available() else given.device
    given.device = given.device.replace("auto", "cpu")
    limits = dict.fromkeys(LIMITS) if given.full else LIMITS
    if given.device.startswith("cuda"):
        on_gpu(given, LIMITS, large=given.data is not None)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits)
    how = given.data, given.device, limits
    others, searching = post_hoc()
    rows = {"nine": tuple(ROWS), "all": others, "neighbours": searching}
    with sliced.Halted(forward, how) as yardstick:
        of = {who: measured(given.rounds, yardstick, tables, how, rows[who]) for who in rows if who in given.parts}
        if "peer" in given.parts:
            of["peer"] = measured(1, yardstick, peers, how)  # it takes six times as long
    ratios = {who: [piece.length / made.images for piece in taken] for who, taken in of.items()}
    floor = {who: median(found) for who, found in ratios.items()}
    titles = {
        "nine": "this project",
        "all": f"this project, all {len(others)} post-hoc methods",
        "neighbours": f"this project, {len(searching)} that search for neighbours",
        "peer": "pytorch-ood, cached",
    }
    pieces = next(iter(of.values()))
    lines = [("bare encoder forward", made.images * median(p.beside / p.steps for p in pieces), 1.0, "-", 1.0)]
    for who, taken in of.items():
        interval = f"{min(ratios[who]):.3f} to {max(ratios[who]):.3f}"
        lines.append(
            (titles[who], median(piece.seconds for piece in taken), floor[who], interval, taken[0].told["passes"])
        )
    names = {"nine": "floor_ratio", "all": "floor_ratio_all", "neighbours": "floor_ratio_neighbours"}
    result: dict[str, Any] = {names[who]: value for who, value in floor.items() if who in names}
    if "nine" in of:
        result["encoder_passes"] = of["nine"][0].told["passes"]
    if {"nine", "peer"} <= set(of):
        ours, theirs = of["nine"][0].told["auroc"], of["peer"][0].told
        result |= {
            "peer_ratio": floor["peer"] / floor["nine"],
            "peer_batch": theirs["batch"],
            "peer_encoder_passes": theirs["passes"],
            "auroc_differences": {
                method: max(abs(ours[cell] - theirs["auroc"][cell]) for cell in ours if cell[0] == method)
                for method in ROWS
            },
        }
    told = {name: piece[-1].told for name, piece in of.items() if name != "peer"}
    paired.finish(
        f"The whole table: {len(ROWS)} methods, {made.name} and {len(made.ood)} OOD sets, {made.images:,} images, "
        "ResNet-18 at 32",
        ("who", "seconds", "x encoder", "from, to", "passes an image"),
        lines,
        given.device,
        full=given.full,
        images=made.images,
        **result,
        ratios=ratios,
        beyond_the_pass={
            who: dict(sorted(found["beyond"].items(), key=lambda of: -of[1])) for who, found in told.items()
        },
        skipped={method: why for found in told.values() for method, why in found["skipped"].items()},
        load=os.getloadavg()[1],
    )


if __name__ == "__main__":
    main()
