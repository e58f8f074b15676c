"""torchvision's decoders in the place of Pillow's, where they give the same pixels.

They are faster, and let go of Python's lock, so that threads help at every size. What a file is says its header, read
here without decoding anything; every kind that the two treat differently is left to Pillow, and so is every file that
torchvision's decoder refuses: what an error is, Pillow says.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from datasets import memory
from datasets.files import read_regular

Pixels = NDArray[np.uint8]

COMPARED = 10  # images of a format, in each set, that are decoded by both before torchvision's pixels are taken
COMPARED_PIXELS = 16_000_000  # a larger one is not decoded twice
FILE_BYTES = 16 << 20  # a larger file is not read as a whole
SMALL_BYTES = 128 << 10  # that decoding an image takes: beside it what Python does for each counts
TOGETHER = 32  # small images that are decoded one right after the other
RGB = 3  # torchvision's ImageReadMode
PNG_BYTES = 1 << 20  # of pixels; Pillow lets go of the lock as well where there are more
_PARTS = 256  # chunks or markers before the pixels; a file with more is none of the usual ones
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"eXIf")
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # Huffman-coded, baseline to progressive
_JPEG_PLAIN = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # tables, comments, applications' own


class Header(NamedTuple):
    """A file that torchvision may decode. `beside`: bytes a pixel that it takes meanwhile, beside the image itself."""

    format: str
    width: int
    height: int
    beside: int

    def needed(self, data: bytes) -> int:
        """Bytes that decoding `data`, of which this is the header, takes at most."""
        return self.width * self.height * (3 + self.beside) + len(data)


Small = tuple[bytes, Header, str]  # an image that is decoded with others, and what names it


def header(data: bytes) -> Header | None:
    """What is in a file; None for whatever is Pillow's: 16 bits, alpha, CMYK, animations, other formats."""
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError, zlib.error):  # it ends too early, or is damaged
        pass
    return None


def _png(data: bytes) -> Header | None:
    """A sound one: at an error in the pixels torchvision 0.29 ends the process, so they are unpacked and looked at."""
    width, height, depth, colour, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    width_bytes = 1 + width * (3 if colour == 2 else 1)
    if data[8:16] != b"\0\0\0\rIHDR" or depth != 8 or colour not in (0, 2, 3) or any(methods):
        return None
    if not 0 < height * width_bytes <= PNG_BYTES:
        return None
    place, packed, colours = 33, [], 0
    for _ in range(_PARTS):
        size, kind = struct.unpack_from(">I4s", data, place)
        if zlib.crc32(data[place + 4 : place + 8 + size]) != struct.unpack_from(">I", data, place + 8 + size)[0]:
            return None
        if kind == b"IDAT":
            packed.append(data[place + 8 : place + 8 + size])
        elif packed:  # what comes behind the pixels is not read
            break
        elif kind == b"PLTE" and colour == 3 and not colours and size % 3 == 0 and size <= 768:
            colours = size // 3
        elif kind not in _PNG_CHUNKS:
            return None
        place += 12 + size
    unpacking = zlib.decompressobj()
    rows = unpacking.decompress(b"".join(packed), height * width_bytes + 1)
    if not unpacking.eof or len(rows) != height * width_bytes or max(rows[::width_bytes]) > 4:
        return None
    return Header("PNG", width, height, 1) if colour != 3 or colours else None


def _jpeg(data: bytes) -> Header | None:
    place = 2
    for _ in range(_PARTS):
        start, marker, size = struct.unpack_from(">BBH", data, place)
        if start != 0xFF:
            return None
        if marker in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, place + 4)
            return Header("JPEG", width, height, 6) if bits == 8 and channels in (1, 3) else None
        if marker not in _JPEG_PLAIN:
            return None
        place += 2 + size
    return None


def _webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF, 5)
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return None if bits >> 28 & 1 else Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 5)
    return None


@cache
def _torchvision() -> tuple[str, dict[str, Callable[[Any, int], Any]]]:
    """Its name and version, and its decoder of each format that it has: of bytes, to a mode.

    They are its operators: its functions around them warn at every call, which takes a fifth of a small image's time.
    """
    try:
        import torch
        import torchvision.io  # it brings them
    except ImportError:
        return "", {}
    packets = {kind: getattr(torch.ops.image, f"decode_{kind.lower()}", None) for kind in ("PNG", "JPEG", "WEBP")}
    there = {kind: packet.default for kind, packet in packets.items() if packet is not None}
    return f"torchvision {torchvision.__version__.partition('+')[0]}", there


