"""The parts of `on_gpu`: each measures one thing and ends as the other scripts do, with a table and a line of JSON.

`tiny`: sizes for a CPU, on which this only shows that it runs.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import methods
from benchmark.jobs import timing
from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.measuring import Measure
from benchmark.jobs.worker import Worker
from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.records import records, throughput
from benchmark.running.runner import Runner
from benchmark.store.entries import Store
from datasets.folder import FolderSet
from methods.base import Features
from methods.device import precision as precisions
from methods.device.precision import switches
from methods.encoders import registry
from methods.encoders.base import Encoder
from methods.encoders.networks import cifar
from methods.vectors.neighbours import neighbours
from tests.performance import beyond, lfdn_training, on_gpu, paired, stages
from tests.performance.table import LIMITS, SETS, Limits

B4 = "tf_efficientnet_b4"
Given = argparse.Namespace


def encoder(given: Given, tiny: bool, of: str) -> None:
    """Images/s of a network: plain timm in strict float32 and with torch's defaults, ours by precision."""
    sizes = {name: (side, batch) for name, side, batch in on_gpu.NETWORKS}
    name, side, batch = ("resnet8", 32, 4) if tiny else (of, *sizes[of])
    pixels = torch.randint(256, (batch, side, side, 3), dtype=torch.uint8, device=given.device)
    x = torch.randn(batch, 3, side, side, device=given.device)
    with tempfile.TemporaryDirectory() as folder:
        plain = _plain(name).to(given.device)
        work: dict[str, Callable[[], object]] = {
            "timm, strict": lambda: _pass(plain, x, "ieee"),
            "timm, torch's defaults": lambda: _pass(plain, x, "tf32"),
        }
        for precision in ("32", "tf32", "bf16"):
            opened = _opened(name, side, Path(folder), given.device, precision)
            if opened is not None:
                work[f"ours, {precision}"] = partial(opened.encode, pixels)
        for run in work.values():
            run()
        seconds = paired.interleaved(1 if tiny else 7, work, device=given.device)
    speeds = {who: batch / median(taken) for who, taken in seconds.items()}
    ratios = {who: speed / speeds["timm, torch's defaults"] for who, speed in speeds.items()}
    title = f"{name} at {side}, batches of {batch}, by precision"
    paired.finish(title, ("forward pass", "images/s"), list(speeds.items()), given.device, full=False, ratios=ratios)


