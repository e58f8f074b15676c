import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from datasets import drawing, embedded
from datasets.drawing import count_ink
from datasets.embedded import enlarge
from datasets.sources import find

ROOT = Path(__file__).parents[2]
OOD = ("letters", "halves", "scans", "shuffled")


def pixels(name, split="test"):
    found = find(name, split, None)
    return np.stack(found.read(range(len(found))))


def counts(name, split="test"):
    """Back from images to ink counts, (N, 8, 8)."""
    return np.rint(pixels(name, split)[:, ::4, ::4, 0] * (16.0 / 255)).astype(int)


def test_the_ink_of_a_bitmap():
    bitmap = np.zeros((1, 32, 32), dtype=bool)
    bitmap[0, :4, 4:8] = True  # a whole block
    bitmap[0, 31, 28:] = True  # the last row of the last block
    expected = np.zeros((8, 8), dtype=int)
    expected[0, 1], expected[7, 7] = 16, 4
    assert np.array_equal(count_ink(bitmap)[0], expected)
    image = enlarge(count_ink(bitmap))[0]
    assert image.shape == (32, 32, 3)
    assert (image[:4, 4:8] == 255).all()
    assert (image[28:, 28:] == 64).all()  # 4 / 16 of 255 is 63.75
    assert image.sum() == 3 * (16 * 255 + 16 * 64)


def test_the_digits_are_scikit_learns():
    digits = load_digits()
    there = {
        (tuple(image.ravel().astype(int)), label) for image, label in zip(digits.images, digits.target, strict=True)
    }
    split = {}
    for name, size in (("train", 1000), ("test", 797)):
        found = find("digits", name, None)
        assert len(found) == size
        assert found.classes == tuple("0123456789")
        split[name] = {
            (tuple(image.ravel()), label) for image, label in zip(counts("digits", name), found.labels, strict=True)
        }
        share = np.bincount(found.labels) / size
        assert np.abs(share - np.bincount(digits.target) / 1797).max() < 0.001  # stratified
    assert split["train"] | split["test"] == there
    assert not split["train"] & split["test"]


@pytest.mark.parametrize("name", ["digits", *OOD])
def test_images_are_grey_blocks_of_seventeen_levels(name):
    images = pixels(name)
    assert images.shape[1:] == (32, 32, 3)
    assert images.dtype == np.uint8
    assert (images == images[..., :1]).all()
    assert (images == images[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)).all()
    assert set(np.unique(images)) <= {round(ink * 255 / 16) for ink in range(17)}
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 0.98 * len(images)


@pytest.mark.parametrize("name", OOD)
def test_brightness_does_not_give_a_set_away(name):
    inside, outside = counts("digits").sum(axis=(1, 2)), counts(name).sum(axis=(1, 2))
    truth = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    assert abs(roc_auc_score(truth, np.r_[inside, outside]) - 0.5) < 0.05
    # nor does its spread: the distance to the digits' median ink
    far = np.abs(np.r_[inside, outside] - np.median(inside))
    assert abs(roc_auc_score(truth, far) - 0.5) < 0.15


def test_halves_are_the_top_of_one_digit_on_the_bottom_of_another():
    digits, labels, halves = counts("digits"), find("digits", "test", None).labels, counts("halves")
    assert np.array_equal(halves[:, :4], digits[:, :4])  # each once as a top, in order
    bottoms = sorted(map(bytes, digits[:, 4:].astype(np.uint8)))
    assert sorted(map(bytes, halves[:, 4:].astype(np.uint8))) == bottoms  # and once as a bottom
    of_class = {}
    for image, label in zip(digits[:, 4:], labels, strict=True):
        of_class.setdefault(bytes(image.astype(np.uint8)), set()).add(label)
    assert all(
        of_class[bytes(image.astype(np.uint8))] - {label} for image, label in zip(halves[:, 4:], labels, strict=True)
    )


def test_shuffled_digits_have_the_values_of_the_digits():
    digits, shuffled = counts("digits").reshape(-1, 64), counts("shuffled").reshape(-1, 64)
    assert np.array_equal(np.sort(digits), np.sort(shuffled))
    assert (digits != shuffled).any(axis=1).all()
    # an order of its own each: no place keeps its mean, as it would if all were shuffled alike
    assert digits.mean(axis=0).std() > 3
    assert shuffled.mean(axis=0).std() < 0.5


def test_a_threshold_takes_the_darkest_pixels():
    darkness = np.arange(1024.0).reshape(1, 32, 32)
    bitmap = drawing._most_ink(darkness, np.array([300]), np.random.default_rng(0))
    assert bitmap.sum() == 300
    assert darkness[bitmap].min() == 1024 - 300
    flat = drawing._most_ink(np.zeros((1, 32, 32)), np.array([512]), np.random.default_rng(0))
    assert flat.sum() == 512
    assert 200 < flat[0, :16].sum() < 312  # ties are drawn, not taken from the top


def test_letters_look_like_their_letter():
    """The nearest mean of one half of the letters names the other half: noise would be right once in ten."""
    found = find("letters", "test", None)
    assert found.classes == tuple("ABCDEFGHIJ")
    images, labels = counts("letters").reshape(-1, 64), found.labels
    assert np.bincount(labels).tolist() == [80] * 10
    means = np.stack([images[:400][labels[:400] == label].mean(axis=0) for label in range(10)])
    guessed = ((images[400:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (guessed == labels[400:]).mean() > 0.8


def test_what_is_shipped_is_what_is_drawn():
    """Digits to the value; elsewhere other versions of numpy's streams, of FreeType and of JPEG move an edge."""
    with np.load(embedded.COUNTS) as file:
        shipped = {name: file[name] for name in file.files}
    drawn = drawing.draw()
    assert drawn.keys() == shipped.keys()
    for name, values in drawn.items():
        assert values.shape == shipped[name].shape
        assert values.dtype == shipped[name].dtype
        if name.startswith("digits") or name.endswith("labels"):
            assert np.array_equal(values, shipped[name])
        elif name.startswith(("letters", "scans")):
            assert np.abs(values.astype(float) - shipped[name]).mean() < 0.5


def test_every_set_has_images_of_its_own():
    found = [find(name, "test", None) for name in ("digits", *OOD)]
    assert len({images.fingerprint for images in found}) == len(found)
    labelled = {images.name for images in found if (images.labels >= 0).any()}
    assert labelled == {"digits", "letters"}


def test_the_digits_are_read_without_the_libraries_that_drew_them():
    code = (
        "import sys; from datasets.sources import find;"
        "assert len(find('letters', 'test', None).fingerprint) == 64;"
        "print({'sklearn', 'scipy', 'matplotlib', 'pandas', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


def test_train_and_test_have_fingerprints_of_their_own():
    assert find("digits", "train", None).fingerprint != find("digits", "test", None).fingerprint


def test_what_is_read_can_be_changed_without_harm():
    found = find("digits", "test", None)
    image = found.read([0])[0]
    image[:] = 7
    assert not (found.read([0])[0] == 7).all()
