"""OpenOOD's download as a source: what its lists name is what a set has."""

import hashlib
import os

import numpy as np
import pytest

from datasets import catalogue, openood
from datasets.images import Missing
from datasets.listed import read_list
from datasets.sources import find, present

CLASSES = ("airplane", "automobile")


def write_list(data, name, lines):
    path = data / "benchmark_imglist" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def download(tmp_path, fill):
    """A download with CIFAR-10 (4 train, 5 test images of two classes), textures and some lists."""
    classic = tmp_path / "images_classic"
    names = [f"cifar10/{split}/{name}/{n:04}.png" for split in ("train", "test") for name in CLASSES for n in (1, 2)]
    fill(classic, *names, "cifar10/test/automobile/0003.png", "texture/banded/b1.png", "texture/dotted/d1.png")
    write_list(tmp_path, "cifar10/train_cifar10.txt", [f"{name} {'auto' in name:d}" for name in names[:4]])
    write_list(tmp_path, "cifar10/val_cifar10.txt", ["cifar10/test/automobile/0003.png 1"])
    listed = [
        "cifar10/test/automobile/0001.png 1",
        "cifar10/test/airplane/0002.png 0",
        "cifar10/test/airplane/0001.png 0",
    ]
    write_list(tmp_path, "cifar10/test_cifar10.txt", listed)
    write_list(tmp_path, "cifar10/test_texture.txt", ["texture/dotted/d1.png -1"])
    return tmp_path


def test_a_list_says_which_images_a_set_has_and_their_labels(download):
    test = find("cifar10", "test", download, protocol="cifar10")
    assert [name for name, _, _ in test.content()] == [
        "cifar10/test/airplane/0001.png",
        "cifar10/test/airplane/0002.png",
        "cifar10/test/automobile/0001.png",
    ]
    assert test.labels.tolist() == [0, 0, 1]
    assert test.classes == catalogue.get("cifar10").class_names
    assert len(find("cifar10", "calibration", download, protocol="cifar10")) == 1
    assert len(find("cifar10", "train", download, protocol="cifar10")) == 4
    textures = find("textures", "test", download, protocol="cifar10")
    assert textures.labels.tolist() == [-1]
    assert textures.content()[0][0] == "texture/dotted/d1.png"


def test_its_images_are_those_of_the_files(download, noise):
    test = find("cifar10", "test", download, protocol="cifar10")
    np.testing.assert_array_equal(test.read([2])[0], noise(6))  # the seventh name that was written


def test_a_list_that_is_not_of_version_15_is_told(download, monkeypatch):
    (note,) = find("cifar10", "test", download, protocol="cifar10").notes
    assert note == "3 images in its list; OpenOOD v1.5's cifar10/test_cifar10.txt has 9,000"
    names = ["airplane/0001.png", "airplane/0002.png", "automobile/0001.png"]
    right = hashlib.sha256("\n".join(names).encode()).hexdigest()
    for sha256, told in (
        (right, ()),
        ("0" * 64, ("its list does not name the images of OpenOOD v1.5's cifar10/test_cifar10.txt",)),
    ):
        known = dict(openood.known())
        known["cifar10", "cifar10", "test"] = openood.Known("cifar10/test_cifar10.txt", 3, sha256)
        with monkeypatch.context() as patch:
            patch.setattr(openood, "known", lambda known=known: known)
            assert find("cifar10", "test", download, protocol="cifar10").notes == told


def test_an_image_that_is_not_there_stops_the_set(download):
    (download / "images_classic/cifar10/test/airplane/0002.png").unlink()
    with pytest.raises(
        ValueError, match=r"1 of the 3 images that \S+/test_cifar10.txt names .* is cifar10/test/airplane/0002.png"
    ):
        find("cifar10", "test", download, protocol="cifar10")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "../../etc/passwd.png 0",
            r"line 2 names a file outside of the folder of images \('../../etc/passwd.png'\)",
        ),
        ("cifar10/../../x.png 0", r"outside of the folder"),
        ("/etc/passwd.png 0", r"outside of the folder"),
        ("cifar10/test/airplane/0001.png", r"line 2: .* is no path and label"),
        ("cifar10/test/airplane/0001.png x", r"is no path and label"),
        ("cifar10/test/airplane/0001.png -2", r"is no path and label"),
        ("cifar10/test/airplane/0002.png 1", r"another label than a line before"),
    ],
)
def test_a_list_that_cannot_be(download, line, message):
    write_list(download, "cifar10/test_cifar10.txt", ["cifar10/test/airplane/0002.png 0", line])
    with pytest.raises(ValueError, match=message) as told:
        find("cifar10", "test", download, protocol="cifar10")
    assert "\n" not in str(told.value)


