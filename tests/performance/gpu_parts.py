"""The parts of `on_gpu`: each measures one thing and ends as the other scripts do, with a table and a line of JSON.

What another part of the project brings (a precision, a captured step) is used where it is there; else its column says
that it is not. `tiny`: sizes for a CPU, on which this only shows that it runs.
"""

import argparse
import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
from benchmark.jobs.measuring import Measure
from benchmark.jobs.worker import Worker
from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.records import records
from benchmark.running.runner import Runner
from benchmark.store.entries import Store
from datasets.folder import FolderSet
from datasets.loading import batches
from methods.base import Features
from methods.device.precision import switches
from methods.encoders import registry
from methods.encoders.base import Encoder
from methods.encoders.networks import cifar
from methods.vectors.neighbours import neighbours
from tests.performance import paired, stages, whole_table

B4 = "tf_efficientnet_b4"
NETWORKS = (  # side of the images and batch
    ("resnet18", 32, 1024),
    (B4, 224, 128),
    ("vit_base_patch16_224", 224, 128),
    ("resnet50", 224, 128),
    ("densenet_bc_100_12", 32, 512),
    ("tf_efficientnet_lite0", 224, 256),
)
Given = argparse.Namespace


def encoders(given: Given, tiny: bool) -> None:
    """Images/s of each network: plain timm in strict float32 and with torch's defaults, ours by precision."""
    rows, ratios = [], {}
    for name, side, batch in NETWORKS[:1] if tiny else NETWORKS:
        batch = 4 if tiny else batch
        pixels = torch.randint(256, (batch, side, side, 3), dtype=torch.uint8, device=given.device)
        x = torch.randn(batch, 3, side, side, device=given.device)
        with tempfile.TemporaryDirectory() as folder:
            plain = _plain(name).to(given.device)
            work: dict[str, Callable[[], object]] = {
                "timm, strict": lambda plain=plain, x=x: _pass(plain, x, "ieee"),
                "timm, torch's defaults": lambda plain=plain, x=x: _pass(plain, x, "tf32"),
            }
            for precision in ("32", "tf32", "bf16"):
                encoder = _opened(name, Path(folder), given.device, precision)
                if encoder is not None:
                    work[f"ours, {precision}"] = lambda encoder=encoder, pixels=pixels: encoder.encode(pixels)
            for run in work.values():
                run()
            seconds = paired.interleaved(1 if tiny else 7, work, device=given.device)
        speeds = {who: batch / median(taken) for who, taken in seconds.items()}
        ratios[name] = {who: speed / speeds["timm, torch's defaults"] for who, speed in speeds.items()}
        shown = [speeds.get(who, "-") for who in ("timm, strict", "timm, torch's defaults", *_OURS)]
        rows.append((f"{name} at {side}, {batch}", *shown))
    heads = ("images/s", "timm, strict", "timm, torch's defaults", *_OURS)
    paired.finish("Encoders by precision", heads, rows, given.device, full=False, ratios=ratios)


_OURS = ("ours, 32", "ours, tf32", "ours, bf16")


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


def _opened(name: str, folder: Path, device: str, precision: str) -> Encoder | None:
    """The project's encoder with random weights; None where it has no such precision here."""
    kind, settings = ("pretrained", {"model": name})
    if name in cifar.ARCHITECTURES:
        kind, settings = "classifier", {"architecture": name, "checkpoint": name}
    path = folder / f"{name}.safetensors"
    if not path.exists():
        metadata = {"mean": str(paired.MEAN), "std": str(paired.STD)}
        save_file(_plain(name).state_dict(), path, metadata=metadata)
    try:
        return registry.create(kind, **settings).open(path, device=device, precision=precision)
    except ValueError:
        return None


def table(given: Given, tiny: bool) -> None:
    """The whole table beyond the bare forward pass, and pytorch-ood in a process of its own."""
    limits: dict[str, int | None] = {"limit": 12 if tiny else 500, "limit_train": 60 if tiny else 1000}
    if tiny:
        with (
            patch.object(whole_table, "ON_GPU", (64,)),
            patch.dict(whole_table.SETS, digits=("letters", "blurred", "enlarged")),
        ):
            whole_table.on_gpu(given, limits, large=False, rounds=1, network="resnet8")
    else:
        whole_table.on_gpu(given, limits, large=given.data is not None)


