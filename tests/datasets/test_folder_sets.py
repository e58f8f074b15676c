import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.images import MAX_PIXELS, decode
from datasets.sources import find, present


@pytest.fixture
def fill(noise, png):
    """Writes noise images at these paths below a folder; the seed is the place in the list."""

    def write(root, *names):
        for seed, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(noise(seed)))
        return root

    return write


def test_classes_are_the_sorted_sub_folders(tmp_path, fill, noise, entry):
    entry(splits={"test": 5})
    fill(tmp_path / "toy" / "test", "dog/2.png", "dog/10.png", "cat/b/deep.PNG", "cat/a.png", "ant/x.png")
    (tmp_path / "toy" / "test" / "dog" / "readme.txt").write_text("no image")
    assert present("toy", tmp_path)
    found = find("toy", "test", tmp_path)
    assert found.classes == ("ant", "cat", "dog")
    assert found.labels.tolist() == [0, 1, 1, 2, 2]
    # sorted as text: 10 before 2; the seeds are the places above
    assert np.array_equal(np.stack(found.read(range(5))), np.stack([noise(seed) for seed in (4, 3, 2, 1, 0)]))
    assert found.notes == ()


@pytest.mark.parametrize(
    "names",
    [("b.png", "a.png"), ("only/b.png", "only/a.png"), ("only/own/b.png", "only/own/a.png"), ("b.png", "sub/a.png")],
)
def test_a_flat_folder_has_no_labels(tmp_path, fill, names):
    root = fill(tmp_path / "mine", *names)
    for _ in range(2):
        found = find(str(root), "test", None)
        assert found.labels.tolist() == [-1, -1]
        assert found.classes == ()
        (root / "annotations.txt").write_text("as TinyImageNet has them beside its images/")


def test_two_levels_of_folders_may_name_a_class(tmp_path, fill, entry):
    entry(class_depth=2)
    fill(tmp_path / "toy" / "test", "Greek/alpha/1.png", "Greek/beta/1.png", "Greek/beta/2.png", "Latin/a/1.png")
    found = find("toy", "test", tmp_path)
    assert found.classes == ("Greek/alpha", "Greek/beta", "Latin/a")
    assert found.labels.tolist() == [0, 1, 1, 2]


def test_parquet_comes_before_a_folder(tmp_path, fill, noise, png, write_parquet, entry):
    entry()
    fill(tmp_path / "toy" / "test", "a.png")
    assert np.array_equal(find("toy", "test", tmp_path).read([0])[0], noise(0))
    write_parquet(tmp_path / "toy" / "data" / "test-00000-of-00001.parquet", [png(noise(7))])
    assert np.array_equal(find("toy", "test", tmp_path).read([0])[0], noise(7))


def test_hidden_files_are_left_out(tmp_path, fill):
    found = find(
        str(fill(tmp_path / "mine", "a.png", ".b.png", "._a.png", "__MACOSX/a.png", ".git/a.png")), "test", None
    )
    assert len(found) == 1


def test_linked_folders_are_followed_once(tmp_path, fill):
    root = fill(tmp_path / "mine", "a/1.png", "b/1.png")
    fill(tmp_path / "elsewhere", "0.png", "../x.png", "1.png")
    (tmp_path / "elsewhere" / "0.png").unlink()
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    found = find(str(root), "test", None)
    assert found.labels.tolist() == [0, 1, 2]


def test_the_count_is_compared_with_the_official_one(tmp_path, fill, entry):
    entry()
    fill(tmp_path / "toy" / "test", "a.png")
    assert find("toy", "test", tmp_path).notes == ("1 images; officially 4",)


def test_empty_folders(tmp_path, fill, entry):
    entry()
    empty = tmp_path / "toy" / "test"
    empty.mkdir(parents=True)
    assert not present("toy", tmp_path)
    with pytest.raises(ValueError, match=rf"{empty} holds no images"):
        find("toy", "test", tmp_path)
    fill(empty, "a/1.png", "c/1.png")
    (empty / "b").mkdir()
    found = find("toy", "test", tmp_path)
    assert found.fault == "its class b holds no images; fill or remove the folder"  # what an ID set is refused for
    assert found.labels.tolist() == [-1, -1]
    assert found.notes[-1] == f"its labels are not used: {found.fault}"


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=rf"there is no folder {tmp_path}/nothing; "):
        find(str(tmp_path / "nothing"), "test", None)


