"""torchvision's decoders give Pillow's pixels, or are not asked; damaged files are Pillow's to judge."""

import random
import struct
import warnings
import zlib
from functools import partial
from io import BytesIO

import numpy as np
import PIL
import pytest
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_image

from datasets import decoders
from datasets.decoders import COMPARED, Decoders, header
from datasets.folder import FolderSet
from datasets.images import decode

PICTURE = Image.fromarray(load_sample_image("china.jpg")[100:147, 200:253])
TORCHVISION = f"torchvision {torchvision.__version__.partition('+')[0]}"
PILLOW = f"Pillow {PIL.__version__}"


def file(image, kind, **settings):
    out = BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def with_alpha():
    image = PICTURE.convert("RGBA")
    image.putalpha(PICTURE.convert("L"))
    return image


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return exif


TAKEN = {
    "png": file(PICTURE, "PNG"),
    "png grey": file(PICTURE.convert("L"), "PNG"),
    "png palette": file(PICTURE.convert("P"), "PNG"),
    "png with more": file(PICTURE, "PNG", dpi=(3, 4), exif=turned()),
    "png one pixel": file(PICTURE.crop((0, 0, 1, 1)), "PNG"),
    "jpeg": file(PICTURE, "JPEG"),
    "jpeg grey": file(PICTURE.convert("L"), "JPEG"),
    "jpeg progressive": file(PICTURE, "JPEG", progressive=True, quality=60),
    "jpeg 4:4:4": file(PICTURE, "JPEG", subsampling=0, quality=95),
    "jpeg 4:2:2": file(PICTURE, "JPEG", subsampling=1),
    "jpeg rgb": file(PICTURE, "JPEG", keep_rgb=True),
    "jpeg turned": file(PICTURE, "JPEG", exif=turned()),
    "jpeg restarts": file(PICTURE, "JPEG", restart_marker_blocks=2, comment="x"),
    "webp lossless": file(PICTURE, "WEBP", lossless=True),
    "webp": file(PICTURE, "WEBP", quality=70),
}
NOT_TAKEN = {
    "png 16 bits": file(Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4)), "PNG"),
    "png alpha": file(with_alpha(), "PNG"),
    "png grey alpha": file(PICTURE.convert("LA"), "PNG"),
    "png palette with a transparent colour": file(PICTURE.convert("P"), "PNG", transparency=3),
    "png 1 bit": file(PICTURE.convert("1"), "PNG"),
    "png animated": file(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    "png large": file(Image.new("L", (1100, 1000)), "PNG"),
    "jpeg cmyk": file(PICTURE.convert("CMYK"), "JPEG"),
    "webp alpha": file(with_alpha(), "WEBP", lossless=True),
    "webp alpha, lossy": file(with_alpha(), "WEBP"),
    "webp animated": file(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)]),
    "gif": file(PICTURE, "GIF"),
    "tiff": file(PICTURE, "TIFF"),
    "bmp": file(PICTURE, "BMP"),
    "nothing": b"",
}
pillow = partial(decode, where="x")


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_has_pillows_pixels(name):
    data = TAKEN[name]
    found = header(data)
    assert found is not None
    assert (found.width, found.height) == Image.open(BytesIO(data)).size
    ours = decoders._decoded(data, found, found.width * found.height)
    assert ours is not None
    assert np.array_equal(ours, pillow(data))
    assert ours.flags.c_contiguous


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 1), (7, 13), (16, 33)])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 1}], ids=str)
def test_a_jpeg_of_any_size_has_pillows_pixels(size, more):
    for mode in ("RGB", "L"):
        data = file(PICTURE.convert(mode).crop((0, 0, *size)), "JPEG", **more)
        found = header(data)
        ours = decoders._decoded(data, found, found.width * found.height)
        assert np.array_equal(ours, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("name", [*TAKEN, *NOT_TAKEN])
def test_every_kind_of_file_is_what_pillow_itself_makes_of_it(name):
    """Whichever decodes it, CMYK and turned ones (as they lie, EXIF or not) among them."""
    made = Decoders()
    made._equal = dict.fromkeys(("PNG", "JPEG", "WEBP"), COMPARED)
    data = {**TAKEN, **NOT_TAKEN}[name]
    if not data:
        with pytest.raises(ValueError, match="no image of a known format"):
            made.decode(data, pillow)
        return
    with Image.open(BytesIO(data)) as image:
        if name == "png 16 bits":  # scaled, where Pillow's own conversion would cut off at 255
            wanted = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        else:
            wanted = np.asarray(image.convert("RGB"))
    assert np.array_equal(made.decode(data, pillow), wanted)


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_the_two_treat_differently_is_pillows(name):
    assert header(NOT_TAKEN[name]) is None


def chunk(kind, content, crc=None):
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png(pixels, *, packed=None, size=(2, 2), before=b"", crc=None):
    """A grey PNG of 2 x 2 from its rows, each with its filter in front."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(pixels) if packed is None else packed, crc)
    return b"\x89PNG\r\n\x1a\n" + head + before + rows + chunk(b"IEND", b"")


def test_no_png_that_would_end_the_process_gets_through():
    """torchvision 0.29 dies (a segmentation fault) of whatever its libpng calls an error."""
    rows = bytes([0, 1, 2, 0, 3, 4])
    assert header(png(rows)) is not None
    assert header(png(rows, crc=1)) is None
    assert header(png(rows, packed=zlib.compress(rows)[:-1] + b"\0")) is None  # its own checksum
    assert header(png(rows, packed=zlib.compress(rows)[:-5])) is None
    assert header(png(rows[:-1])) is None
    assert header(png(rows + b"\0")) is None
    assert header(png(bytes([5, 1, 2, 0, 3, 4]))) is None  # a filter that is none
    assert header(png(bytes(2**20), size=(1, 2**30))) is None
    assert header(png(rows, before=chunk(b"abCd", b""))) is None
    assert header(TAKEN["png palette"].replace(b"PLTE", b"PLTX")) is None


@pytest.mark.parametrize("name", TAKEN)
def test_damaged_files_are_what_pillow_says(name):
    """A bit turned or the end gone: the same pixels or the same words, and no end of the process."""
    made, draw = Decoders(), random.Random(0)
    made._equal = dict.fromkeys(("PNG", "JPEG", "WEBP"), COMPARED)
    for number in range(60):
        data = bytearray(TAKEN[name])
        if number % 2:
            data = data[: draw.randrange(16, len(data))]
        else:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)

        def outcome(run, data=bytes(data)):
            try:
                return run(data).tobytes()
            except ValueError as error:
                return str(error)

        assert outcome(lambda data: made.decode(data, pillow)) == outcome(pillow)


def test_ten_of_each_format_are_compared_before_one_is_taken():
    made, asked = Decoders(), []

    def counted(data):
        asked.append(data)
        return pillow(data)

    for _ in range(COMPARED + 5):
        for name in ("png", "jpeg"):
            assert np.array_equal(made.decode(TAKEN[name], counted), pillow(TAKEN[name]))
    assert len(asked) == 2 * COMPARED
    assert made.used == [f"{TORCHVISION} (JPEG, PNG)"]


def test_small_images_are_decoded_some_at_a_time_each_as_alone(monkeypatch):
    files = [file(PICTURE.rotate(turn), kind) for turn in range(70) for kind in ("PNG", "JPEG")]
    files[40:40] = [data for name, data in NOT_TAKEN.items() if name != "nothing"]
    large = file(PICTURE.resize((300, 200)), "JPEG")
    files[90:90] = [large, TAKEN["jpeg"][:-300], *TAKEN.values()]  # what is cut off is Pillow's to judge, alone
    taken, right = [], decoders._all_decoded
    monkeypatch.setattr(decoders, "_all_decoded", lambda small: taken.append(len(small)) or right(small))
    held = []
    monkeypatch.setattr(decoders.memory, "admit", held.append)
    made = Decoders().each(((data, str(number)) for number, data in enumerate(files)), decode)
    for number, (data, found) in enumerate(zip(files[:91], made, strict=False)):
        assert np.array_equal(found, pillow(data)), number
    with pytest.raises(ValueError, match=r"^91 cannot be decoded"):
        next(made)
    assert max(taken) == decoders.TOGETHER
    whole = Decoders()
    whole._equal = {"JPEG": COMPARED}
    held.clear()
    size = sum(found.nbytes for found in whole.each([(TAKEN["jpeg"], "x")] * 50, decode))
    assert sum(held) == size


def test_nothing_warns_at_every_image():
    """torchvision's functions do since 0.29, in a fifth of the time of a small image; its operators do not."""
    made = Decoders()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        list(made.each([(data, name) for name, data in TAKEN.items()] * (COMPARED + 2), decode))
    assert TORCHVISION in made.used[0]
    assert [str(warning.message) for warning in said] == []


def test_where_one_differs_pillow_decodes_that_format(monkeypatch):
    right = decoders._decoded

    def wrong(data, found, area):
        pixels = right(data, found, area)
        return pixels if pixels is None or found.format == "PNG" else pixels ^ 1

    monkeypatch.setattr(decoders, "_decoded", wrong)
    made = Decoders()
    for _ in range(COMPARED + 5):
        for name in ("png", "jpeg"):
            assert np.array_equal(made.decode(TAKEN[name], pillow), pillow(TAKEN[name]))
    assert made.used == [f"{PILLOW} (JPEG)", f"{TORCHVISION} (PNG)"]


def test_without_torchvisions_decoders_pillow_does_all(monkeypatch):
    monkeypatch.setattr(decoders, "_torchvision", lambda: ("", {}))
    made = Decoders()
    for _ in range(COMPARED + 2):
        assert np.array_equal(made.decode(TAKEN["jpeg"], pillow), pillow(TAKEN["jpeg"]))
    assert made.used == [f"{PILLOW} (JPEG)"]


def test_an_image_of_more_than_its_bounds_is_refused_in_pillows_words():
    large = bytearray(TAKEN["jpeg"])
    at = large.index(b"\xff\xc0") + 5
    large[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(ValueError, match="more than 64 megapixels"):
        Decoders().decode(bytes(large), pillow)


def test_a_folder_is_read_by_it_and_says_so(tmp_path):
    for number in range(COMPARED + 5):
        (tmp_path / f"{number:02}.png").write_bytes(file(PICTURE.rotate(number), "PNG"))
    (tmp_path / "x.gif").write_bytes(NOT_TAKEN["gif"])
    images = FolderSet("toy", "test", tmp_path, title="toy")
    for name, pixels in zip(images._files, images.read(range(len(images))), strict=True):
        assert np.array_equal(pixels, pillow(tmp_path / name))
    assert images.decoders.used == [f"{PILLOW} (other kinds)", f"{TORCHVISION} (PNG)"]