def training(given: Given, tiny: bool) -> None:
    """Steps/s of LFDN's training: the loop as it is, and its step captured, by precision."""
    sizes, steps, batch = ((8, 8), 2, 16) if tiny else ((64, 128, 320), 100, 128)
    train = Features(layers=torch.randn(steps * batch, sum(sizes)), layer_sizes=sizes)
    shape = {"blocks": 1, "width": 8, "hidden": 8} if tiny else {}
    has_precision = "precision" in inspect.signature(methods.get("dlsr").fit).parameters
    seconds: dict[str, list[float]] = {}
    for precision in ("32", "tf32", "bf16") if has_precision and not tiny else ("32",):
        how = {"precision": precision} if has_precision else {}
        for name, capture in _steps():

            def fit(epochs: int, how: dict[str, Any] = how) -> None:
                method = methods.create("dlsr", epochs=epochs, batch_size=batch, **shape)
                method.fit(train, device=given.device, **how)

            with capture:
                taken = paired.interleaved(
                    1 if tiny else 2, {"one": lambda: fit(1), "three": lambda: fit(3)}, device=given.device
                )
            seconds[f"{name}, {precision}"] = [b - a for a, b in zip(taken["one"], taken["three"], strict=True)]
    rows: list[tuple[str, object]] = [(who, 2 * steps / median(taken)) for who, taken in seconds.items()]
    if len(_steps()) == 1:
        rows.append(("captured: there is no methods/device/graphs.py", "-"))
    title = f"Training LFDN, {sum(sizes)} channels, batch {batch}"
    paired.finish(title, ("step", "steps/s"), rows, given.device, full=False, seconds=seconds, speeds=dict(rows))


def _steps() -> list[tuple[str, AbstractContextManager[object]]]:
    """The loop, and its captured step where there is one: what is to be entered while each is timed."""
    try:
        from methods.device import graphs
    except ImportError:
        return [("loop", nullcontext())]
    return [("loop", patch.object(graphs, "recorder", lambda device: None)), ("captured", nullcontext())]


def auroc(given: Given, tiny: bool) -> None:
    """Every row's AUROC with TF32 against strict float32, from two runs of a suite."""
    other = "bf16" if tiny else "tf32"  # a CPU has no TF32
    name, some = "digits", dict[str, Any]()
    if tiny:
        some = {"methods": ("msp", "ebo"), "ood": ("letters",), "limit": 20, "limit_train": 100}
    elif given.data is not None:
        name, some = "cifar10", {"limit": 1000, "limit_train": 5000}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("32", other):
            where = Path(folder)
            options = Options(
                data=given.data or where,
                weights=Path(os.environ.get("OOD_WEIGHTS", where)),
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
        ours = paired.interleaved(3, {"": lambda a=on_device, x=x_there: a.kth(x, k)}, device=given.device)[""]
        cpu = paired.interleaved(1, {"": lambda b=on_cpu, x=x: b.kth(x, k)})[""]
        seconds[str(width)] = median(ours)
        rows.append((f"{queries:,} on {bank:,} x {width:,}", median(ours), median(cpu), str(same)))
    heads = ("seconds", "on the device", "on the CPU", "the same neighbours")
    paired.finish(f"Exact neighbours, k = {k}", heads, rows, given.device, full=False, seconds=seconds)


def end_to_end(given: Given, tiny: bool) -> None:
    """Images/s of EfficientNet-B4 from PNG files to MSP scores, beside its passes alone."""
    count, size = (8, 4) if tiny else (2048, 128)
    name = "resnet18" if tiny else B4
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        smooth = np.random.default_rng(0).integers(256, size=(count, 7, 7, 3), dtype=np.uint8)
        for number, picture in enumerate(smooth):
            path = folder / "images" / str(number % 10) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).resize((32, 32) if tiny else (224, 224), Image.Resampling.BICUBIC).save(path)
        encoder = _opened(name, folder, given.device, "32")
        assert encoder is not None
        images, msp = FolderSet("pictures", "test", folder / "images", title="pictures"), methods.create("msp")

        def decoded() -> list[Tensor]:
            return [
                batch.images for batch in batches(images, np.arange(count), size) if isinstance(batch.images, Tensor)
            ]

        def score(parts: list[Tensor]) -> None:
            for part in parts:
                msp.score(Features(logits=encoder.encode(part.to(given.device))["logits"])).cpu()

        def whole() -> None:
            for batch in batches(images, np.arange(count), size):
                score([batch.images])  # type: ignore[list-item]

        kept = decoded()
        score(kept[:1])
        work = {"decoding": decoded, "encoder and MSP": lambda: score(kept), "end to end": whole}
        seconds = paired.interleaved(1 if tiny else 3, work, device=given.device)
    rows = [(who, count / median(taken)) for who, taken in seconds.items()]
    title = f"End to end: {name}, PNG files"
    paired.finish(title, ("stage", "images/s"), rows, given.device, full=False, rates=dict(rows))


def loading(given: Given, tiny: bool) -> None:
    """From the disk to features and back, each stage apart."""
    files = stages.encoded(None if tiny else given.data, "cifar10", 64 if tiny else 10_000)
    source = "PNG of noise" if tiny or given.data is None else "CIFAR-10"
    stages.measure(files, source, given.device, full=False)


if __name__ == "__main__":
    part, device, tiny, *data = sys.argv[1:]
    globals()[part](Given(device=device, data=Path(data[0]) if data else None, full=False), tiny == "tiny")
