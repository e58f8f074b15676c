"""How many images a set has: what is left out or doubled is told, what cannot be right is refused."""

import io
import os
import shutil
import socket

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from datasets.sources import find, present


def of(root):
    return find(str(root), "test", None)


def test_every_ending_of_the_formats_counts(tmp_path, fill, noise):
    root = fill(tmp_path / "mine", "a.jpg", "b.JFIF", "c.jpe", "d.png", "e.dib", "f.pnm")
    for name, kind in (("g.avif", "AVIF"), ("h.jfif", "JPEG"), ("i.pbm", "PPM"), ("j.dib", "BMP")):
        data = io.BytesIO()
        Image.fromarray(noise(50 + ord(name[0]), 8, 8)).convert("1" if kind == "PPM" else "RGB").save(data, kind)
        (root / name).write_bytes(data.getvalue())
    found = of(root)
    assert len(found) == 10
    assert all(image.shape in ((6, 5, 3), (8, 8, 3)) for image in found.read(range(10)))


def test_what_is_left_out_is_counted(tmp_path, fill, png, noise, monkeypatch):
    root = fill(tmp_path / "mine", "a.png", "b.png", "@eaDir/a.png/S.jpg", "@eaDir/b.png/S.jpg", ".thumbnails/a.png")
    fill(root, *(f"x{seed}.png" for seed in range(5)), "#recycle/c.png", ".hidden.png")
    for name in ("a.heic", "b.heic", "noending", "readme.md", "Thumbs.db", ".DS_Store"):
        (root / name).write_bytes(b"-")
    (root / "lost.png").symlink_to(root / "nothing")
    (root / "self.png").symlink_to(root / "self.png")
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo.png")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        found = of(root)
    assert len(found) == 5  # x0 and x1 are a and b again
    assert found.notes == (
        "left out: .heic files (2), files without an ending (1), hidden files (1), images in #recycle (1), "
        "images in @eaDir (2), images in hidden folders (1), links that lead nowhere (2), no regular files (3)",
        "2 images that stand twice in it count once",
    )


def test_a_file_that_stands_twice_counts_once_but_not_in_a_release_of_the_official_number(tmp_path, fill, entry):
    root = fill(tmp_path / "toy" / "test", "a/1.png", "a/2.png", "b/3.png")
    shutil.copy(root / "a" / "1.png", root / "b" / "copy.png")
    assert of(root).notes == ("1 image that stands twice in it counts once",)
    assert of(root).labels.tolist() == [0, 0, 1]
    entry(splits={"test": 4})
    assert len(find("toy", "test", tmp_path)) == 4
    assert find("toy", "test", tmp_path).notes == ()


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"row_group_size": 2}])
def test_a_row_that_stands_twice_counts_once_as_a_file_does(tmp_path, png, noise, write_parquet, entry, options):
    images = [png(noise(seed)) for seed in (0, 1, 0, 2, 1)]
    write_parquet(tmp_path / "toy" / "test-0.parquet", images, [0, 1, 2, 3, 1], **options)
    found = of(tmp_path / "toy")
    assert found.notes == ("2 images that stand twice in it count once",)
    assert found.labels.tolist() == [0, 1, 3]
    assert len(np.unique(found.digests)) == 3
    assert all(np.array_equal(image, noise(seed)) for seed, image in enumerate(found.read(range(3))))
    assert [name for name, *_ in found.content()] == ["test-0.parquet"]
    entry(splits={"test": 5})
    assert len(find("toy", "test", tmp_path)) == 5
    assert find("toy", "test", tmp_path).notes == ()


@pytest.mark.parametrize(
    ("others", "count"), [(("cat/1.png", "dog/2.png"), 3), (("stray.png",), 2), (("train/1.png", "cat/2.png"), 1)]
)
def test_a_class_called_like_a_split_is_a_class_unless_both_splits_are_there(tmp_path, fill, others, count):
    assert len(of(fill(tmp_path / "mine", "test/0.png", *others))) == count


def test_a_class_called_train_is_no_training_split(tmp_path, fill):
    root = fill(tmp_path / "mine", "car/1.png", "plane/2.png", "train/3.png")
    assert of(root).classes == ("car", "plane", "train")
    with pytest.raises(ValueError, match="has no training split"):
        find(str(root), "train", None)


