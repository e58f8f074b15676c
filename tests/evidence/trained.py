"""The features that DLSR reads in a suite, and its fits: what the evidence's programs share."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmark import metrics
from benchmark.jobs.encoding import Encode, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.measuring import Measure
from benchmark.jobs.worker import Worker
from benchmark.planning import planner, suite
from benchmark.planning.options import Options, resolved
from benchmark.planning.plan import Plan
from benchmark.running.runner import Runner
from benchmark.store.entries import Store
from methods.base import Features
from methods.dlsr import DLSR

ROW = "pca"  # a row that reads DLSR's layers and costs nothing
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Sets:
    train: Features
    id: Features
    ood: dict[str, Features]


def parser(description: str | None) -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", type=Path, required=True)
    parse.add_argument("--weights", type=Path, required=True)
    parse.add_argument("--cache", type=Path, required=True, help="where features are kept")
    parse.add_argument("--fits", type=Path, required=True, help="the trainings' states, <row>.seed<N>.safetensors")
    parse.add_argument("--suite", default="cifar10-dlsr-long")
    parse.add_argument("--encoder", default="resnet20")
    parse.add_argument("--pretrained", help="as the command line's")
    parse.add_argument("--limit", type=int, help="as the command line's")
    parse.add_argument("--device", default="cpu", help="as the command line's")
    return parse


def planned(given: argparse.Namespace, row: str, seeds: tuple[int, ...] = (), resolution: str = "native") -> Plan:
    """The suite's plan for one row."""
    options = Options(
        data=given.data,
        weights=given.weights,
        results=given.cache / "results",
        cache=given.cache,
        device=given.device,
        precision=resolved(None, given.device, runs=True),
        resolution=resolution,
        pretrained=given.pretrained,
        limit=given.limit,
        methods=(f"{row}@{given.encoder}",),
        seeds=seeds,
        speed=False,
    )
    return planner.make(suite.read(given.suite), options, download=False)


def cells(plan: Plan) -> list[Measure]:
    return [target for _, target in plan.targets() if isinstance(target, Measure)]


def fit_of(plan: Plan) -> FitMethod:
    """What a plan for one row, with one seed, fits."""
    (fit,) = {cell.id.fit for cell in cells(plan)}
    assert fit is not None
    return fit


def read(given: argparse.Namespace, resolution: str = "native") -> Sets:
    """Every set of the suite that is here but controls (they are ID images), encoded where it was not."""
    plan = planned(given, ROW, resolution=resolution)
    worker = Worker(Store(given.cache), device=given.device)
    Runner(plan, worker).run()
    measured = cells(plan)

    def features(images: tuple[Encode, ...]) -> Features:
        return load_features(images, worker.store, ("layers",)).to(given.device)

    return Sets(
        features(fit_of(plan).train),
        features(measured[0].id.images),
        {
            cell.about["ood"]["name"]: features(cell.ood.images)
            for cell in measured
            if cell.about["ood"]["group"] != "control"
        },
    )


def path(given: argparse.Namespace, row: str, seed: int) -> Path:
    """Of a training's state."""
    return Path(given.fits / f"{row}.seed{seed}.safetensors")


def fitted(given: argparse.Namespace, seed: int, **settings: object) -> DLSR:
    """The fit of a seed."""
    return DLSR(**settings).load_state(load_file(path(given, "dlsr-mse", seed)), device=given.device)  # type: ignore[arg-type]


def figures(id_scores: Tensor, ood_scores: Tensor) -> dict[str, float]:
    """AUROC and FPR95 in percent."""
    found = metrics.measure(*(np.sort(scores.double().cpu().numpy()) for scores in (id_scores, ood_scores)))
    return {name: round(100 * found[name], 4) for name in ("auroc", "fpr95")}


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation; scores hardly tie."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])