def _plain(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    built = cifar.build(name, 10) if name in cifar.ARCHITECTURES else timm.create_model(name, pretrained=False)
    return built.eval()


def _pass(network: torch.nn.Module, x: Tensor, convolutions: str) -> Tensor:
    """As a user of timm has it: matrix products strict, convolutions in TF32 unless that was switched off."""
    with torch.inference_mode(), switches("32", x.device):
        if x.is_cuda:
            cudnn: Any = torch.backends.cudnn
            cudnn.conv.fp32_precision = convolutions  # put back with the others
        out: Tensor = network(x)
        return out


def _opened(name: str, side: int, folder: Path, device: str, precision: str) -> Encoder | None:
    """The project's encoder with random weights; None where the device has no such precision."""
    use = _use(name, side, folder)
    try:
        precisions.resolve(precision, device)
    except ValueError:
        return None
    return registry.create(use.kind, **use.settings).open(use.weights, device=device, precision=precision)


def _use(name: str, side: int, folder: Path, precision: str = "32") -> EncoderUse:
    """An encoder of images of that side, whatever its weights' own is, with random weights in a file."""
    kind, settings = "pretrained", dict[str, Any](model=name, resolution=side)
    if name in cifar.ARCHITECTURES:
        kind, settings = "classifier", {"architecture": name, "checkpoint": name}
    path = folder / f"{name}.safetensors"
    if not path.exists():
        metadata = {"mean": str(paired.MEAN), "std": str(paired.STD)}
        save_file(_plain(name).state_dict(), path, metadata=metadata)
    return EncoderUse(name, kind, settings, title=name, weights=path, precision=precision)


def table(given: Given, tiny: bool) -> None:
    """The whole table beyond the bare forward pass, and pytorch-ood in a process of its own."""
    limits = Limits(12, 60) if tiny else LIMITS
    with _smaller() if tiny else nullcontext():
        beyond.on_some(given, limits, rounds=1 if tiny else 3, network="resnet8" if tiny else "resnet18")


def table_whole(given: Given, tiny: bool) -> None:
    """The whole table beyond the bare forward pass on all images that there are."""
    with _smaller() if tiny else nullcontext():
        beyond.on_all(given, rounds=1 if tiny else 3, network="resnet8" if tiny else "resnet18")


@contextmanager
def _smaller() -> Iterator[None]:
    sets = patch.dict(SETS, digits=("letters", "blurred", "enlarged"))
    with patch.object(beyond, "BATCHES", (64,)), sets:
        yield


def training(given: Given, tiny: bool) -> None:
    """Steps/s of LFDN's training by precision: the loop, and its captured step."""
    channels = 8 if tiny else 512
    with patch.object(lfdn_training, "BATCH", 8) if tiny else nullcontext():
        found = lfdn_training.by_precision(given.device, (channels,), steps=2 if tiny else 60)
    pairs = {name.rpartition(" ")[2]: each for name, each in found.items()}
    rows = [(name, each["eager"], each["captured"]) for name, each in pairs.items()]
    speeds = {f"{name}, {precision}": speed for precision, each in pairs.items() for name, speed in each.items()}
    title = f"Training LFDN, {channels} channels, batch {8 if tiny else 128}"
    heads = ("steps/s", "eager", "captured")
    paired.finish(title, heads, rows, given.device, full=False, speeds=speeds)


def auroc(given: Given, tiny: bool) -> None:
    """Every row's AUROC with TF32 against strict float32, from two runs of a suite: of OpenOOD's, where data and the
    ResNet-18 at hand are there, else of the embedded images and the shipped network."""
    other = "bf16" if tiny else "tf32"  # a CPU has no TF32
    weights = Path(os.environ.get("OOD_WEIGHTS", "."))
    name, some = "digits" if tiny else "digits-all", dict[str, Any]()
    if tiny:
        some = {"methods": ("msp", "ebo"), "ood": ("letters",), "limit": 20, "limit_train": 100}
    elif given.data is not None and (weights / "cifar10_resnet18.safetensors").exists():
        name = "openood-cifar10"
        rows = tuple(row.label for row in suite.read(name).rows if row.encoder == "resnet18")
        some = {"methods": rows, "ood": ("cifar100", "textures", "mnist"), "limit": 1000, "limit_train": 5000}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("32", other):
            where = Path(folder)
            options = Options(
                data=given.data or where,
                weights=weights,
                results=where / precision,
                cache=where / "cache",
                device=given.device,
                asked=precision,
                precision=precision,
                speed=False,
                **some,
            )
            planned = planner.make(suite.read(name), options, download=False)
            Runner(planned, Worker(Store(where / "cache"), device=given.device)).run()
            targets = [target for _, target in planned.targets() if isinstance(target, Measure)]
            done = [record for target in targets if (record := records.done(target.path, target.key)) is not None]
            if not done:
                raise RuntimeError(f"the suite {name} gave no record with --precision {precision}")
            found[precision] = {(record["row"], record["ood"]["name"]): record["metrics"]["auroc"] for record in done}
    both = sorted(found["32"].keys() & found[other].keys())
    differences: dict[str, float] = {}
    for row, ood in both:
        gap = 100 * abs(found["32"][row, ood] - found[other][row, ood])
        differences[row] = max(differences.get(row, 0.0), gap)
    title = f"AUROC with {other} against strict float32, points, the largest over OOD sets"
    paired.finish(
        title, ("row", "points"), list(differences.items()), given.device, full=False, differences=differences
    )


def search(given: Given, tiny: bool) -> None:
    """Exact neighbours on the device, against faiss on the CPU."""
    rows, seconds = [], {}
    k = 50
    for bank, width, queries in ((2_000, 32, 100),) if tiny else ((50_000, 512, 10_000), (50_000, 2048, 10_000)):
        generator = torch.Generator().manual_seed(0)
        there = torch.nn.functional.normalize(torch.randn(bank, width, generator=generator).relu(), dim=1)
        x = torch.nn.functional.normalize(torch.randn(queries, width, generator=generator).relu(), dim=1)
        on_device, on_cpu, x_there = neighbours(there, given.device), neighbours(there), x.to(given.device)
        found = on_device.search(x_there[:100], k)
        same = bool((found[1].cpu() == on_cpu.search(x[:100], k)[1]).all())
        ours = paired.interleaved(3, {"": partial(on_device.kth, x_there, k)}, device=given.device)[""]
        cpu = paired.interleaved(1, {"": partial(on_cpu.kth, x, k)})[""]
        seconds[str(width)] = median(ours)
        rows.append((f"{queries:,} on {bank:,} x {width:,}", median(ours), median(cpu), str(same)))
    heads = ("seconds", "on the device", "on the CPU", "the same neighbours")
    paired.finish(f"Exact neighbours, k = {k}", heads, rows, given.device, full=False, seconds=seconds)


def end_to_end(given: Given, tiny: bool) -> None:
    """Images/s of EfficientNet-B4 from PNG files on, as a record has them, and as the job takes them to the disk."""
    count, side, name = (8, 32, "resnet18") if tiny else (1024, 224, B4)
    precision = precisions.resolve("auto", given.device)
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        smooth = np.random.default_rng(0).integers(256, size=(count, 7, 7, 3), dtype=np.uint8)
        for number, picture in enumerate(smooth):
            path = folder / "images" / str(number % 10) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC).save(path)
        use = _use(name, side, folder, precision)
        images = Selection(FolderSet("pictures", "test", folder / "images", title="pictures"))
        worker = Worker(Store(folder / "cache"), device=given.device)
        loaded, encoded = timing._encoder_speeds(worker, use, images)
        logits = worker.encode(use, torch.zeros((2, side, side, 3), dtype=torch.uint8))["logits"]
        x, msp = Features(logits=logits.cpu()), methods.create("msp")
        method = timing._method_speed(worker, msp, x, 4096)
        stages = {"decoding": loaded, "encoder": encoded, "MSP": method}
        rates = {who: speed.images_per_second for who, speed in stages.items()}
        rates["end to end"] = throughput.overlap(loaded, encoded, method).images_per_second
        seconds = paired.interleaved(1, {"": lambda: Encode(use, images).run(worker)}, device=given.device)[""]
        rates["job, PNG to features on the disk"] = count / seconds[0]
    title = f"End to end: {name} at {side}, PNG files, batches of {worker.batch_size_of(use)}, precision {precision}"
    paired.finish(title, ("stage", "images/s"), list(rates.items()), given.device, full=False, rates=rates)


def loading(given: Given, tiny: bool) -> None:
    """From the disk to features and back, each stage apart."""
    files = stages.encoded(None if tiny else given.data, "cifar10", 64 if tiny else 10_000)
    source = "PNG of noise" if tiny or given.data is None else "CIFAR-10"
    stages.measure(files, source, given.device, full=False)


if __name__ == "__main__":
    part, device, tiny, *data = sys.argv[1:]
    given = Given(device=device, data=Path(data[0]) if data else None, full=False)
    if part.startswith("encoder_"):
        encoder(given, tiny == "tiny", part.removeprefix("encoder_"))
    else:
        globals()[part](given, tiny == "tiny")
