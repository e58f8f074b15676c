"""The images that a row errs on, worst first, each with the ID training images nearest to it: what a cell shows."""

import base64
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

import methods
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, load_features
from benchmark.jobs.inputs import Selection
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.metrics import Floats, threshold_at_tpr
from benchmark.records import names, score_files
from benchmark.store import files, keys
from benchmark.store.entries import Store
from datasets.images import ImageSet
from methods.base import Features
from methods.vectors.layers import normalised
from methods.vectors.neighbours import Neighbours, neighbours

SHOWN, NEIGHBOURS = 4, 2
_SIDE = 64  # pixels of a picture at most
_LOSSLESS = 40  # up to this many a side as PNG, larger ones as JPEG


def wrong(scores: Floats, threshold: float, *, flagged: bool, most: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The places of at most `most` scores on the wrong side of a threshold, the worst first.

    flagged: of ID scores those above it, the highest first; else of OOD scores those at most it, the lowest first.
    """
    order = np.argsort(scores, kind="stable")
    chosen = (order[::-1] if flagged else order)[:most]
    return np.asarray(chosen[(scores[chosen] > threshold) == flagged], dtype=np.int64)


def vectors(features: Features) -> torch.Tensor:
    """Unit vectors to compare images by: the layers as DLSR reads them where there are any, else the embedding."""
    if features.layers is not None:
        return normalize(normalised(features), dim=1)
    return normalize(torch.as_tensor(features.need("embedding")), dim=1)


@dataclass(frozen=True)
class _Search:
    """Where the nearest of an image are looked for: passes over the ID training images, by features of these names."""

    store: Store
    train: tuple[Encode, ...]
    what: tuple[str, ...]


@lru_cache(maxsize=1)  # rows of one encoder follow each other
def _bank(search: _Search) -> Neighbours | None:
    if not all(job.done(search.store) for job in search.train):
        return None
    return neighbours(vectors(load_features(search.train, search.store, search.what)))


def _shown(search: _Search, score: Score, scores: Floats, threshold: float, *, flagged: bool) -> list[dict[str, Any]]:
    """The worst of these scores, each with its image and the nearest training images."""
    chosen = wrong(scores, threshold, flagged=flagged, most=SHOWN)
    near = _nearest(search, score.images, chosen)
    pictures = _pictures(score.images[-1].images, chosen)
    return [
        {"score": f"{scores[place]:.4g}", "image": picture, "nearest": found}
        for place, picture, found in zip(chosen, pictures, near, strict=True)
    ]


@lru_cache(maxsize=1)  # the cells of a row share its ID scores
def _flagged(search: _Search, score: Score, where: Path) -> list[dict[str, Any]]:
    ids = _scores(where)
    return _shown(search, score, ids, threshold_at_tpr(ids), flagged=True)


def _scores(where: Path) -> Floats:
    # just written, or held against its record
    scores: Floats = np.load(where, allow_pickle=False).astype(np.float64)
    return scores


def _nearest(search: _Search, passes: tuple[Encode, ...], chosen: Any) -> list[list[list[Any]]]:
    """Of each image the nearest training images: picture and cosine."""
    offered = {name for link in passes for name in link.use.encoder.offers}
    there = {*search.what} & offered and all(job.done(search.store) for job in passes)
    bank = _bank(search) if len(chosen) and there else None
    if bank is None:
        return [[] for _ in chosen]
    x = load_features(passes, search.store, search.what)[torch.from_numpy(chosen.copy())]
    distances, places = bank.search(vectors(x), min(NEIGHBOURS, len(bank)))
    cosines = 1 - distances.square() / 2  # of unit vectors
    images = search.train[-1].images
    return [
        [[picture, round(cosine, 3)] for picture, cosine in zip(_pictures(images, of), near, strict=True)]
        for of, near in zip(places.cpu().numpy(), cosines.tolist(), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class ShowMistakes(Job):
    """The mistakes of one cell, at the threshold of its FPR95, as pictures in a file of the results folder.

    train: passes over the ID training images, from which come the nearest; none are shown where they are not done, as
    for a suite in which nothing is fitted on that encoder's features.
    """

    kind: ClassVar[str] = "measure"
    measure: Measure
    train: tuple[Encode, ...]

    @cached_property
    def key(self) -> str:
        return keys.digest(what="mistakes", measure=self.measure.key, source=keys.source(__name__))

    @property
    def title(self) -> str:
        return f"show mistakes of {self.measure.about['row']} on {self.measure.about['ood']['name']}"

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.measure,)

    @property
    def path(self) -> Path:
        about = self.measure.about
        return names.mistakes_path(self.measure.folder, about["row"], about["ood"]["name"])

    def done(self, store: Store) -> bool:
        try:
            return bool(files.read_sealed(self.path)["key"] == self.key)
        except (OSError, ValueError, KeyError):
            return False

    def fault(self) -> str:
        return files.fault(self.path)

    def run(self, worker: Worker) -> None:
        what = ("layers",) if "layers" in methods.get(self.measure.about["method"]).reads else ("embedding",)
        search = _Search(worker.store, self.train, what)
        ids, oods = (self._where(side) for side in score_files.SIDES)
        threshold = threshold_at_tpr(_scores(ids))
        sides = {
            "missed": _shown(search, self.measure.ood, _scores(oods), threshold, flagged=False),
            "flagged": _flagged(search, self.measure.id, ids),
        }
        made = {"key": self.key, "measure": self.measure.key, **sides}
        files.write_atomically(self.path, files.text(files.sealed(made)), within=self.path.parents[2])

    def _where(self, side: score_files.Side) -> Path:
        about = self.measure.about
        return names.scores_path(self.measure.folder, about["row"], about[side]["name"], about["seed"])


def _pictures(images: Selection, places: Any) -> list[str]:
    """Images of a selection as data URIs, none larger than `_SIDE`."""
    return [_picture_of(images.images, row) for row in images.rows[places].tolist()]


@lru_cache(maxsize=2048)  # rows err on the same images, which are near to the same
def _picture_of(images: ImageSet, row: int) -> str:
    (pixels,) = images.read([row])
    return _picture(pixels)


def _picture(pixels: Any) -> str:
    image, kind = Image.fromarray(np.asarray(pixels)), "png"
    if max(image.size) > _LOSSLESS:
        image.thumbnail((_SIDE, _SIDE))
        kind = "jpeg"
    content = io.BytesIO()
    image.save(content, kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
