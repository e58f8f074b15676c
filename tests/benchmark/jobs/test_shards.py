"""A pass over many images is cut into shards: jobs and entries of their own, which whatever reads features sees as one.

And what is not cut is what it was.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.jobs import fitting, writing
from benchmark.jobs.encoding import Encode, encodes, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.inputs import SHARD, EncoderUse, Selection, calibrated, encode_key
from benchmark.jobs.worker import Worker
from benchmark.planning.suite import SUITES
from benchmark.running.base import carry
from benchmark.running.schedule import Schedule
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Store
from datasets.sources import find
from methods.vectors import sums

DIGITS = find("digits", "train", None)  # 1,000 images
PIXELS = EncoderUse("pixels", "pixels", {"resolution": 8}, title="Pixels")


class Many:
    """As many images as are said, of which nobody asks more."""

    split, fingerprint = "train", "f"

    def __init__(self, n):
        self.labels = np.zeros(n, dtype=np.int64)

    def __len__(self):
        return len(self.labels)


@pytest.mark.parametrize(
    ("n", "shard", "sizes"),
    [
        (20_000, SHARD, []),
        (20_001, SHARD, [10_240, 9_761]),
        (50_000, SHARD, [17_408, 17_408, 15_184]),
        (60_000, 1024, [1024] * 58 + [608]),
        (10, 4, [4, 4, 2]),
        (9, 4, [3, 3, 3]),
    ],
)
def test_shards_are_of_about_one_size_and_whole_pages_long(n, shard, sizes):
    shards = Selection(Many(n), shard=shard).shards
    assert [len(one.rows) for one in shards] == sizes
    assert all(len(rows) <= shard for rows in (one.rows for one in shards))
    if shards:
        np.testing.assert_array_equal(np.concatenate([one.rows for one in shards]), np.arange(n))
        assert all(one.shards == () for one in shards)


def test_what_a_set_is_does_not_depend_on_its_shards():
    train = calibrated(Selection(DIGITS, 700, balanced=True))
    cut = calibrated(Selection(DIGITS, 700, balanced=True, shard=300))
    assert len(cut.shards) == 3
    assert cut.identity == train.identity == cut.shards[1].identity
    assert encode_key(PIXELS, cut) == encode_key(PIXELS, train)
    np.testing.assert_array_equal(np.concatenate([shard.labels for shard in cut.shards]), train.labels)
    fits = [FitMethod("lowlevel", {}, 0, encodes(PIXELS, images)) for images in (train, cut)]
    assert fits[0].key == fits[1].key


def test_every_shard_has_a_key_of_its_own_which_covers_its_rows_and_what_it_stands_on():
    probe = EncoderUse("probe", "probe", {"base": "pixels"}, title="Probe", base=PIXELS, train=Selection(DIGITS))
    for use in (PIXELS, probe):
        found = [encode_key(use, one) for shard in (300, 400) for one in Selection(DIGITS, shard=shard).shards]
        assert len({*found, encode_key(use, Selection(DIGITS))}) == 4 + 3 + 1
    job = Encode(probe, Selection(DIGITS, shard=400)).shards[1]
    (base,) = [need for need in job.needs if isinstance(need, Encode)]
    assert base.images.span == (334, 668)  # one shard waits for one


def carried(job, store, order=lambda jobs: jobs):
    """What it takes to do a job, done. `order`: of the shards."""
    worker = Worker(store, device="cpu", batch_size=50)
    for one in order([*job.shards]):
        assert carry(one, worker).status == "done"
    assert carry(job, worker).status == "done"
    return worker.passes


@pytest.mark.parametrize(
    ("resolution", "shard", "whole_pages"),
    [(8, 300, 1), (32, 512, 2)],  # shards of 250 x 192 bytes: the first alone begins with a page; of 500 x 3,072
)
def test_shards_are_read_as_one(tmp_path, resolution, shard, whole_pages):
    use = EncoderUse("pixels", "pixels", {"resolution": resolution}, title="Pixels")
    whole, cut = (Encode(use, Selection(DIGITS, shard=most)) for most in (SHARD, shard))
    stores = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    assert carried(whole, stores[0]) == carried(cut, stores[1]) == {"pixels": 1000}
    one, other = (
        load_features((job,), store, ("pixels", "labels")) for job, store in zip((whole, cut), stores, strict=True)
    )
    for name in ("pixels", "labels", "index"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert stores[1].meta("encode", cut.key)["images"] == 1000
    assert Path("/proc/self/maps").read_text().count(f"{tmp_path}/cut/encode/") == whole_pages
    again = Store(tmp_path / "cut")  # another process
    assert cut.done(again)
    assert again.there("encode", cut.key)


def test_shards_are_the_same_files_in_whatever_order_they_are_made(tmp_path):
    job = Encode(PIXELS, Selection(DIGITS, shard=300))
    stores = Store(tmp_path / "serial"), Store(tmp_path / "parallel")
    carried(job, stores[0])
    carried(job, stores[1], order=reversed)
    for shard in job.shards:
        one, other = (store.folder("encode", shard.key) for store in stores)
        for path in one.glob("*.npy"):
            assert path.read_bytes() == (other / path.name).read_bytes()


def test_a_damaged_shard_alone_is_made_again(tmp_path):
    job = Encode(PIXELS, Selection(DIGITS, shard=300))
    carried(job, Store(tmp_path))
    shard = Store(tmp_path).folder("encode", job.shards[2].key) / "pixels.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    store = Store(tmp_path)
    assert not job.done(store)
    schedule, worker, given = Schedule([job], lambda one: one.done(store)), Worker(store, device="cpu"), []
    while (ready := schedule.next()) is not None:
        given.append(ready.job.title)
        schedule.end(carry(ready.job, worker))
    assert given == ["encode digits with pixels, images 501 to 750", "encode digits with pixels"]
    assert job.done(store)


class Killed(BaseException):
    pass


def test_who_dies_in_a_shard_loses_none_that_was_finished(tmp_path, monkeypatch):
    job, appended = Encode(PIXELS, Selection(DIGITS, shard=300)), []

    def append(self, arrays, before=ChunkWriter.append):
        appended.append(len(arrays["pixels"]))
        if sum(appended) > 600:
            raise Killed
        before(self, arrays)

    monkeypatch.setattr(writing, "CHUNK_IMAGES", 50)
    with monkeypatch.context() as until_then:
        until_then.setattr(ChunkWriter, "append", append)
        with pytest.raises(Killed):
            carried(job, Store(tmp_path))
    passes = carried(job, Store(tmp_path))["pixels"]
    assert passes == 1000 - (sum(appended) - appended[-1])  # two shards of 250, and the chunks of the third
    assert passes <= 1000 - 500
    assert job.done(Store(tmp_path))


def test_what_was_done_in_one_piece_is_taken(tmp_path):
    """Caches from before there were shards, and of those with a greater --shard."""
    store = Store(tmp_path)
    Encode(PIXELS, Selection(DIGITS)).run(Worker(store, device="cpu"))
    cut = Encode(PIXELS, Selection(DIGITS, shard=300))
    assert cut.done(store)
    assert Schedule([cut], lambda job: job.done(store)).next() is None


def test_the_head_is_kept_once(tmp_path):
    weights = SUITES / "digits_resnet8-b3b39c8d.safetensors"
    use = EncoderUse("net", "classifier", {"architecture": "resnet8"}, title="Net", weights=weights)
    store = Store(tmp_path)
    job = Encode(use, Selection(DIGITS, shard=500))
    carried(job, store)
    assert [bool(store.tensors("encode", shard.key)) for shard in job.shards] == [True, False]
    x = load_features((job,), store, ("embedding", "logits", "head"))
    assert x.head is not None
    np.testing.assert_allclose(x.head(x.embedding), x.logits, atol=1e-4)


def test_places_of_classes_reach_the_shards():
    images = replace(Selection(DIGITS, shard=300), places=tuple(range(9, -1, -1)))
    np.testing.assert_array_equal(np.concatenate([one.labels for one in images.shards]), 9 - DIGITS.labels)


SHARDED = ("--batch-size", "10", "--shard", "20")


def test_a_run_in_shards_measures_the_same(trial, counted):
    """Every kind of job that reads features: their batches are the same here, and so is every digit."""
    assert trial.run("--batch-size", "10") == 0
    whole = trial.records()
    trial.results = trial.folder / "sharded"
    before = counted["images Classifier"], counted["images Pixels"]
    assert trial.run(*SHARDED) == 0
    assert trial.records() == whole
    assert (counted["images Classifier"], counted["images Pixels"]) == (2 * before[0], 2 * before[1])


@pytest.mark.parametrize("apart", [False, True])
def test_a_fit_that_is_sums_is_the_same_to_the_bit_in_one_job_and_in_one_a_shard(tmp_path, monkeypatch, apart):
    train, store = encodes(PIXELS, Selection(DIGITS)), Store(tmp_path)
    monkeypatch.setattr(sums, "SHARD", 400)
    whole = FitMethod("lowlevel", {}, 0, train, apart=apart)
    assert whole.shards == ()  # 20,480 images in one
    for job in (*train, *whole.validation, whole):
        assert carry(job, Worker(store, device="cpu")).status == "done"
    expected = store.tensors("fit", whole.key)
    monkeypatch.setattr(fitting, "SHARD", 400)
    cut, parallel = FitMethod("lowlevel", {}, 0, train, apart=apart), Store(tmp_path / "parallel")
    shutil.copytree(tmp_path / "encode", tmp_path / "parallel" / "encode")
    n = 950 if apart else 1000  # without 5 % to calibrate on
    assert [shard.span for shard in cut.shards] == [(0, 400), (400, 800), (800, n)]
    assert cut.key == whole.key
    for job in (*reversed(cut.shards), cut):
        assert carry(job, Worker(parallel, device="cpu")).status == "done"
    found = parallel.tensors("fit", cut.key)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert torch.equal(values, expected[name])
    assert FitMethod("mahalanobis", {}, 0, train).shards == ()  # no sums: one job