def test_a_list_of_nothing_and_one_that_is_no_text(download):
    for content, message in ((b"\n\n", "names no images"), (b"\xff\xfe\x00", "no UTF-8 text")):
        (download / "benchmark_imglist/cifar10/test_cifar10.txt").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            find("cifar10", "test", download, protocol="cifar10")


def test_a_line_that_stands_twice_counts_once(download):
    write_list(download, "cifar10/test_texture.txt", ["texture/dotted/d1.png -1"] * 3)
    found = find("textures", "test", download, protocol="cifar10")
    assert len(found) == 1
    assert "2 lines of its list name an image again: each counts once" in found.notes


def test_a_label_beyond_the_classes_is_no_label(download):
    write_list(download, "cifar10/test_cifar10.txt", ["cifar10/test/airplane/0002.png 10"])
    found = find("cifar10", "test", download, protocol="cifar10")
    assert "10" in found.fault
    assert found.labels.tolist() == [-1]


def test_both_layouts_may_be_mixed(download, fill, noise, png, write_parquet):
    fill(download, "svhn/test/a.png", "svhn/test/b.png")
    write_parquet(download / "tiny_imagenet" / "test.parquet", [png(noise(n)) for n in range(3)], [0, 1, 1])
    assert len(find("svhn", "test", download, protocol="cifar10")) == 2
    found = find("tiny_imagenet", "test", download, protocol="cifar10")
    assert len(found) == 3
    assert "not by OpenOOD's list, which has 7,793 images" in found.notes
    assert len(find("cifar10", "test", download, protocol="cifar10")) == 3


def test_outside_of_the_protocol_a_set_of_the_download_is_whole(download):
    assert len(find("cifar10", "test", download)) == 4
    assert find("cifar10", "test", download).labels.tolist() == [0, 0, 1, 1]
    assert len(find("textures", "test", download)) == 2
    assert present("textures", download)
    assert present("cifar10", download, "train")
    assert not present("svhn", download)
    (download / "benchmark_imglist/cifar10/val_cifar10.txt").unlink()  # then by its folders
    assert len(find("cifar10", "test", download)) == 5


def test_without_lists_a_tenth_of_the_test_images_calibrates_and_the_others_test(tmp_path, fill):
    names = [f"{name}/{n}.png" for name in CLASSES for n in range(10)]
    fill(tmp_path / "cifar10" / "test", *names)
    fill(tmp_path / "cifar10" / "train", *names[5:15])
    test, calibration = (find("cifar10", split, tmp_path, protocol="cifar10") for split in ("test", "calibration"))
    assert (len(test), len(calibration)) == (18, 2)
    whole = find("cifar10", "test", tmp_path)
    assert not set(test.digests) & set(calibration.digests)
    assert {*test.digests, *calibration.digests} == set(whole.digests)
    assert "2 of the 20 images of its test split, drawn here: OpenOOD's cifar10/val_cifar10.txt is not there" in (
        calibration.notes
    )
    assert len({test.fingerprint, calibration.fingerprint, whole.fingerprint}) == 3
    assert calibration.split == "calibration"
    train = find("cifar10", "train", tmp_path, protocol="cifar10")
    assert train.fingerprint == find("cifar10", "train", tmp_path).fingerprint


def test_only_one_of_the_two_lists_of_an_id_set_is_none(download):
    (download / "benchmark_imglist/cifar10/val_cifar10.txt").unlink()
    test, calibration = (find("cifar10", split, download, protocol="cifar10") for split in ("test", "calibration"))
    assert not set(test.digests) & set(calibration.digests)
    assert any("drawn here" in note for note in test.notes)


def test_a_list_that_is_no_file_stops_its_set(download):
    path = download / "benchmark_imglist/cifar10/test_texture.txt"
    for put, told in (
        (lambda: path.mkdir(), "is a folder, not a regular file"),
        (lambda: path.symlink_to(download / "nowhere"), "No such file"),
        (lambda: os.mkfifo(path), "is a fifo, not a regular file"),
    ):
        path.rmdir() if path.is_dir() else path.unlink()
        put()
        with pytest.raises(ValueError, match=f"{told}.*test_texture.txt|test_texture.txt {told}"):
            find("textures", "test", download, protocol="cifar10")


