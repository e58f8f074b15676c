"""What each kind of job takes of a machine."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmark.jobs.encoding import Encode, TrainEncoder
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from benchmark.jobs.timing import MeasureSpeed
from benchmark.planning import folder_suite, planner
from benchmark.planning.options import Options
from benchmark.running import checking
from benchmark.running.capacity import Node
from benchmark.running.resources import BASE_BYTES, FIT_COPIES, Needs, needs
from benchmark.store.entries import Store

ON_GPUS = {"cpus": 4, "whole": 64, "gpus": 1.0}


@pytest.fixture(scope="module")
def jobs(measured):
    """Every job of the trial suite by its kind, and the store where all of it lies."""
    where = {name: measured.folder / name for name in ("data", "weights", "results")}
    options = Options(**where, cache=measured.results / ".cache", limit=30, limit_train=60)
    found = {}
    for job in planner.make(folder_suite.asked(str(measured.suite)), options, download=False).jobs():
        found.setdefault(type(job), []).append(job)
    return found, Store(measured.results / ".cache")


def test_what_runs_a_network_takes_a_gpu_and_may_share_it(jobs):
    found, store = jobs
    (training,) = found[TrainEncoder]
    encode, score = found[Encode][0], found[Score][0]
    assert needs(encode, store, **ON_GPUS) == Needs(4, 1.0, BASE_BYTES)
    assert needs(encode, store, **ON_GPUS, share=4) == Needs(4, 0.25, BASE_BYTES)
    assert needs(score, store, **ON_GPUS, share=4) == Needs(4, 1.0, BASE_BYTES)
    # 60 images of 32 x 32 pixels, three bytes each
    assert needs(training, store, **ON_GPUS, share=4) == Needs(4, 1.0, BASE_BYTES + 60 * 32 * 32 * 3)
    assert needs(found[Measure][0], store, **ON_GPUS) == Needs(4, 0, BASE_BYTES)


def test_a_measured_speed_takes_a_machine_for_itself(jobs):
    found, store = jobs
    (speed, *_) = found[MeasureSpeed]
    assert needs(speed, store, **ON_GPUS) == Needs(64, 1.0, BASE_BYTES)
    assert needs(speed, store, cpus=1, whole=64, gpus=0) == Needs(64, 0, BASE_BYTES)


def test_a_fit_takes_what_it_learns_from_twice(jobs):
    found, store = jobs
    knn = next(fit for fit in found[FitMethod] if fit.method == "knn")
    # 60 embeddings of 64 numbers of four bytes, and labels of eight
    learned_from = 60 * (64 * 4 + 8)
    assert needs(knn, store, cpus=1, whole=2, gpus=0) == Needs(1, 0, BASE_BYTES + FIT_COPIES * learned_from)
    elsewhere = Store(store.root / "empty")
    assert needs(knn, elsewhere, cpus=1, whole=2, gpus=0) == Needs(1, 0, BASE_BYTES)


def test_what_only_joins_shards_takes_no_gpu_but_each_shard_does(jobs):
    found, store = jobs
    whole = found[Encode][0]
    joining = Encode(whole.use, replace(whole.images, shard=len(whole.images.rows) // 2))
    assert joining.needs
    assert needs(joining, store, **ON_GPUS) == Needs(4, 0, BASE_BYTES)
    for shard in joining.needs:
        assert needs(shard, store, **ON_GPUS) == Needs(4, 1.0, BASE_BYTES)


def test_what_no_node_has_the_memory_for_is_foreseen(jobs):
    found, store = jobs
    said = []
    worker = SimpleNamespace(store=Store(store.root / "empty"), say=said.append)
    nodes = (Node("a", "alpha", 4, 0, 2 << 30),)

    def takes(job):
        return Needs(1, 0, (4 << 30) if isinstance(job, FitMethod) and job.method == "knn" else BASE_BYTES)

    checking.foresee(found[Measure] * 2, worker, takes, nodes)
    assert said == ["note: fit knn on net will fail: it takes 4.0 GiB, no node has more than 2.0 GiB"]
    said.clear()
    checking.foresee(found[Measure], SimpleNamespace(store=store, say=said.append), takes, nodes)
    assert said == []  # it is done
