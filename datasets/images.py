"""What a set of images is, and how one image is decoded."""

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

MAX_PIXELS = 64_000_000
KEPT_BYTES = 256 << 20
# Raster formats only: Pillow would hand others (EPS) to a program outside.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# `decode` refuses such an image in its own words.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Missing(Exception):
    """A data set is not on this machine. `name`: which; `how_to_get`: one line."""

    def __init__(self, name: str, how_to_get: str) -> None:
        super().__init__(f"{name} is not here: {how_to_get}")
        self.name = name
        self.how_to_get = how_to_get


class ImageSet(ABC):
    """N images of one split, each of its own size.

    labels (N,) int64, -1 = none; `classes`: their names. `metadata`: what the files say of themselves (JSON values);
    `notes`: the same for people, one short phrase each.
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        title: str,
        labels: Labels,
        classes: tuple[str, ...] = (),
        metadata: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.split = split
        self.title = title
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False
        self.classes = _class_names(f"{name} ({split})", self.labels, classes)
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.notes = notes
        self._kept: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, rows: Sequence[int]) -> list[Pixels]:
        """The images `rows`, decoded: uint8 (H, W, 3) each. ValueError naming an image that cannot be decoded.

        Several threads may read at once.
        """

    def recall(self, rows: Sequence[int]) -> list[Pixels]:
        """As `read`, but a set of at most 256 MiB of pixels is decoded once and stays in memory, read-only."""
        missing = [row for row in map(int, rows) if row not in self._kept]
        found = dict(zip(missing, self.read(missing), strict=True)) if missing else {}
        for row, pixels in found.items():
            if pixels.nbytes * len(self) <= KEPT_BYTES:
                pixels.flags.writeable = False
                self._kept[row] = pixels
        return [found[row] if row in found else self._kept[row] for row in map(int, rows)]

    @abstractmethod
    def content(self) -> list[tuple[str, int, str]]:
        """Relative name, size in bytes and SHA-256 of every file that the images and labels come from."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over files, split and labels: equal wherever the same files lie."""
        labels = hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()
        text = json.dumps([self.split, labels, list(self.classes), self.content()], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _class_names(where: str, labels: Labels, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes: numbers where there are labels and no names."""
    highest = int(labels.max(initial=-1))
    if labels.size and int(labels.min()) < -1:
        raise ValueError(f"{where}: a label is {int(labels.min())}; labels start at 0, and -1 is none")
    if classes and highest >= len(classes):
        raise ValueError(f"{where}: a label is {highest}, but there are only {len(classes)} class names")
    return classes or tuple(str(label) for label in range(highest + 1))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex; the file is streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decode(source: bytes | Path, where: str) -> Pixels:
    """Decode one image to RGB, uint8 (H, W, 3), as torchvision's loader does: no EXIF rotation, alpha dropped.

    `where` names the image in the ValueError that a broken one, or one of more than 64 megapixels, gets.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height <= MAX_PIXELS:  # known from the header: nothing has been decoded yet
                return _rgb(image)
        size = f"{width} x {height} pixels"
    except Image.DecompressionBombError:
        size = "far too many pixels"
    except Exception as error:  # decoders raise anything on broken input
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"no image of a known format ({', '.join(FORMATS)})"
        raise ValueError(f"{where} cannot be decoded: {reason}; replace the file or take it out") from None
    raise ValueError(
        f"{where} has {size}, more than {MAX_PIXELS // 1_000_000} megapixels; scale it down or take it out"
    )


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip instead of scale
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint16) >> 8
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