def test_why_the_lists_do_not_say_which_images_a_set_has(download):
    """Told as it is: which list is absent, or that those that are there name folders that are not."""

    def notes(name="cifar10", split="test"):
        return find(name, split, download, protocol="cifar10").notes

    write_list(download, "cifar10/test_texture.txt", ["images_classic/texture/dotted/d1.png -1"])
    why = "cifar10/test_texture.txt is there, the folders that it names are not"
    assert f"not by OpenOOD's list, which has 5,640 images: {why}" in notes("textures")
    lists = download / "benchmark_imglist/cifar10"
    write_list(download, "cifar10/test_cifar10.txt", ["images_classic/cifar10/test/airplane/0001.png 0"])
    (note,) = (note for note in notes() if "drawn here" in note)
    assert note.endswith("the folders that OpenOOD's cifar10/test_cifar10.txt names are not there")
    (lists / "val_cifar10.txt").unlink()
    for split in ("test", "calibration"):  # of the two the one that is absent
        (note,) = (note for note in notes(split=split) if "drawn here" in note)
        assert note.endswith("OpenOOD's cifar10/val_cifar10.txt is not there")


def test_the_validation_set_is_read_by_its_list_alone(download, fill):
    fill(download / "images_classic", "tin/val/images/val_1.png", "tin/val/images/val_2.png")
    assert openood.validation_set("cifar10") == "tiny_imagenet"
    assert openood.validation_set("imagenet") == "openimage_o"
    with pytest.raises(Missing, match=r"named by benchmark_imglist/cifar10/val_tin.txt"):
        find("tiny_imagenet", "validation", download, protocol="cifar10")
    write_list(download, "cifar10/val_tin.txt", ["tin/val/images/val_2.png -1"])
    assert len(find("tiny_imagenet", "validation", download, protocol="cifar10")) == 1
    with pytest.raises(ValueError, match="has no split 'validation'"):
        find("tiny_imagenet", "validation", download)


def test_labels_of_shifted_images_are_places_among_the_classes_of_the_id_set(tmp_path, fill):
    fill(tmp_path / "images_largescale", "imagenet_r/n01443537/a.png", "imagenet_r/n01484850/b.png")
    lines = ["imagenet_r/n01443537/a.png 1", "imagenet_r/n01484850/b.png 2"]
    write_list(tmp_path, "imagenet/test_imagenet_r.txt", lines)
    found = find("imagenet_r", "test", tmp_path, protocol="imagenet")
    assert [found.classes[label] for label in found.labels] == ["n01443537", "n01484850"]


def test_imagenets_flat_validation_images_get_their_labels_from_the_lists(tmp_path, fill):
    fill(tmp_path / "images_largescale/imagenet_1k/val", "a.JPEG", "b.JPEG")
    assert find("imagenet", "test", tmp_path).labels.tolist() == [-1, -1]
    write_list(tmp_path, "imagenet/test_imagenet.txt", ["imagenet_1k/val/a.JPEG 65"])
    write_list(tmp_path, "imagenet/val_imagenet.txt", ["imagenet_1k/val/b.JPEG 370"])
    assert find("imagenet", "test", tmp_path).labels.tolist() == [65, 370]
    assert len(find("imagenet", "test", tmp_path, protocol="imagenet")) == 1


def test_what_is_known_of_the_lists():
    known = openood.known()
    assert openood.protocols() == ("cifar10", "cifar100", "imagenet200", "imagenet")
    assert all(name in catalogue.CATALOGUE for _, name, _ in known)
    for protocol in (
        "cifar10",
        "cifar100",
        "imagenet",
        "imagenet200",
    ):  # parts of the official test set
        parts = [known[protocol, protocol, split].images for split in ("calibration", "test")]
        assert sum(parts) == catalogue.get(protocol).splits["test"]
    assert (
        known["imagenet", "openimage_o", "validation"].images + known["imagenet", "openimage_o", "test"].images
        == 17_632
    )
    assert all(len(one.sha256) in (0, 64) for one in known.values())


def test_a_list_is_read_in_the_order_of_its_sorted_parts(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("b/1.png 1\r\n a b/2.png 0\n./a/1.png -1\n")
    found = read_list(path)
    assert found.names == ("a/1.png", "a b/2.png", "b/1.png")
    assert found.labels.tolist() == [-1, 0, 1]
