"""What jobs work on: images of a set, and encoders, each with all that its results depend on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from benchmark.store import keys
from datasets import catalogue
from datasets.loading import select, select_balanced
from datasets.sources import ImageSet
from methods.base import hold_out
from methods.device import tensors
from methods.encoders import registry
from methods.encoders.base import Encoder, settings
from methods.encoders.images import preprocessing
from methods.encoders.networks.given import GivenNetwork

SHRUNK = "shrunk in uint8 where they are decoded"
SHARD = 20_000  # images of one encode job at most
PAGES = 1024  # rows of four bytes a column or more: whole pages of memory, so that shards are mapped as one
WITHOUT = "calibration images"  # what the header of a network's file says where it was trained without them


@dataclass(frozen=True, eq=False)
class Selection:
    """Images of one split of a set: all, or the first `limit` of a fixed permutation (`balanced` over classes).

    `part` of a training set: what `hold_out` leaves to fit on, or what it takes to calibrate on. A `limit` is for both
    parts together; it never moves an image from one to the other, so that a network which was trained without the
    calibration images of the whole set has not seen those of a smaller one.
    """

    images: ImageSet
    limit: int | None = None
    balanced: bool = False
    part: Literal["all", "fitted", "calibration"] = "all"
    calibration: "Selection | None" = None  # of a training set: the images to calibrate on, none of which it has
    places: tuple[int, ...] | None = None  # of its classes among the outputs of a head; None: they are in its order
    shard: int = SHARD  # images that one encode job takes at most: these are the same images whatever it is
    span: tuple[int, int] | None = None  # of a shard: its first row among all of `whole`, and the one after its last
    whole: "Selection | None" = None

    @cached_property
    def shards(self) -> tuple["Selection", ...]:
        """The shards that encode jobs take, of about one size; none where one job takes all."""
        n = len(self.rows)
        if n <= self.shard or self.span is not None:
            return ()
        unit = PAGES if self.shard >= PAGES else 1
        count = -(-n // (self.shard // unit * unit))
        size = -(-n // (count * unit)) * unit
        return tuple(replace(self, span=(at, min(at + size, n)), whole=self) for at in range(0, n, size))

    @cached_property
    def rows(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Their places in the whole split, ascending."""
        if self.whole is not None and self.span is not None:
            return self.whole.rows[slice(*self.span)]
        n, limit = len(self.images), self.limit
        rows = np.arange(n)
        if self.part != "all":
            rows = hold_out(n)[self.part == "calibration"].numpy()
            if limit is not None and limit < n:
                limit = max(1, len(hold_out(limit)[self.part == "calibration"]))
        if self.balanced:
            return rows[select_balanced(self.images.labels[rows], limit)]
        return rows[select(len(rows), limit)]

    @cached_property
    def held_out(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of `rows` are among those that the whole set has to calibrate on."""
        return np.isin(self.rows, hold_out(len(self.images))[1].numpy())

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(n,) int64 in the order of `places`, -1 = none."""
        labels: np.ndarray[Any, np.dtype[np.int64]] = self.images.labels[self.rows]
        return labels if self.places is None else np.array([*self.places, -1])[labels]

    @cached_property
    def identity(self) -> dict[str, Any]:
        whole = self.limit is None or self.limit >= len(self.images)
        return {
            "data": self.images.fingerprint,
            "limit": None if whole else self.limit,
            "balanced": self.balanced and not whole,
            **({} if self.part == "all" else {"part": self.part}),
            **({} if self.places is None else {"places": list(self.places)}),
        }


def shifted(name: str) -> str:
    """The side of the ID set's classes that covariate-shifted images of it are."""
    return f"shifted {name}"


def calibrated(train: Selection) -> Selection:
    """The training images that are left to fit on where some are held out to calibrate on, with those."""
    return replace(train, part="fitted", calibration=replace(train, part="calibration", balanced=False))


@dataclass(frozen=True, eq=False)
class EncoderUse:
    """An encoder of the suite with everything that its features depend on but the images."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    title: str
    weights: Path | None = None
    shipped: "EncoderUse | None" = None  # the same as the suite ships it, for seed 0, where others are trained here
    precision: str = "32"
    match: int | None = None  # --resolution id: the size that every image is brought to first
    base: "EncoderUse | None" = None  # whose embedding it reads in the place of images
    of: "EncoderUse | None" = None  # whose network it runs, with the same weights, in another way
    train: Selection | None = None  # what it is trained on, where no file holds its weights
    start: "Path | EncoderUse | None" = None  # a file or an encoder trained here, where not from random weights
    seed: int = 0  # of the training, or of the file
    of_seeds: bool = False  # whether there is a file for each seed, of it or of what it stands on
    # split of the ID set, or `shifted` of a set's name -> `Selection.places`
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    no_head: str = ""  # why its head is not offered, where its classes are not the ID set's
    headless: str = ""  # that its file holds no head, where that is so
    note: str = ""  # what is assumed of it
    engine: str | None = None  # that its features are of whatever else a run has for it; None: the run's

    @cached_property
    def encoder(self) -> Encoder:
        """Not open: its settings, checked."""
        return registry.create(self.kind, **self.settings)

    @cached_property
    def shrinking(self) -> tuple[preprocessing.Shrinking, ...]:
        """What every image goes through where it is decoded, one after the other."""
        if (below := self.base or self.of) is not None:
            return below.shrinking
        own = self.encoder.shrinking
        first = () if self.match is None else (preprocessing.to_id_size(self.match),)
        return first if own is None else (*first, own)

    def shrink(self, image: Tensor) -> Tensor:
        """An image as `encode` gets it; uint8 (H, W, 3), on the CPU."""
        for shrinking in self.shrinking:
            image = shrinking(image)
        return image

    @property
    def transform(self) -> str | None:
        """The same in words, for records: those without it are of images that were resized in float."""
        return SHRUNK if self.shrinking else None

    @property
    def trained_here(self) -> bool:
        """Whether its weights come out of a training on the ID set, not out of a file."""
        return self.train is not None and self.weights is None

    @property
    def chain(self) -> tuple["EncoderUse", ...]:
        """What it stands on, first what reads images, and it."""
        return (*(self.base.chain if self.base is not None else ()), self)

    @property
    def made_of(self) -> tuple["EncoderUse", ...]:
        """It, and the encoder whose network it runs: what may have been trained for a pass of it."""
        return (self,) if self.of is None else (self, *self.of.made_of)

    @property
    def resolution(self) -> int:
        """The size at which its network sees an image."""
        return self.encoder.resolution if self.of is None else self.of.resolution

    @property
    def random(self) -> bool:
        """Whether its features differ from seed to seed: what it is made of is trained here, or has a file for each."""
        below = self.base or self.of
        return self.of_seeds or (self.trained_here if below is None else below.random)

    def view(self, images: Selection, side: str | None = None) -> Selection:
        """Images of the ID set (of another `side` of its classes) with labels in the order of its head."""
        places = self.places.get(side or images.images.split)
        calibration = None if images.calibration is None else self.view(images.calibration)
        if places is None and calibration is images.calibration:
            return images
        return replace(images, places=places, calibration=calibration)

    def may_know(self, images: Selection) -> bool:
        """Whether the file that it comes from may have been trained on these ID calibration images.

        That it was not, a header says: another set of the catalogue under `trained_on`, or `without` these images. A
        public network, which has the name of its `model`, was trained on ImageNet. What a user puts aside to calibrate
        on is taken at their word.
        """
        if images.images.split == "calibration":
            return False
        if self.encoder.of_files or self.encoder.is_given:
            return True
        if (below := self.base or self.of) is not None and below.may_know(images):
            return True
        if self.of is not None:
            return False
        file = self.weights or self.start
        if not isinstance(file, Path):
            return file is not None and file.may_know(images)
        header = tensors.header(file)
        public = hasattr(self.encoder, "model") and getattr(self.encoder, "checkpoint", None) is None
        other = catalogued(header.get("trained_on", "imagenet" if public else ""))
        return other in (None, catalogued(images.images.name)) and header.get("without") != WITHOUT

    def acquaintance(self, images: Selection) -> str:
        """`may_know` of calibration images, as records, detectors and the page say it."""
        return f"{'seen by' if self.may_know(images) else 'new to'} the network"

    @cached_property
    def training_key(self) -> str:
        """The key of that training."""
        assert self.train is not None
        if isinstance(self.start, EncoderUse):
            start: str | None = self.start.training_key
        else:
            start = None if self.start is None else _file_digest(self.start)
        return keys.digest(
            what="train encoder",
            encoder=self._untrained,
            train=self.train.identity,
            base=None if self.base is None else encode_key(self.base, self.train),
            start=start,
            **({} if self.train.calibration is None else {"validation": self.train.calibration.identity}),
            **({"seed": self.seed} if self.random else {}),
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that its features depend on but the images."""
        apart = {"head": False} if self.no_head else {}  # what is made without it is another thing
        below = {} if self.of is None else {"of": self.of.identity}
        exact = {} if self.engine is None else {"engine": self.engine}
        return {
            **self._untrained,
            **apart,
            **below,
            **exact,
            "trained": self.training_key if self.trained_here else None,
        }

    @cached_property
    def key(self) -> str:
        """The key of the encoder itself, whatever the images."""
        return keys.digest(what="encoder", encoder=self.identity)

    def _plain_setting(self, name: str) -> Any:
        """As JSON has it; of a path to a file its name, since its content has a hash of its own."""
        value = getattr(self.encoder, name)
        if isinstance(value, GivenNetwork):
            return value.fingerprint
        if name in ("checkpoint", *self.encoder.files) and value is not None:
            return Path(value).name
        return list(value) if isinstance(value, tuple) else value

    @cached_property
    def _untrained(self) -> dict[str, Any]:
        """What it is before any training: the same for every set of images."""
        return {
            "kind": self.kind,
            "settings": {name: self._plain_setting(name) for name in settings(self.encoder)},
            "weights": None if self.weights is None else _file_digest(self.weights),
            "precision": self.precision,
            "match": self.match,
            "transform": [shrinking.described() for shrinking in self.shrinking],
            "source": keys.source(type(self.encoder).__module__),
        }


def encode_key(use: EncoderUse, images: Selection) -> str:
    """The key of one encoder's pass over one selection."""
    base = None if use.base is None else encode_key(use.base, images)
    span = {} if images.span is None else {"span": list(images.span)}
    return keys.digest(what="encode", encoder=use.identity, images=images.identity, base=base, **span)


def catalogued(name: str) -> str | None:
    """The set of the catalogue that is meant by a name such as "CIFAR-10"; None for others. ImageNet's parts are it."""
    if _plain(name).startswith("imagenet"):
        return "imagenet"
    return next((there for there in catalogue.names() if _plain(there) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_digests: dict[tuple[Path, int, int], str] = {}


def _file_digest(path: Path) -> str:
    stat = path.stat()
    at = (path, stat.st_size, stat.st_mtime_ns)
    if at not in _digests:
        _digests[at] = keys.file_digest(path)
    return _digests[at]