@pytest.mark.parametrize("test", ["test", "Test", "val", "validation"])
def test_splits_are_never_added_up(tmp_path, fill, test):
    root = fill(tmp_path / "mine", "train/a/1.png", "train/b/2.png", f"{test}/a/3.png", f"{test}/b/4.png", "docs/x.png")
    found = of(root)
    assert len(found) == 2
    assert found.notes == (f"of its splits {test.lower()} counts here, not docs, train",)
    assert len(find(str(root), "train", None)) == 2


def test_train_and_test_shards_are_never_added_up(tmp_path, png, noise, write_parquet):
    for where in ("", "data", "plain_text"):
        folder = tmp_path / f"mine{where}"
        write_parquet(folder / where / "train-00000-of-00001.parquet", [png(noise(seed)) for seed in range(5)])
        write_parquet(folder / where / "test-00000-of-00001.parquet", [png(noise(9)), png(noise(8))])
        found = of(folder)
        assert len(found) == 2
        assert found.notes == ("of its splits test counts here, not train",)
        assert len(find(str(folder), "train", None)) == 5
    for name in ("one", "two"):  # two configurations of one repository
        write_parquet(tmp_path / "several" / name / "test-00000-of-00001.parquet", [png(noise(9))])
    with pytest.raises(ValueError, match="holds parquet files in one, two; name one of these folders"):
        of(tmp_path / "several")
    folder = tmp_path / "folders"
    write_parquet(folder / "train" / "0.parquet", [png(noise(seed)) for seed in range(5)])
    write_parquet(folder / "test" / "0.parquet", [png(noise(9))])
    assert len(of(folder)) == 1
    assert len(find(str(folder), "train", None)) == 5


def test_the_only_split_counts_whatever_it_is_called(tmp_path, png, noise, write_parquet, fill):
    write_parquet(tmp_path / "mine" / "train-00000-of-00001.parquet", [png(noise(0))])
    assert len(of(tmp_path / "mine")) == 1
    assert len(of(fill(tmp_path / "other", "train/a.png", "train/b.png"))) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("images-00000-of-00003", "images-00002-of-00003"), "2 of the 3 images shards; number 00001 is absent"),
        (("test-00000-of-00002-aa", "test-00000-of-00002-bb"), "holds shard 0 of 2 of 'test' twice"),
        (("test-00000-of-00001", "test-00000-of-00002", "test-00001-of-00002"), "test shards of several series"),
        (("test-00000-of-00001", "test-old"), "test shards of several series"),
    ],
)
def test_shards_that_are_absent_or_doubled(tmp_path, png, noise, write_parquet, names, message):
    for seed, name in enumerate(names):
        write_parquet(tmp_path / "mine" / f"{name}.parquet", [png(noise(seed))])
    with pytest.raises(ValueError, match=message):
        of(tmp_path / "mine")


def test_a_copy_of_a_shard_counts_once(tmp_path, png, noise, write_parquet):
    path = write_parquet(tmp_path / "mine" / "a.parquet", [png(noise(0)), png(noise(1))])
    shutil.copy(path, path.with_name("a copy.parquet"))
    assert len(of(tmp_path / "mine")) == 2
    assert of(tmp_path / "mine").notes == ("left out: parquet files that stand twice (1)",)


def test_images_beside_shards_are_told(tmp_path, fill, png, noise, write_parquet):
    write_parquet(fill(tmp_path / "mine", "x.png") / "a.parquet", [png(noise(0))])
    assert of(tmp_path / "mine").notes == ("the images beside its parquet files are left out",)


def test_a_stray_image_beside_class_folders_costs_no_other_its_label(tmp_path, fill):
    root = fill(tmp_path / "mine", "ant/1.png", "bee/2.png", "bee/3.png", "stray.png", "@eaDir/x.png")
    found = of(root)
    assert (found.classes, found.labels.tolist(), found.named) == (("ant", "bee"), [0, 1, 1, -1], True)
    assert "1 file that lies beside its class folders: without a label" in found.notes
    fill(root, *(f"flat{seed}.png" for seed in range(3)), *(f"{seed}.png" for seed in range(20)))
    assert (of(root).labels == -1).all()  # a flat set with sub-folders


def test_a_thumbnail_folder_beside_the_only_folder_hides_no_class(tmp_path, fill):
    assert of(fill(tmp_path / "mine", "own/ant/1.png", "own/bee/2.png", "@eaDir/3.png")).classes == ("ant", "bee")


