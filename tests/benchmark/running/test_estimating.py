"""What `--plan` says of a run before it: images, bytes, seconds, and the wall time by the schedule."""

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest

from benchmark.jobs.encoding import Encode
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.records.costs import costs, network, row
from benchmark.running import estimating
from benchmark.running.estimating import estimate, wall
from benchmark.store.entries import Store
from datasets import catalogue
from datasets.counted import CountedSet
from tests.benchmark.planning.test_encoders import save


@dataclass(frozen=True)
class Step:
    key: str
    seconds: float
    needs: tuple["Step", ...] = ()


SHARDS = tuple(Step(f"shard {number}", 10.0) for number in range(4))
TRAIN, TEST = Step("train", 0.0, SHARDS), Step("test", 6.0)
SCORE = Step("score", 2.0, (Step("fit", 5.0, (TRAIN,)), TEST))


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        (1, 4 * 10 + 5 + 6 + 2),
        (2, 2 * 10 + 6 + 2),  # the fit beside the test set, which takes longer
        (3, 2 * 10 + 5 + 2),  # shards: 3, then 1, and the test set beside it
        (8, 10 + 5 + 2),
        (64, 10 + 5 + 2),
    ],
)
def test_wall_times_are_those_of_a_hand(workers, seconds):
    assert wall([SCORE], lambda job: False, lambda job: job.seconds, workers) == seconds


def test_what_is_done_takes_no_time():
    assert wall([SCORE], lambda job: job.key in ("fit", "test"), lambda job: job.seconds, 1) == 2
    assert wall([SCORE], lambda job: job.key == "score", lambda job: job.seconds, 8) == 0


ENCODER = {"kind": "net"}
RECORD = {
    "kind": "result",
    "status": "done",
    "method": "knn",
    "hyperparameters": {"k": 5, "layers": [1]},
    "id": {"n": 100},
    "ood": {"n": 300},
    "train": {"n": 50},
    "depends": {"encoder": ENCODER},
    "provenance": {
        "date": "2026-01-01",
        "seconds": {"encode_id": 20.0, "fit": 5.0, "score_id": 1.0, "score_ood": 7.0, "measure": 0.5},
        "bytes": {"encode_id": 6400, "fit": 1000},
    },
}
SPEED = {
    "kind": "speed",
    "status": "done",
    "depends": {"encoder": ENCODER},
    "speeds": {"end_to_end": {"images_per_second": 8.0}},
    "seconds": 3.0,
    "provenance": {"date": "2026-01-02"},
}


def test_records_tell_seconds_and_bytes_an_image():
    known = costs([RECORD], lambda record: True)
    of_row = row("knn", {"layers": (1,), "k": 5}, ENCODER)
    assert known.encode == {network(ENCODER): 0.2}
    assert known.fit == {of_row: 0.1}
    assert known.score == {of_row: 0.02}
    assert (known.measure, known.timing) == (0.5, None)
    assert known.features == {network(ENCODER): 64}
    assert known.fitted == {(of_row, 50): 1000}
    timed = costs([SPEED, RECORD], lambda record: True)
    assert timed.encode == {network(ENCODER): 1 / 8}
    assert timed.timing == 3


def test_bytes_are_the_same_on_another_machine_and_seconds_are_not():
    known = costs([RECORD, SPEED], lambda record: False)
    assert (known.encode, known.fit, known.score, known.measure, known.timing) == ({}, {}, {}, None, None)
    assert known.features
    assert known.fitted


def planned(trial, cache, **more):
    options = Options(trial.folder, trial.folder, trial.results, trial.folder / cache, speed=False, **more)
    return planner.make(suite.read(str(trial.suite)), options, download=False), Worker(
        Store(options.cache), device="cpu"
    )


def test_the_seconds_of_a_run_are_foretold_by_the_records_of_another(trial):
    """Of a smaller run with nothing in the cache: each job by what it took then, an image."""
    trial.write(rows=[{"method": "lowlevel", "encoder": "pixels"}, {"method": "random", "encoder": "pixels"}])
    assert trial.run() == 0
    found = estimate(*planned(trial, "another cache", limit=20, limit_train=60))
    assert found.missing == found.jobs
    assert not found.measured
    store = Store(trial.results / ".cache")
    (fit,) = [job for job in found.jobs if isinstance(job, FitMethod) and job.method == "lowlevel"]
    (train,) = fit.train
    score = next(job for job in found.jobs if isinstance(job, Score) and job.method == "lowlevel")
    assert found.bytes[fit.key] == store.size("fit", fit.key)
    assert found.bytes[train.key] == pytest.approx(store.size("encode", train.key), rel=0.1)  # of other counts
    path = trial.results / "mini+limit=30+limit-train=60" / "records" / "lowlevel@pixels" / "letters.seed0.json"
    taken = json.loads(path.read_text())["provenance"]["seconds"]
    assert found.seconds[fit.key] == pytest.approx(taken["fit"])
    assert found.seconds[train.key] == pytest.approx(taken["encode_id"] * 60 / 30)
    assert found.seconds[score.key] == pytest.approx((taken["score_id"] + taken["score_ood"]) * 20 / 60)
    assert all(found.seconds[job.key] > 0 for job in found.jobs if isinstance(job, Measure))


