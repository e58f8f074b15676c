"""From images to stored features: shrunk where they are decoded, decoded once, and what the marker says of it."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.jobs.encoding import Encode
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store
from datasets.folder import FolderSet
from methods.encoders.images import preprocessing

SIZES = ((90, 70), (32, 32), (20, 50), (300, 20))


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(16):
        pixels = random.integers(256, size=(*SIZES[number % 4], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02}.png")
    return FolderSet("toy", "test", tmp_path / "images", title="Toy")


def encoded(use, images, store):
    job = Encode(use, Selection(images))
    job.run(Worker(store, device="cpu"))
    return store.arrays("encode", job.key, {"pixels"})["pixels"], store.meta("encode", job.key)


def test_stored_pixels_are_those_of_the_whole_images(images, tmp_path):
    pixels, meta = encoded(EncoderUse("p", "pixels", {"resolution": 24}, title=""), images, Store(tmp_path / "cache"))
    whole = [torch.from_numpy(image) for image in images.read(range(16))]
    assert np.array_equal(pixels, preprocessing.to_size(whole, 24, "cpu"))
    assert [line.split()[0] for line in meta["decoders"]] == ["torchvision"]


def test_at_the_id_sets_size_every_encoder_sees_the_same(images, tmp_path):
    """First to 28 x 28, whatever comes after; each step in uint8."""
    use = EncoderUse("p", "pixels", {"resolution": 20}, title="", match=28)
    pixels, _ = encoded(use, images, Store(tmp_path / "cache"))
    whole = [torch.from_numpy(image) for image in images.read(range(16))]
    assert np.array_equal(pixels, preprocessing.to_size(preprocessing.to_size(whole, 28, "cpu"), 20, "cpu"))
    assert [step.size for step in use.shrinking] == [28, 20]


def test_the_second_encoder_of_a_run_does_not_decode_again(images, tmp_path):
    store = Store(tmp_path / "cache")
    with patch.object(images, "each", wraps=images.each) as read:
        for size in (24, 40):
            encoded(EncoderUse(str(size), "pixels", {"resolution": size}, title=""), images, store)
    assert sum(len(call.args[0]) for call in read.call_args_list) == 16


def test_how_images_are_shrunk_is_in_the_key(images, monkeypatch):
    def key():
        return Encode(EncoderUse("p", "pixels", {"resolution": 24}, title=""), Selection(images)).key

    before = key()
    assert key() == before
    monkeypatch.setattr(
        preprocessing, "to_id_size", lambda size: preprocessing.Shrinking(size, "bilinear", always=True)
    )
    assert key() != before


def test_what_reads_features_has_the_transform_of_what_it_stands_on():
    base = EncoderUse("net", "classifier", {"resolution": 32}, title="")
    probe = EncoderUse("probe", "probe", {"base": "net"}, title="", base=base)
    assert probe.transform == base.transform
    assert probe.shrinking == base.shrinking
    assert base.transform == "shrunk in uint8 where they are decoded"
    (shrinking,) = probe.shrinking
    assert (shrinking.size, shrinking.mode, shrinking.crop) == (32, "bilinear", True)