class Decoders:
    """How the images of one set are decoded: of each format the first ten by both, by Pillow where they differ.

    Several threads may decode at once.
    """

    def __init__(self) -> None:
        self._equal: dict[str, int] = {}  # images on which they agreed; -1 once they did not
        self._used: set[tuple[str, str]] = set()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["Decoders"], tuple[()]]:
        return Decoders, ()  # another process compares for itself

    @property
    def used(self) -> list[str]:
        """Name and version of what decoded the images until now, and which formats."""
        names = sorted({name for name, _ in self._used})
        return [f"{name} ({', '.join(sorted(kind for by, kind in self._used if by == name))})" for name in names]

    def decode(self, source: bytes | Path, pillow: Callable[[bytes | Path], Pixels]) -> Pixels:
        """The image, uint8 (H, W, 3), as `pillow` decodes it; that is asked where torchvision's may not be taken."""
        return self._one(source, *_opened(source), pillow)

    def each(
        self, sources: Iterable[tuple[bytes | Path, str]], pillow: Callable[[bytes | Path, str], Pixels]
    ) -> Iterator[Pixels]:
        """The images one after the other, as `decode`. sources: with each what names it, which `pillow` is told.

        Small ones are decoded some at a time, with nothing of Python between them: else threads wait for its lock.
        """
        small: list[Small] = []
        for source, where in sources:
            data, found = _opened(source)
            if data is not None and found is not None and self._is_small(data, found):
                small.append((data, found, where))
                if len(small) < TOGETHER:
                    continue
                yield from self._together(small, pillow)
                small = []
            else:
                yield from self._together(small, pillow)
                small = []
                yield self._one(source, data, found, _of(where, pillow))
        yield from self._together(small, pillow)

    def _is_small(self, data: bytes, found: Header) -> bool:
        return self._equal.get(found.format, 0) >= COMPARED and found.needed(data) <= SMALL_BYTES

    def _together(self, small: Sequence[Small], pillow: Callable[[bytes | Path, str], Pixels]) -> Iterable[Pixels]:
        found = _all_decoded(small)
        return found or (self._one(data, data, header, _of(where, pillow)) for data, header, where in small)

    def _one(
        self,
        source: bytes | Path,
        data: bytes | None,
        found: Header | None,
        pillow: Callable[[bytes | Path], Pixels],
    ) -> Pixels:
        if data is None or found is None:
            return self._note("Pillow", "other kinds", pillow(source if data is None else data))
        equal = self._equal.get(found.format, 0)
        area = found.width * found.height
        quick = None
        if equal >= COMPARED or (equal >= 0 and area <= COMPARED_PIXELS):
            quick = _decoded(data, found, area)
        if quick is not None and equal >= COMPARED:
            return quick
        pixels = pillow(data)
        if quick is None:
            return self._note("Pillow", found.format, pixels)
        memory.admit(-quick.nbytes)
        with self._lock:
            before = self._equal.get(found.format, 0)
            self._equal[found.format] = before + 1 if before >= 0 and np.array_equal(quick, pixels) else -1
            by = "torchvision" if self._equal[found.format] > 0 else "Pillow"
        return self._note(by, found.format, pixels)

    def _note(self, by: str, kind: str, pixels: Pixels) -> Pixels:
        self._used.add((f"Pillow {PIL.__version__}" if by == "Pillow" else _torchvision()[0], kind))
        return pixels


def _of(where: str, pillow: Callable[[bytes | Path, str], Pixels]) -> Callable[[bytes | Path], Pixels]:
    return lambda data: pillow(data, where)


def _opened(source: bytes | Path) -> tuple[bytes | None, Header | None]:
    """What is in a file, and its header; None for what is Pillow's."""
    data = source if isinstance(source, bytes) else _content(source)
    return data, None if data is None else header(data)


def _content(path: Path) -> bytes | None:
    """None for what Pillow is to look at itself, be it too large, absent or no file at all."""
    try:
        return read_regular(path, FILE_BYTES)
    except (OSError, ValueError):
        return None


def _decoded(data: bytes, found: Header, area: int) -> Pixels | None:
    """By torchvision; None where it cannot, or where that would take more memory than one image may."""
    run = _torchvision()[1].get(found.format)
    needed = found.needed(data)
    if run is None or not 0 < area <= memory.MAX_PIXELS or needed > memory.ALONE:
        return None
    import torch  # listing sets needs none of it

    memory.admit(needed)
    try:
        pixels: Pixels = run(torch.frombuffer(bytearray(data), dtype=torch.uint8), RGB).permute(1, 2, 0).numpy()
    except Exception:  # it raises anything on broken input; Pillow finds the words
        memory.admit(-needed)
        return None
    if pixels.shape != (found.height, found.width, 3) or pixels.dtype != np.uint8:
        memory.admit(-needed)
        return None
    memory.admit(pixels.nbytes - needed)
    return pixels


def _all_decoded(small: Sequence[Small]) -> list[Pixels]:
    """As `_decoded`, of several images; none where one of them cannot be decoded."""
    if not small:
        return []
    import torch

    runs, needed = _torchvision()[1], sum(found.needed(data) for data, found, _ in small)
    memory.admit(needed)
    try:
        images = [
            runs[found.format](torch.frombuffer(bytearray(data), dtype=torch.uint8), RGB) for data, found, _ in small
        ]
        pixels: list[Pixels] = [image.numpy().transpose(1, 2, 0) for image in images]
    except Exception:  # each is looked at alone
        memory.admit(-needed)
        return []
    if any(
        of_one.shape != (found.height, found.width, 3) or of_one.dtype != np.uint8
        for of_one, (_, found, _) in zip(pixels, small, strict=True)
    ):
        memory.admit(-needed)
        return []
    memory.admit(sum(of_one.nbytes for of_one in pixels) - needed)
    return pixels