def test_what_nothing_needs_any_more_takes_no_time(trial):
    """The cache is gone, the records are there."""
    trial.write(rows=[{"method": "random", "encoder": "pixels"}])
    assert trial.run() == 0
    before = planned(trial, "another cache", limit=30, limit_train=60)
    assert estimate(*before).missing == ()
    assert "to encode" not in estimating.describe(*before)


def test_without_records_encoders_are_timed_and_other_seconds_are_unknown(trial):
    trial.write(rows=[{"method": "lowlevel", "encoder": "pixels"}, {"method": "msp", "encoder": "net"}])
    found = estimate(*planned(trial, "cache", limit=30, limit_train=60))
    assert found.measured == ("pixels",)  # the other is not trained yet
    for job in found.jobs:
        told = isinstance(job, Encode) and job.use.name == "pixels"
        assert (found.seconds[job.key] is not None) == told
        if told:
            assert found.bytes[job.key] == len(job.images.rows) * (32 * 32 * 3 + 16)


def test_an_encoder_of_several_files_is_timed_once(trial, monkeypatch):
    timed = []
    monkeypatch.setattr(estimating, "_timed", lambda _, use, images: timed.append(use.name) or {use: (0.5, 8.0)})
    for seed in (0, 1, 2):
        save(trial.folder / "weights" / f"net_s{seed}.safetensors", seed=seed)
    net = {"kind": "classifier", "settings": {"architecture": "resnet8", "checkpoint": "net_s{seed}"}}
    trial.write(encoders={"net": net}, rows=[{"method": "msp", "encoder": "net"}], seeds=[0, 1, 2])
    folders = {"data": trial.folder, "weights": trial.folder / "weights", "results": trial.results}
    options = Options(**folders, cache=trial.folder / "cache", limit=30, speed=False)
    plan = planner.make(suite.read(str(trial.suite)), options, download=False)
    found = estimate(plan, Worker(Store(options.cache), device="cpu"))
    passes = [job for job in found.jobs if isinstance(job, Encode)]
    assert {job.use.seed for job in passes} == {0, 1, 2}
    assert timed == ["net"]
    assert all(found.seconds[job.key] == 0.5 * len(job.images.rows) for job in passes)


def test_images_that_are_not_here_are_planned_as_the_catalogue_counts_them(trial, capsys):
    trial.write(
        id={"set": "imagenet"},
        ood=[{"set": "sun", "group": "far"}],
        encoders={"pixels": {"kind": "pixels", "settings": {"resolution": 32}}},
        rows=[{"method": "lowlevel", "encoder": "pixels"}],
    )
    assert trial.run("--plan", small=False) == 0
    out, error = capsys.readouterr()
    assert "planned as the catalogue counts its images" in error
    assert f"to encode: {1_281_167 + 50_000 + 10_000:,} images in {66 + 3 + 1} jobs" in out
    size = (1_281_167 + 50_000 + 10_000) * (32 * 32 * 3 + 16) / 2**30
    assert f"features {size:.1f} GiB" in out
    assert re.search(r"at least, on so many workers: 1: .*, 2: .*, 8: .*, 64: ", out)
    assert trial.run(small=False) == 1  # a run has to have them
    assert "imagenet is not here" in capsys.readouterr().err


def test_sets_of_a_protocol_are_planned_as_its_lists_count_them(trial, capsys):
    """5,000 of ImageNet's validation images calibrate and 45,000 are the test: no split of the catalogue's."""
    trial.write(
        protocol="imagenet",
        id={"set": "imagenet"},
        ood=[{"set": "ssb_hard", "group": "near"}, {"set": "ninco", "group": "near"}],
        encoders={"pixels": {"kind": "pixels", "settings": {"resolution": 32}}},
        rows=[{"method": "lowlevel", "encoder": "pixels"}],
    )
    assert trial.run("--plan", small=False) == 0
    out, _ = capsys.readouterr()
    assert f"to encode: {1_281_167 + 45_000 + 49_000 + 5_879:,} images in " in out


def test_a_counted_set_is_what_its_entry_says_and_no_set_that_is_here():
    entry = catalogue.get("imagenet")
    images = CountedSet(entry, "test")
    assert len(images) == 50_000
    assert (np.bincount(images.labels) == 50).all()
    assert [image.shape for image in images.read([0, 1])] == [(256, 256, 3)] * 2
    assert images.fingerprint != CountedSet(entry, "train").fingerprint
    assert CountedSet(catalogue.get("cifar10"), "test").read([0])[0].shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, ""), (0.0312, "0.031 s"), (42.4, "42 s"), (900, "15 min"), (90_000, "25.0 h")]
)
def test_times_are_short(seconds, words):
    assert estimating._short(seconds) == words
