"""How many images go through an encoder at once, and what a lack of memory leaves of that."""

from unittest.mock import patch

import pytest
import torch

from benchmark.jobs.batching import batch_size
from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store
from methods.encoders.pixels import Pixels


@pytest.mark.parametrize(
    ("asked", "device", "resolution", "expected"),
    [
        (None, "cpu", 32, 64),
        (None, "cpu", 224, 64),
        (None, "cuda", 224, 256),
        (None, "cuda:1", 32, 4096),
        (None, "cuda", 112, 1024),
        (None, "cuda", 448, 64),
        (None, "cuda", 4096, 1),
        (7, "cpu", 32, 7),
        (7, "cuda", 32, 7),
    ],
)
def test_the_batch_size(asked, device, resolution, expected):
    assert batch_size(asked, device, resolution) == expected


@pytest.mark.parametrize(
    ("asked", "device", "resolution", "expected"),
    [(None, "cpu", 32, 64), (None, "cpu", 224, 8), (None, "cpu", 260, 5), (None, "cpu", 4096, 1), (7, "cpu", 260, 7)],
)
def test_where_every_map_is_held_fewer_go_at_once_on_a_cpu(asked, device, resolution, expected):
    assert batch_size(asked, device, resolution, reruns=True) == expected


def test_the_pass_of_odin_is_such_a_one(tmp_path):
    worker = Worker(Store(tmp_path), device="cpu")
    plain = EncoderUse("net", "classifier", {"resolution": 224}, title="")
    moved = EncoderUse("net-odin", "perturbed", {"base": "net"}, title="", of=plain)
    assert (worker.batch_size_of(plain), worker.batch_size_of(moved)) == (64, 8)


def test_halves_are_of_the_encoder_that_needed_them(tmp_path, capsys):
    worker = Worker(Store(tmp_path), device="cpu")
    large, small = (EncoderUse(str(size), "pixels", {"resolution": size}, title="") for size in (8, 4))
    seen = []
    before = Pixels.encode

    def encode(self, images):
        if self.resolution == 8 and len(images) > 10:
            raise torch.OutOfMemoryError
        seen.append(len(images))
        return before(self, images)

    images = torch.zeros((64, 8, 8, 3), dtype=torch.uint8)
    with patch.object(Pixels, "encode", encode):
        assert len(worker.encode(large, images)["pixels"]) == 64
        assert seen == [8] * 8
        assert worker.batch_size_of(large) == 8
        assert worker.batch_size_of(small) == 64
        worker.encode(small, images)
    assert seen[8:] == [64]
    assert "8 goes on with a batch size of 8" in capsys.readouterr().err