def test_a_folder_without_a_slash_and_a_name_of_the_catalogue(tmp_path, fill, monkeypatch):
    fill(tmp_path / "mine", "a.png")
    fill(tmp_path / "digits", "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(find("mine", "test", None)) == 1
    assert len(find("digits", "test", None)) == 797


def test_fingerprint(tmp_path, fill, png, noise):
    root = fill(tmp_path / "one", "a/1.png", "b/1.png")
    before = find(str(root), "test", None).fingerprint
    shutil.copytree(root, tmp_path / "two")
    assert find(str(tmp_path / "two"), "test", None).fingerprint == before
    assert find(str(root), "val", None).fingerprint != before

    path = root / "a" / "1.png"
    times, size = path.stat(), path.stat().st_size
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == size
    assert find(str(root), "test", None).fingerprint != before

    shutil.rmtree(root)
    fill(root, "a/1.png", "c/1.png")  # the same images, another name
    assert find(str(root), "test", None).fingerprint != before


def test_broken_images_are_named(tmp_path, fill, noise, png):
    root = fill(tmp_path / "mine", "a.png", "b.png", "c.png", "d.png")
    whole = png(noise(0, 64, 64))
    (root / "a.png").write_bytes(whole[: len(whole) // 2])
    (root / "b.png").write_bytes(b"")
    (root / "c.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    found = find(str(root), "test", None)
    for row, name in enumerate(("a.png", "b.png", "c.png")):
        with pytest.raises(
            ValueError, match=rf"mine \(test\): {name} cannot be decoded: .*; replace the file or take it out"
        ):
            found.read([row])
    with pytest.raises(ValueError, match="no image of a known format"):  # Pillow would hand EPS to Ghostscript
        found.read([2])
    assert found.read([3])[0].shape == (6, 5, 3)


def header_only(width, height):
    """A PNG that says how large it is and holds nothing."""
    size = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = b"IEND"
    chunks = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (size, end)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (60_000, 60_000)])
def test_an_image_bomb_is_refused_by_its_header(size):
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(
        ValueError, match=r"toy: bomb.png has .*, more than 64 megapixels; scale it down or take it out"
    ):
        decode(header_only(*size), "toy: bomb.png")


def test_64_megapixels_are_not_a_bomb():
    with pytest.raises(ValueError, match="cannot be decoded"):  # it is tried: the header alone is no image
        decode(header_only(8000, 8000), "large.png")


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_mode_becomes_rgb(noise):
    pixels = noise(0, 4, 4)
    grey = Image.fromarray(pixels[:, :, 0])
    three = np.repeat(pixels[:, :, :1], 3, axis=2)
    for image, expected in [
        (Image.fromarray(pixels), pixels),
        (grey, three),
        (Image.merge("LA", (grey, grey)), three),
        (Image.merge("RGBA", (*Image.fromarray(pixels).split(), grey)), pixels),  # alpha is dropped
        (Image.fromarray(pixels[:, :, 0] > 127), np.where(three > 127, 255, 0)),
        (Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256 + 77), three),  # the high byte of 16 bits
    ]:
        assert np.array_equal(decode(encoded(image, "PNG"), "x"), expected), image.mode
    palette = Image.new("P", (1, 2))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 1), 1)
    assert decode(encoded(palette, "PNG"), "x").tolist() == [[[10, 20, 30]], [[40, 50, 60]]]
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # all magenta and yellow: red
    red, green, blue = decode(encoded(cmyk, "JPEG"), "x").mean(axis=(0, 1))
    assert red > 250
    assert green < 5
    assert blue < 5


def test_exif_does_not_turn_an_image(noise):
    image = Image.fromarray(noise(0, 4, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    assert decode(encoded(image, "JPEG", exif=exif), "x").shape == (4, 9, 3)


def test_floating_point_pixels_are_refused():
    image = Image.fromarray(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ValueError, match=r"x cannot be decoded: its pixels are floating-point numbers; "):
        decode(encoded(image, "TIFF"), "x")


def test_a_folder_with_splits_serves_as_id_set(tmp_path, fill):
    root = fill(tmp_path / "mine", "train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/9.png", "test/b/9.png")
    train, test = (find(str(root), split, None) for split in ("train", "test"))
    assert (len(train), len(test)) == (3, 2)
    assert train.name == test.name == "mine"
    assert train.labels.tolist() == [0, 1, 1]


def test_without_splits_there_is_nothing_to_train_on(tmp_path, fill):
    root = fill(tmp_path / "mine", "a/1.png", "b/1.png")
    with pytest.raises(ValueError, match="has no training split: an ID set needs train/ and test/"):
        find(str(root), "train", None)
