"""What a training looks like: its loss curve, and image grids of what a generator makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from benchmark.canvas import canvas
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import TrainEncoder, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.records import records
from benchmark.store import files, keys
from benchmark.store.entries import Store

SHOWN = 16  # images that a generator is given to reconstruct


@dataclass(frozen=True, eq=False)
class Illustrate(Job):
    """Figures of one training: its loss curve, and the images that a row's method makes. `name`: of their files."""

    kind: ClassVar[str] = "measure"
    folder: Path
    name: str
    heading: str
    training: FitMethod | TrainEncoder
    score: Score | None = None  # of the row; None for an encoder

    @cached_property
    def key(self) -> str:
        return keys.digest(
            what="illustrate",
            training=self.training.key,
            score=self.score.key if self.score else None,
            heading=self.heading,
            source=keys.source("benchmark.canvas"),
        )

    @property
    def title(self) -> str:
        return f"illustrate {self.name}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.training, *(self.score.images if self.score else ()))

    @property
    def _marker(self) -> Path:
        return self.folder / "figures" / "drawn" / f"{records.safe_name(self.name)}.json"

    def done(self, store: Store) -> bool:
        try:
            drawn = files.read_sealed(self._marker)
            return drawn["key"] == self.key and all((self.folder / path).is_file() for path in drawn["paths"])
        except (OSError, ValueError, KeyError):
            return False

    def run(self, worker: Worker) -> None:
        paths = []
        for name, losses in worker.store.tensors("fit", self.training.key).items():
            if name.endswith("losses") and len(losses) > 1:
                stage = name.removesuffix("losses").rstrip("_")  # of trainings one after another; "": the last
                paths.append(f"figures/losses/{records.safe_name(self.name)}{f'.{stage}' if stage else ''}.png")
                heading = f"{self.heading}: {stage}" if stage else self.heading
                loss_curve(heading, losses.tolist(), self.folder / paths[-1])
        for title, images in self._pictures(worker).items():
            paths.append(f"figures/pictures/{records.safe_name(self.name)}.{records.safe_name(title)}.png")
            image_grid(f"{self.heading}: {title}", images.cpu().numpy(), self.folder / paths[-1])
        files.write_atomically(self._marker, files.text(files.sealed({"key": self.key, "paths": paths})))

    def _pictures(self, worker: Worker) -> Mapping[str, Tensor]:
        if self.score is None:
            return {}
        method = worker.fitted(self.score.method, self.score.settings, self.training.key)
        x = load_features(self.score.images, worker.store, method.reads)[:SHOWN]
        return method.pictures(x.to(worker.device))


def loss_curve(title: str, losses: list[float], path: Path) -> None:
    """Mean loss of each epoch; a logarithmic axis where all are above 0 and far apart."""
    with canvas(path, (5.0, 3.2)) as figure:
        axes = figure.subplots()
        axes.plot(range(1, len(losses) + 1), losses, marker="." if len(losses) < 40 else "")
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean training loss")
        axes.set_title(title, fontweight="bold")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if min(losses) > 0 and max(losses) / min(losses) > 5:
            axes.set_yscale("log")


def image_grid(title: str, images: np.ndarray[Any, Any], path: Path) -> None:
    """uint8 (n, H, W, 3) in rows of eight, each pixel as it is."""
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    height, width = images.shape[1:3]
    sheet = np.full((rows * (height + 2), columns * (width + 2), 3), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (height + 2), place % columns * (width + 2)
        sheet[top : top + height, left : left + width] = image
    with canvas(path, (0.7 * columns + 0.4, 0.7 * rows * height / width + 0.5)) as figure:
        axes = figure.subplots()
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title, fontsize="medium")
