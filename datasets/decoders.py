"""torchvision's decoders in the place of Pillow's, where they give the same pixels.

They are faster, and let go of Python's lock, so that threads help at every size. What a file is says its header, read
here without decoding anything; every kind that the two treat differently is left to Pillow, and so is every file that
torchvision's decoder refuses: what an error is, Pillow says.
"""

import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
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
def _torchvision() -> tuple[str, dict[str, Callable[[Any], Any]]]:
    """Its name and version, and its decoder of each format that it has."""
    try:
        import torchvision
        from torchvision import io
    except ImportError:
        return "", {}
    rgb = {"mode": io.ImageReadMode.RGB}
    wanted: dict[str, dict[str, Any]] = {"PNG": rgb, "JPEG": rgb, "WEBP": rgb}
    there = {kind: run for kind in wanted if (run := getattr(io, f"decode_{kind.lower()}", None))}
    named = f"torchvision {torchvision.__version__.partition('+')[0]}"
    return named, {kind: partial(run, **wanted[kind]) for kind, run in there.items()}


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
        data = source if isinstance(source, bytes) else _content(source)
        found = None if data is None else header(data)
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


def _content(path: Path) -> bytes | None:
    """None for what Pillow is to look at itself, be it too large, absent or no file at all."""
    try:
        return read_regular(path, FILE_BYTES)
    except (OSError, ValueError):
        return None


def _decoded(data: bytes, found: Header, area: int) -> Pixels | None:
    """By torchvision; None where it cannot, or where that would take more memory than one image may."""
    run = _torchvision()[1].get(found.format)
    needed = area * (3 + found.beside) + len(data)
    if run is None or not 0 < area <= memory.MAX_PIXELS or needed > memory.ALONE:
        return None
    import torch  # listing sets needs none of it

    memory.admit(needed)
    try:
        pixels: Pixels = run(torch.frombuffer(bytearray(data), dtype=torch.uint8)).permute(1, 2, 0).numpy()
    except Exception:  # it raises anything on broken input; Pillow finds the words
        memory.admit(-needed)
        return None
    if pixels.shape != (found.height, found.width, 3) or pixels.dtype != np.uint8:
        memory.admit(-needed)
        return None
    memory.admit(pixels.nbytes - needed)
    return pixels
