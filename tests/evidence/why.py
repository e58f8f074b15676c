"""Why longer training does not help DLSR: its errors beside the Mahalanobis distance of the same features.

    python -m tests.evidence.why --data DATA --weights WEIGHTS --cache CACHE --fits FITS \
        --out results/evidence/dlsr-why.csv

z0 are the features that DLSR reads. A Gaussian of the training images' z0 has a distance; its eigenvectors of the
covariance, in four bands of equal number from the largest variance to the smallest, split it into four parts. Lines:

- spearman: rank correlation of a score (mse, mfsim, lr) with the distance and with its parts, on a set's images
- auroc of the distance, its parts, and DLSR's squared error within each layer and within each band
- auroc of mse and mfsim at noise levels 1, 3, 10, 30, with 1 and 8 draws of the noise, and of the mean of three
  trainings' scores

Of a set the first 2,000 images count, so that a level of 30 takes minutes.
"""

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from methods.base import Features
from methods.dlsr import DLSR
from methods.vectors.layers import normalise, normalised, split
from tests.evidence import trained

IMAGES = 2_000
BANDS = 4
Line = tuple[str, str, str, str, float]  # what, of, seed, set, value
Scores = dict[str, Tensor]  # of each set, "" the ID set's


class Gaussian:
    """The Gaussian of z0 (N, C), in the directions of its covariance that have a variance."""

    def __init__(self, z: Tensor) -> None:
        self.mean = z.double().mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov(z.double().T))
        kept = values > values.max() * z.shape[1] * torch.finfo(torch.float32).eps
        self.variances, self.directions = values[kept].flip(0), vectors[:, kept].flip(1)
        rank = len(self.variances)
        self.bands = [range(rank * band // BANDS, rank * (band + 1) // BANDS) for band in range(BANDS)]

    def coordinates(self, z: Tensor) -> Tensor:
        found: Tensor = (z.double() - self.mean) @ self.directions
        return found

    def parts(self, z: Tensor) -> list[Tensor]:
        """The squared distance within each band."""
        each = self.coordinates(z).square() / self.variances
        return [each[:, band.start : band.stop].sum(dim=1) for band in self.bands]


def main() -> None:
    parse = trained.parser(__doc__)
    parse.add_argument("--out", type=Path, required=True, help="the CSV that is written")
    given = parse.parse_args()
    sets = trained.read(given)
    images = {"": sets.id, **sets.ood}
    images = {name: x[: min(IMAGES, len(x))] for name, x in images.items()}
    gaussian = Gaussian(normalised(sets.train, device=given.device))
    z = {name: normalise(x.need("layers"), x.layer_sizes) for name, x in images.items()}
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("what", "of", "seed", "set", "value"))
        for what, of, seed, name, value in itertools.chain(
            _variances(gaussian), _distances(gaussian, z), _trainings(given, gaussian, images, z)
        ):
            writer.writerow((what, of, seed, name, f"{value:.4g}" if what == "variance" else f"{value:.3f}"))
            file.flush()


def _variances(gaussian: Gaussian) -> Iterator[Line]:
    for number, band in enumerate(gaussian.bands):
        part = gaussian.variances[band.start : band.stop]
        yield "variance", f"band {number + 1}", "", "", float(part.sum() / gaussian.variances.sum())


def _distances(gaussian: Gaussian, z: Scores) -> Iterator[Line]:
    parts = {name: gaussian.parts(of) for name, of in z.items()}
    yield from _aurocs("distance", "", {name: torch.stack(found).sum(dim=0) for name, found in parts.items()})
    for number in range(BANDS):
        yield from _aurocs(f"distance, band {number + 1}", "", {name: found[number] for name, found in parts.items()})


def _trainings(given: argparse.Namespace, gaussian: Gaussian, images: dict[str, Features], z: Scores) -> Iterator[Line]:
    summed: dict[str, Scores] = {}
    seeds = [seed for seed in trained.SEEDS if trained.path(given, "dlsr-mse", seed).is_file()]
    for seed in seeds:
        for measure in ("mse", "mfsim", "lr"):
            scores = _scored(given, seed, images, measure=measure)
            for name, found in z.items():
                parts = gaussian.parts(found)
                yield f"spearman {measure}", "distance", str(seed), name, trained.spearman(scores[name], sum(parts))  # type: ignore[arg-type]
                for number, part in enumerate(parts):
                    of = f"distance, band {number + 1}"
                    yield f"spearman {measure}", of, str(seed), name, trained.spearman(scores[name], part)
        yield from _errors(trained.fitted(given, seed), gaussian, images, z, str(seed))
        for measure, (k, draws) in itertools.product(("mse", "mfsim"), ((1, 1), (3, 1), (10, 1), (30, 1), (3, 8))):
            of = f"{measure}, level {k}, draws {draws}"
            scores = _scored(given, seed, images, measure=measure, k=k, n_draws=draws)
            yield from _aurocs(of, str(seed), scores)
            before = summed.get(of, {})
            summed[of] = {name: found + before.get(name, 0) for name, found in scores.items()}
    for of, scores in summed.items() if len(seeds) > 1 else ():
        yield from _aurocs(f"{of}, mean of {len(seeds)} trainings", "", scores)


def _errors(fit: DLSR, gaussian: Gaussian, images: dict[str, Features], z: Scores, seed: str) -> Iterator[Line]:
    """The squared error of the reconstruction, by layer and by band."""
    with torch.no_grad():
        error = {name: of - fit._reconstruct("final", of, images[name].index, 0) for name, of in z.items()}
    for layer in range(len(images[""].layer_sizes)):
        of = {name: split(e, images[""].layer_sizes)[layer].square().mean(dim=1) for name, e in error.items()}
        yield from _aurocs(f"error, layer {layer + 1}", seed, of)
    for number, band in enumerate(gaussian.bands):
        axes = gaussian.directions[:, band.start : band.stop]
        of = {name: (e.double() @ axes).square().sum(dim=1) for name, e in error.items()}
        yield (
            "share of the ID error",
            f"band {number + 1}",
            seed,
            "",
            float(of[""].sum() / error[""].double().square().sum()),
        )
        yield from _aurocs(f"error, band {number + 1}", seed, of)


def _scored(given: object, seed: int, images: dict[str, Features], **settings: object) -> Scores:
    method = trained.fitted(given, seed, **settings)  # type: ignore[arg-type]
    return {name: method.score(x) for name, x in images.items()}


def _aurocs(of: str, seed: str, scores: Scores) -> Iterator[Line]:
    for name, found in scores.items():
        if name:
            yield "auroc", of, seed, name, trained.figures(scores[""], found)["auroc"]


if __name__ == "__main__":
    main()
