"""Images that a row errs on, each with its score and the ID training images nearest to it: figures of a paper."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmark.canvas import canvas
from benchmark.jobs.encoding import encodes, load_features
from benchmark.jobs.inputs import Selection
from benchmark.jobs.scoring import Score
from benchmark.papers.figures import NotMeasured
from benchmark.papers.reading import Gallery
from benchmark.planning import plan as plans
from benchmark.planning import suite as suites
from benchmark.planning.options import Options
from benchmark.store.entries import Store
from methods.base import Features
from methods.vectors.layers import normalised

SHOWN, NEIGHBOURS = 6, 3


@dataclass(frozen=True)
class Shown:
    """One image, its score, what it is from, and the training images nearest to it with their cosines."""

    image: Any  # uint8 (H, W, 3)
    score: float
    source: str
    neighbours: Sequence[tuple[Any, float]]


def gallery(view: Gallery, options: Options) -> Callable[[Path], None]:
    """Draws the gallery: the features and scores of the row must be in the cache. NotMeasured where they are not."""
    suite_name, _, label = view.row.partition("/")
    command = f"run_all.py --id {suite_name} --methods {label}"
    try:
        planned = plans.make(suites.read(suite_name), options, download=False)
    except Exception as error:  # the ID set or its encoder is not here
        raise NotMeasured(f"{' '.join(str(error).split())}; then {command}") from error
    row = next(row for row in planned.rows if row.spec.label == label)
    store = Store(options.cache)
    jobs: list[Score] = []
    for name, measure in row.measures.items():
        if view.show == "id":
            jobs = [measure.id]
        elif name in view.show:
            jobs.append(measure.ood)
    if not jobs or not all(job.done(store) for job in jobs) or jobs[0].fit is None:
        raise NotMeasured(row.reason or f"its scores are not in {options.cache}: {command}")
    train = jobs[0].fit.train[-1].images
    vectors = _vectors(load_features(encodes(jobs[0].images[-1].use, train), store, ("layers", "embedding")))
    worst = [shown for job in jobs for shown in _worst(job, store, view.show == "id", vectors, train)]
    worst.sort(key=lambda shown: shown.score, reverse=view.show == "id")
    heading = f"{view.title}\n{row.about['title']} on {row.about['encoder_title']}"
    return partial(_draw, heading, worst[: 2 * SHOWN])


def _worst(job: Score, store: Store, highest: bool, train: torch.Tensor, images: Selection) -> list[Shown]:
    """The images of one set with the highest or lowest scores, the worst first."""
    scores = store.arrays("score", job.key)["scores"]
    order = np.argsort(scores, kind="stable")
    chosen = (order[::-1] if highest else order)[: 2 * SHOWN if highest else SHOWN]
    passes = encodes(job.images[-1].use, job.images[-1].images)
    features = load_features(passes, store, ("layers", "embedding"))[torch.from_numpy(chosen.copy())]
    cosines, nearest = (_vectors(features) @ train.T).topk(NEIGHBOURS)
    source = job.images[-1].images
    pixels = source.images.read(source.rows[chosen].tolist())
    found = []
    for place, picture in enumerate(pixels):
        rows = images.rows[nearest[place].numpy()].tolist()
        neighbours = list(zip(images.images.read(rows), cosines[place].tolist(), strict=True))
        found.append(Shown(picture, float(scores[chosen[place]]), source.images.title, neighbours))
    return found


def _vectors(features: Features) -> torch.Tensor:
    """Unit vectors to compare images by: the layers as DLSR reads them where there are any, else the embedding."""
    if features.layers is not None:
        return normalize(normalised(features), dim=1)
    return normalize(torch.as_tensor(features.need("embedding")), dim=1)


def _draw(title: str, shown: Sequence[Shown], path: Path) -> None:
    columns = 2
    rows = -(-len(shown) // columns)
    with canvas(path, (8.2, 1.25 * rows + 0.9)) as figure:
        grid = figure.subplots(
            rows, columns * (1 + NEIGHBOURS) + 1, squeeze=False, width_ratios=[*[1] * 4, 0.3, *[1] * 4]
        )
        for axes in grid.ravel():
            axes.set_axis_off()
        for place, one in enumerate(shown):
            line, side = place % rows, place // rows
            first = side * (2 + NEIGHBOURS)
            axes = grid[line, first]
            axes.imshow(one.image, interpolation="nearest")
            heading = f"{textwrap.fill(one.source, 18)}\n{one.score:.3f}"
            axes.set_title(heading, fontsize="x-small", fontweight="bold", pad=2, loc="left")
            for number, (picture, cosine) in enumerate(one.neighbours, start=1):
                axes = grid[line, first + number]
                axes.imshow(picture, interpolation="nearest")
                axes.set_title(f"{cosine:.2f}", fontsize="x-small", pad=2)
        figure.suptitle(title, fontweight="bold", fontsize="medium")
        figure.supxlabel(
            "Bold: the image and its score; beside it the ID training images nearest in the same features.",
            fontsize="x-small",
        )
