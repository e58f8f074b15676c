"""What a set of images is, and how one image is decoded."""

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datasets import memory
from datasets.decoders import Decoders
from datasets.files import open_regular
from datasets.memory import MAX_PIXELS

if TYPE_CHECKING:
    from datasets.features import FeatureFile

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Digests = NDArray[np.bytes_]

# Raster formats only: Pillow would hand others (EPS) to a program outside.
_AVIF = ("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", *_AVIF)
# Bytes a pixel that decoders take beside the image itself (Pillow's) and our copy of it.
_BESIDE = {"WEBP": 8, "AVIF": 12, "TIFF": 4}
IMAGE_BYTES = 512 << 20  # of a file with one image
_BAND_BYTES = 4 << 20  # of pixels that are converted at once
CLASSES = 100_000

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

    labels (N,) int64, -1 = none; `classes`: the names whose index is the label, numbers where there are no names
    (`named`: whether there are). `fault`: why the labels that the files give are not used, where they cannot be: such
    a set has none. `metadata`: what the files say of themselves (JSON values); `notes`: the same for people, one short
    phrase each. `features`: where they are, of a set of which they alone are there.
    """

    features: "FeatureFile | None" = None

    def __init__(
        self,
        name: str,
        split: str,
        *,
        title: str,
        labels: Labels,
        classes: tuple[str, ...] = (),
        fault: str = "",
        metadata: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.split = split
        self.title = title
        labels = np.array(labels, dtype=np.int64)
        self.fault = fault or _fault(labels, classes)
        if self.fault:
            labels, classes = np.full(len(labels), -1), ()
            notes = (*notes, f"its labels are not used: {self.fault}")
        self.labels = labels
        self.labels.flags.writeable = False
        self.named = bool(classes)
        self.classes = classes or tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1))
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.notes = notes
        self.decoders = Decoders()
        self._kept = memory.Kept()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, rows: Sequence[int]) -> list[Pixels]:
        """The images `rows`, decoded: uint8 (H, W, 3) each. ValueError naming an image that cannot be decoded.

        Several threads may read at once.
        """

    def each(self, rows: Sequence[int]) -> Iterator[Pixels]:
        """As `read`, one after the other: none is decoded before it is asked for, but a few where they are small."""
        for row in rows:
            yield from self.read([row])

    def recall(self, rows: Sequence[int]) -> Iterator[Pixels]:
        """As `each`, but a set of at most 256 MiB of pixels is decoded once and stays in memory, read-only.

        All sets together keep at most 2 GiB.
        """
        known = [self._kept.get(row) for row in rows]
        missing = self.each([row for row, pixels in zip(rows, known, strict=True) if pixels is None])
        for row, pixels in zip(rows, known, strict=True):
            yield self._kept.keep(row, next(missing), len(self)) if pixels is None else pixels

    @cached_property
    def digests(self) -> Digests:
        """Digest of each image as it is encoded, 16 bytes; of its pixels where it is not. (N,)"""
        return content_digests(
            np.ascontiguousarray(image).data.cast("B")
            for start in range(0, len(self), 64)
            for image in self.read(range(start, min(start + 64, len(self))))
        )

    @abstractmethod
    def content(self) -> list[tuple[str, int, str]]:
        """Relative name, size in bytes and SHA-256 of every file that the images and labels come from."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over files, split and labels: equal wherever the same files lie."""
        labels = hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()
        text = json.dumps([self.split, labels, list(self.classes), self.content()], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class EncodedSet(ImageSet):
    """Images that are stored encoded: decoded as the function `decode` does it, by whichever decoder is faster."""

    @abstractmethod
    def sources(self, rows: Sequence[int]) -> Iterable[tuple[bytes | Path, str]]:
        """The images `rows` as they are stored, and what names each."""

    def each(self, rows: Sequence[int]) -> Iterator[Pixels]:
        return self.decoders.each(self.sources(rows), decode)

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return list(self.each(rows))


def _fault(labels: Labels, classes: tuple[str, ...]) -> str:
    """Why labels cannot be right; "" where they can."""
    highest, lowest = int(labels.max(initial=-1)), int(labels.min(initial=-1))
    if lowest < -1:
        return f"a label is {lowest}; labels start at 0, and -1 is none"
    if classes and highest >= len(classes):
        return f"a label is {highest:,}, but there are only {len(classes):,} class names"
    if highest >= CLASSES:
        return f"a label is {highest:,}; labels are below {CLASSES:,}"
    return ""


def file_sha256(path: Path, limit: int | None = None) -> tuple[int, str]:
    """Size in bytes and SHA-256, in hex, of a regular file's content; the file is streamed."""
    with open_regular(path, limit) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return file.tell(), digest.hexdigest()


def hashed_files(name: str, paths: Sequence[Path], limit: int) -> list[tuple[int, str]]:
    """`file_sha256` of each file of the set `name`, several at a time."""
    from tqdm import tqdm

    with ThreadPoolExecutor(8) as pool:
        hashes = pool.map(lambda path: file_sha256(path, limit), paths)
        return list(tqdm(hashes, f"checking {name}", len(paths), delay=2, leave=False))


def counted_once(digests: Digests, official: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The rows that count, ascending: the first of each content; and what is told of the others.

    A set of `official` images is taken as it was released, with what stands twice in it. What has no content (b"")
    stays.
    """
    if len(digests) == official:
        return np.arange(len(digests)), ()
    _, first = np.unique(digests, return_index=True)
    rows = np.union1d(first, np.flatnonzero(digests == b""))
    twice = len(digests) - len(rows)
    if not twice:
        return np.arange(len(digests)), ()
    files = "1 image that stands twice in it counts" if twice == 1 else f"{twice:,} images that stand twice in it count"
    return rows, (f"{files} once",)


def content_digests(contents: Iterable[bytes | memoryview | None]) -> Digests:
    """The first 16 bytes of the SHA-256 of each; b"" where there is nothing."""
    return np.array(
        [b"" if content is None else hashlib.sha256(content).digest()[:16] for content in contents], dtype="S16"
    )


def decode(source: bytes | Path, where: str) -> Pixels:
    """Decode one image to RGB, uint8 (H, W, 3), as torchvision's loader does: no EXIF rotation, alpha dropped.

    `source`: the encoded image, or the path of its file. `where` names the image in the ValueError that a broken one,
    one of more than 64 megapixels, or one that takes more than 448 MiB to decode gets.
    """
    try:
        with (
            BytesIO(source) if isinstance(source, bytes) else open_regular(source, IMAGE_BYTES) as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            width, height = image.size
            needed = width * height * _bytes_a_pixel(image)
            if width * height <= MAX_PIXELS and needed <= memory.ALONE:  # known from the header: nothing is decoded yet
                memory.admit(needed)
                pixels = _rgb(image)
                memory.admit(pixels.nbytes - needed)
                return pixels
        size = f"{width:,} x {height:,} pixels"
    except memory.Later:
        raise
    except Image.DecompressionBombError:
        size, needed = "far too many pixels", 0
    except Exception as error:  # decoders raise anything on broken input
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"no image of a known format ({', '.join(FORMATS)})"
        raise ValueError(f"{where} cannot be decoded: {reason}; replace the file or take it out") from None
    if needed > memory.ALONE and width * height <= MAX_PIXELS:
        too_much = f"takes {needed >> 20} MiB to decode, more than {memory.ALONE >> 20}"
        raise ValueError(f"{where} has {size} and {too_much}; scale it down or take it out")
    raise ValueError(
        f"{where} has {size}, more than {MAX_PIXELS // 1_000_000} megapixels; scale it down or take it out"
    )


def _bytes_a_pixel(image: Image.Image) -> int:
    """What decoding takes at most: Pillow's image, our copy, and what the decoder of its format keeps beside them."""
    own = 2 if image.mode.startswith("I;") else 1 if image.mode in ("1", "L", "P") else 4
    beside = 6 if image.info.get("progressive") else _BESIDE.get(image.format or "", 0)
    return own + 3 + beside


def _rgb(image: Image.Image) -> Pixels:
    shift = _shift(image)
    image.load()
    width, height = image.size
    rows = max(1, _BAND_BYTES // (8 * width))
    if rows >= height:
        return _band(image, shift)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, rows):  # so that no second copy of a large image is made
        bottom = min(top + rows, height)
        pixels[top:bottom] = _band(image.crop((0, top, width, bottom)), shift)
    return pixels


def _band(image: Image.Image, shift: int | None) -> Pixels:
    if shift is not None:  # Pillow's own conversion would clip instead of scale
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint16) >> shift
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _shift(image: Image.Image) -> int | None:
    """By how many bits grey values of more than 8 are shifted; None for images of 8. ValueError for unknown ranges."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    tags: Any = getattr(image, "tag_v2", {})
    if 2 in tags.get(_SAMPLE_FORMAT, ()):
        raise ValueError("its pixels are signed numbers, of a range that is not known")
    if image.mode.startswith("I;"):
        return int(max(tags.get(_BITS_PER_SAMPLE, (16,)))) - 8
    if image.mode != "I":
        return None
    if image.format not in ("PNG", "PPM"):  # of these two Pillow makes 32 bits out of 16
        raise ValueError("its pixels are numbers of 32 bits, of a range that is not known")
    return 8


_SAMPLE_FORMAT, _BITS_PER_SAMPLE = 339, 258  # tags of TIFF
