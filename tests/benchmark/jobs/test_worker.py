"""Which networks a process keeps open."""

from unittest.mock import patch

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