def test_links_to_folders(tmp_path, fill):
    """Never one that holds the set, nor one that was read: a link to the folder above, and two to the set itself."""
    fill(tmp_path, "outside.png")
    root = fill(tmp_path / "mine", "a/1.png", "b/2.png")
    for name, target in (("up", ".."), ("one", "."), ("two", "."), ("a/again", "../b"), ("0", "b")):
        (root / name).symlink_to(target)
    found = of(root)
    assert [name for name, _, _ in found.content()] == ["a/1.png", "b/2.png"]
    assert found.notes == ("left out: links to folders that are read already (5)",)


def test_depth(tmp_path, fill):
    assert len(of(fill(tmp_path / "mine", "/".join(["d"] * 64) + "/a.png"))) == 1
    with pytest.raises(ValueError, match=r"mine has folders more than 64 deep; name the folder that holds the images$"):
        of(fill(tmp_path / "mine", "/".join(["d"] * 65) + "/a.png"))


def test_what_is_no_set_of_images_is_refused_quickly(tmp_path, fill, monkeypatch):
    from datasets import walking

    monkeypatch.setattr(walking, "OTHERS", 30)
    root = fill(tmp_path / "disk", *(f"{number}/{number}.png" for number in range(3)))
    for number in range(120):
        (root / "0" / f"{number}.txt").touch()
    with pytest.raises(ValueError, match=r"disk is no set of images: . among its first \d+ files and folders; name"):
        of(root)


def test_names_in_other_encodings_can_be_written(tmp_path, fill, png, noise):
    root = tmp_path / os.fsdecode(b"m\xefne")
    fill(root, "a/1.png", "b/2.png")
    os.mkdir(os.fsencode(root) + b"/\xff")
    with open(os.fsencode(root) + b"/\xff/\xfe.png", "wb") as file:
        file.write(png(noise(3))[:40])
    found = of(root)
    assert (found.name, found.classes) == (r"m\xefne", ("a", "b", r"\xff"))
    assert len(found.fingerprint) == 64
    with pytest.raises(ValueError, match=r"\\xff/\\xfe.png cannot be decoded") as error:
        found.read([2])
    str(error.value).encode()
    with pytest.raises(ValueError, match="there is no folder") as error:
        of(tmp_path / os.fsdecode(b"m\xefne") / os.fsdecode(b"\xff") / ("x" * 300))  # and a name that is too long
    str(error.value).encode()


def test_no_name_is_no_folder():
    with pytest.raises(ValueError, match="no data set ''"):
        find("", "test", None)


@pytest.mark.parametrize("name", ["fifo", "device", "folder"])
def test_a_shard_that_is_no_file(tmp_path, entry, name):
    entry()
    path = tmp_path / "toy" / "test-00000-of-00001.parquet"
    path.parent.mkdir()
    if name == "fifo":
        os.mkfifo(path)
    elif name == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert present("toy", tmp_path)  # by its name: --list opens nothing
    with pytest.raises(ValueError, match="not a regular file"):
        find("toy", "test", tmp_path)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.int8])
def test_signed_numbers_and_those_of_32_bits_are_refused(tmp_path, dtype):
    """Their range is not known: TIFF's sample format 2 is signed."""
    path = tmp_path / "a.tif"
    if dtype is np.int8:
        Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(path, tiffinfo={339: 2})
    elif dtype is np.uint32:
        Image.fromarray(np.zeros((4, 4), dtype=np.int32)).save(path, tiffinfo={339: 1})
    else:
        image = Image.fromarray(np.zeros((4, 4), dtype=np.int32))
        image.save(path, **({"tiffinfo": {339: 2}} if dtype is np.int16 else {}))
    with pytest.raises(ValueError, match=r"its pixels are (signed numbers|numbers of 32 bits), of a range that is not"):
        of(tmp_path).read([0])


def test_the_images_that_two_sets_share_are_known_by_their_files(tmp_path, fill, png, noise, write_parquet):
    root = fill(tmp_path / "mine", "a.png", "b.png")
    write_parquet(tmp_path / "shards" / "a.parquet", [png(noise(1)), png(noise(7)), None], pa.array([0, 1, 2]))
    in_folder, in_shards = of(root).digests, of(tmp_path / "shards").digests
    assert in_folder[1] == in_shards[0]
    assert len({*in_folder.tolist(), *in_shards.tolist()}) == 4
    assert in_shards[2] == b""
    assert len(set(find("digits", "test", None).digests.tolist())) == 797
