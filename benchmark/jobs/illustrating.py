"""What a training looks like: its loss curve, and image grids of what a generator makes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from benchmark.canvas import MARGIN, SMALL, Layout, canvas, height, log_ticks, wrap
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import TrainEncoder, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.records import names
from benchmark.store import files, keys
from benchmark.store.entries import Store

SHOWN = 16  # images that a generator is given to reconstruct
_NOTES = {  # what a grid holds, by the name that methods give it
    "samples": "Images that the model drew, none of them from the data.",
    "reconstructions": "ID test images, each followed by what the model makes of it.",
}


@dataclass(frozen=True, eq=False)
class Illustrate(Job):
    """Figures of one training: its loss curve, and the images that a row's method makes. `name`: of their files."""

    kind: ClassVar[str] = "measure"
    folder: Path
    name: str
    heading: str
    training: FitMethod | TrainEncoder
    score: Score | None = None  # of the row; None for an encoder
    pdf: bool = False  # each figure as PDF as well

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
        return self.folder / "figures" / "drawn" / f"{names.safe_name(self.name)}.json"

    @property
    def _endings(self) -> tuple[str, ...]:
        return ("png", "pdf") if self.pdf else ("png",)

    def done(self, store: Store) -> bool:
        try:
            drawn = files.read_sealed(self._marker)
            paths = [self.folder / f"{path}.{ending}" for path in drawn["paths"] for ending in self._endings]
            return drawn["key"] == self.key and all(path.is_file() for path in paths)
        except (OSError, ValueError, KeyError):
            return False

    def fault(self) -> str:
        return files.fault(self._marker)

    def run(self, worker: Worker) -> None:
        figures = dict(self._figures(worker))
        for path, draw in figures.items():
            for ending in self._endings:
                draw(self.folder / f"{path}.{ending}")
        drawn = {"key": self.key, "paths": list(figures), "losses": self._losses(worker)}
        files.write_atomically(self._marker, files.text(files.sealed(drawn)), durable=False)

    def _losses(self, worker: Worker) -> dict[str, list[float]]:
        """The loss curves of the training by the path of their figures, as the page draws them."""
        found = worker.store.tensors("fit", self.training.key).items()
        curves = {name.removesuffix("losses").rstrip("_"): losses for name, losses in found if name.endswith("losses")}
        return {
            self._loss_path(stage): [float(f"{loss:.5g}") for loss in losses.tolist()]
            for stage, losses in curves.items()
            if len(losses) > 1 and bool(losses.isfinite().all())
        }

    def _loss_path(self, stage: str) -> str:
        return f"figures/losses/{names.safe_name(self.name)}{f'.{stage}' if stage else ''}"

    def _figures(self, worker: Worker) -> Iterator[tuple[str, Callable[[Path], None]]]:
        """Paths below the results folder, without their ending, and how each is drawn."""
        for name, losses in worker.store.tensors("fit", self.training.key).items():
            if name.endswith("losses") and len(losses) > 1:
                stage = name.removesuffix("losses").rstrip("_")  # of trainings one after another; "": the last
                heading = f"{self.heading}: {stage}" if stage else self.heading
                yield self._loss_path(stage), partial(loss_curve, heading, losses.tolist())
        for title, images in self._pictures(worker).items():
            path = f"figures/pictures/{names.safe_name(self.name)}.{names.safe_name(title)}"
            heading, note = f"{self.heading}: {title}", _NOTES.get(title, "")
            yield path, partial(image_grid, heading, images.cpu().numpy(), note=note)

    def _pictures(self, worker: Worker) -> Mapping[str, Tensor]:
        if self.score is None:
            return {}
        method = worker.fitted(self.score.method, self.score.settings, self.training.key)
        x = load_features(self.score.images, worker.store, method.reads)[:SHOWN]
        return method.pictures(x.to(worker.device))


def loss_curve(title: str, losses: list[float], path: Path) -> None:
    """Mean loss of each epoch; a logarithmic axis, in plain numbers, where all are above 0 and far apart."""
    layout = Layout(title, [""], 1, (4.2, 2.3), left=0.75)
    with canvas(path, layout.size) as figure:
        (axes,) = layout.draw(figure)
        axes.plot(range(1, len(losses) + 1), losses, marker="." if len(losses) < 40 else "")
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean training loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if min(losses) > 0 and max(losses) / min(losses) > 5:
            axes.set_yscale("log")
            log_ticks(axes.yaxis, *axes.get_ylim())


def image_grid(title: str, images: np.ndarray[Any, Any], path: Path, note: str = "") -> None:
    """uint8 (n, H, W, 3) in rows of eight, each pixel as it is; `note`: what they are, below."""
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    tall, wide = images.shape[1:3]
    sheet = np.full((rows * (tall + 2) - 2, columns * (wide + 2) - 2, 3), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (tall + 2), place % columns * (wide + 2)
        sheet[top : top + tall, left : left + wide] = image
    panel = 0.7 * columns, 0.7 * rows * tall / wide
    note = wrap(note, max(panel[0], 4.0) - 0.2)
    layout = Layout(title, [""], 1, panel, left=0.1, below_last=0.1, foot=height(note), least=4.0)
    with canvas(path, layout.size) as figure:
        (axes,) = layout.draw(figure)
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()
        figure.text(0.5, MARGIN / layout.size[1], note, ha="center", va="bottom", fontsize=SMALL, color="0.3")
