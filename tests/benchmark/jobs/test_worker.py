"""Which networks a process keeps open, and what becomes of those that do not fit into memory."""

from unittest.mock import patch

import pytest
import torch

from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store
from methods.encoders import registry


def test_an_encoder_stays_open_with_what_it_stands_on_and_no_other(tmp_path):
    worker = Worker(Store(tmp_path), device="cpu", batch_size=8)
    base = EncoderUse("net", "pixels", {}, title="Net")
    probe = EncoderUse("probe", "probe", {"base": "net"}, title="Probe", base=base)
    with patch.object(registry, "create", wraps=registry.create) as created:
        for _ in range(3):
            worker.open(base)
            worker.open(probe)
        assert created.call_count == 2
        worker.open(EncoderUse("other", "pixels", {}, title="Other"))
        worker.open(base)
        assert created.call_count == 4


class Crowded:
    """An encoder whose device holds `fits` images at once, or not even the network."""

    def __init__(self, fits):
        self.fits, self.memory_format, self.resolution, self.reruns = fits, None, 2, False

    def open(self, weights, *, device, precision):
        if self.fits < 0:
            raise RuntimeError("CUDA error: out of memory")
        return self

    def encode(self, images):
        if len(images) > self.fits:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return {"embedding": images.float().mean((1, 2))}


@pytest.fixture
def crowded(tmp_path, monkeypatch, capsys):
    """A worker, and uses of three encoders: one that fits little, one that fits not at all, one that fits all."""
    fits = {"little": 3, "none": 0, "network": -1, "all": 99}
    monkeypatch.setattr(registry, "create", lambda kind, **settings: Crowded(fits[kind]))
    return Worker(Store(tmp_path), device="cpu", batch_size=8), {k: EncoderUse(k, k, {}, title=k) for k in fits}


IMAGES = torch.arange(8 * 2 * 2 * 3, dtype=torch.uint8).view(8, 2, 2, 3)


def test_a_batch_is_halved_for_the_encoder_that_needs_it(crowded, capsys):
    worker, uses = crowded
    found = worker.encode(uses["little"], IMAGES)["embedding"]
    assert torch.equal(found, worker.encode(uses["all"], IMAGES)["embedding"])
    assert capsys.readouterr().err.splitlines() == [
        f"note: out of memory on cpu: little goes on with a batch size of {size}" for size in (4, 2)
    ]
    assert worker.batch_size == 8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "none: not enough memory on cpu for one image: --device cpu"),
        ("network", "network: the network does not fit into the memory of cpu: --device cpu"),
    ],
)
def test_what_does_not_fit_fails_alone(crowded, name, said):
    worker, uses = crowded
    with pytest.raises(RuntimeError, match=f"^{said}$"):
        worker.encode(uses[name], IMAGES)
    with patch.object(Crowded, "encode", autospec=True, side_effect=Crowded.encode) as encode:
        worker.encode(uses["all"], IMAGES)
    assert [len(call.args[1]) for call in encode.call_args_list] == [8]
