"""Encoders that are trained by the run: from a file's weights, and without labels."""

import contextlib
import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from benchmark.jobs import encoding
from benchmark.jobs.encoding import TrainEncoder
from benchmark.jobs.worker import Worker
from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.store.entries import Store
from methods.encoders.classifier import Classifier
from methods.encoders.networks import cifar
from methods.encoders.oal import OAL as Tuned

MODEL = "test_efficientnet.r160_in1k"
TUNED = {"kind": "finetuned", "settings": {"model": MODEL, "resolution": 32, "epochs": 1, "augment": "none"}}
CLASSIFIER = {"kind": "classifier", "settings": {"architecture": "resnet8", "epochs": 1, "augment": "none"}}
KNN = {"method": "knn", "encoder": "tuned", "settings": {"k": 5}}
SIMCLR = {
    "kind": "simclr",
    "settings": {"architecture": "resnet8", "resolution": 8, "epochs": 1, "warmup_epochs": 0, "augment": "digits"},
}


def save(folder, seed):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    network = timm.create_model(MODEL, pretrained=False)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 32, 32))
    save_file(network.state_dict(), folder / f"{MODEL}.safetensors")


def test_a_finetuned_encoder_is_trained_once_for_each_start(trial, counted, monkeypatch):
    weights = trial.folder / "weights"
    save(weights, seed=0)
    trial.write(encoders={"tuned": TUNED}, rows=[{"method": "msp", "encoder": "tuned"}])
    assert trial.run() == 0
    first = trial.records()
    assert {record["status"] for record in first.values()} == {"done"}
    assert {record["accuracy"] is not None for record in first.values()} == {True}
    assert counted["TrainEncoder"] == 1
    counted.clear()
    assert trial.run() == 0
    assert not counted
    save(weights, seed=1)  # the same name, other weights
    assert trial.run() == 0
    assert counted["TrainEncoder"] == 1
    assert trial.records() != first


def test_what_an_encoder_computes_around_its_training_is_strict(trial, monkeypatch):
    inside, asked = [], []

    @contextlib.contextmanager
    def switches(precision, device):
        asked.append((precision, str(device)))
        inside.append(precision)
        yield
        inside.pop()

    def fit(self, *given, **how):
        assert inside == ["32"]  # no training has set its own yet
        return self

    monkeypatch.setattr(encoding, "switches", switches)
    monkeypatch.setattr(Classifier, "fit", fit)
    monkeypatch.setattr(Classifier, "state", lambda self: {"weight": torch.zeros(1)})
    trial.write(encoders={"net": CLASSIFIER}, rows=[{"method": "msp", "encoder": "net"}])
    options = Options(trial.folder, trial.folder, trial.folder / "results", trial.folder / "cache", precision="bf16")
    planned = planner.make(suite.read(str(trial.suite)), options, download=False)
    (job,) = {job.key: job for job in planned.jobs() if isinstance(job, TrainEncoder)}.values()
    job.run(Worker(Store(trial.folder / "cache"), device="cpu"))
    assert asked == [("32", "cpu")]


def test_the_plan_says_how_to_get_an_absent_start(trial, capsys):
    trial.write(encoders={"tuned": TUNED}, rows=[{"method": "msp", "encoder": "tuned"}])
    assert trial.run("--plan") == 0  # nothing is looked for in a network
    assert f"WEIGHTS/{MODEL}.safetensors" in capsys.readouterr().out


def test_a_checkpoint_needs_neither_start_nor_training(trial, counted):
    weights = trial.folder / "weights"
    save(weights, seed=0)
    (weights / f"{MODEL}.safetensors").rename(weights / "mine.safetensors")
    spec = {**TUNED, "settings": {**TUNED["settings"], "checkpoint": "mine"}}
    trial.write(encoders={"tuned": spec}, rows=[KNN, {"method": "msp", "encoder": "tuned"}])
    assert trial.run() == 0
    assert counted["TrainEncoder"] == 0
    found = {(record["method"], record["status"], record["reason"]) for record in trial.records().values()}
    assert {(method, status) for method, status, _ in found} == {("knn", "done"), ("msp", "skipped")}
    (reason,) = {reason for method, _, reason in found if method == "msp"}
    assert "Digits (train) has 10 classes that are not among the 1000" in reason


def test_only_what_needs_labels_is_skipped_without_them(trial):
    from PIL import Image

    for split, count in (("train", 40), ("test", 12)):
        folder = trial.folder / "own" / split
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    encoders = {"net": {"kind": "classifier", "settings": {"architecture": "resnet8", "epochs": 1}}, "simclr": SIMCLR}
    rows = [{"method": "knn", "encoder": encoder, "settings": {"k": 5}} for encoder in encoders]
    trial.write(id={"set": "./own"}, encoders=encoders, rows=rows)
    assert trial.run() == 0
    statuses = {record["row"]: record["status"] for record in trial.records().values()}
    assert statuses == {"knn@net": "skipped", "knn@simclr": "done"}


NET = {"architecture": "resnet8", "resolution": 8, "epochs": 1, "augment": "none", "held_out": 0.1}
OAL = {
    "kind": "oal",
    "settings": {**NET, "base": "net", "tune_epochs": 1, "outliers": "none", "distil": False},
}
STACKED = {
    "net": {"kind": "classifier", "settings": NET},
    "ready": {"kind": "classifier", "settings": {"architecture": "resnet8", "checkpoint": "ready"}},
    "on-net": {"kind": "probe", "settings": {"base": "net"}},
    "on-ready": {"kind": "probe", "settings": {"base": "ready"}},
    "tuned": OAL,
    "tuned-ready": {**OAL, "settings": {**OAL["settings"], "base": "ready"}},
}


@pytest.fixture
def stacked(trial):
    """A trial of encoders on encoders: on one that is trained, `net`, and on one whose weights are there, `ready`."""
    torch.manual_seed(0)
    (trial.folder / "weights").mkdir()
    header = {"mean": json.dumps([0.1] * 3), "std": json.dumps([0.3] * 3)}
    save_file(cifar.build("resnet8", 10).state_dict(), trial.folder / "weights" / "ready.safetensors", header)
    trial.write(encoders=STACKED, rows=[{"method": "msp", "encoder": name} for name in STACKED])
    return trial


def planned(trial, *seeds):
    options = Options(trial.folder, trial.folder / "weights", trial.results, trial.folder / "cache", seeds=seeds)
    return planner.make(suite.read(str(trial.suite)), options, download=False)


def test_rows_on_an_encoder_that_is_trained_here_have_every_seed(stacked):
    made = planned(stacked, 0, 1)
    seeds = {}
    for row in made.rows:
        seeds.setdefault(row.spec.encoder, []).append(row.about["seed"])
        assert row.about["random_fit"] == (row.spec.encoder not in ("ready", "on-ready"))
    both = {name: [0, 1] for name in ("net", "on-net", "tuned", "tuned-ready")}
    assert seeds == {**both, "ready": [0], "on-ready": [0]}
    trainings = [job for job in made.jobs() if isinstance(job, TrainEncoder)]
    assert sorted(job.use.name for job in trainings) == sorted([*both, *both, "on-ready"])
    assert len({job.key for job in trainings}) == len(trainings)
    for job in trainings:  # what it stands on has its seed
        (before,) = job.needs or (job,)
        assert before.use.seed == job.use.seed
    assert {job.key for job in planned(stacked, 0).jobs()} < {job.key for job in made.jobs()}


def test_a_tuning_starts_from_the_weights_of_its_base(stacked, monkeypatch):
    starts = {}

    def fit(self, train, *, seed, **more):
        starts[self.base, seed] = self._start
        return real(self, train, seed=seed, **more)

    real = Tuned.fit
    monkeypatch.setattr(Tuned, "fit", fit)
    assert stacked.run("--seeds", "0", "1", "--methods", "msp@net", "msp@tuned", "msp@tuned-ready") == 0
    assert {record["status"] for record in stacked.records().values()} == {"done"}
    assert starts["ready", 0] == starts["ready", 1] == stacked.folder / "weights" / "ready.safetensors"
    states = [load_file(path) for path in stacked.results.rglob("fit/*/*/*.safetensors")]
    of_net = [state for state in states if "diffusion_losses" not in state]
    assert len(of_net) == 2
    for seed in (0, 1):
        start = starts["net", seed]
        assert any(all(torch.equal(state[name], start[name]) for name in state) for state in of_net)
    assert not torch.equal(starts["net", 0]["network.linear.weight"], starts["net", 1]["network.linear.weight"])


def test_a_base_that_cannot_be_started_from(stacked):
    encoders = {
        "net": {"kind": "classifier", "settings": {**NET, "architecture": "resnet20"}},
        "pixels": {"kind": "pixels", "settings": {"resolution": 8}},
        "tuned": OAL,
        "nothing": {**OAL, "settings": {**OAL["settings"], "base": "pixels"}},
    }
    stacked.write(encoders=encoders, rows=[{"method": "msp", "encoder": name} for name in ("tuned", "nothing")])
    assert stacked.run() == 1
    reasons = {record["row"]: (record["status"], record["reason"]) for record in stacked.records().values()}
    assert reasons["msp@nothing"] == ("skipped", "pixels is not trained: nothing cannot start from it")
    assert reasons["msp@tuned"][0] == "failed"
    assert "the base net is no resnet8: give both one" in reasons["msp@tuned"][1]


@pytest.mark.parametrize("resolution", ["native", "id"])
def test_a_training_sees_the_images_that_are_encoded(trial, monkeypatch, resolution):
    """Of 32 x 32, shrunk once, as they are read, to what the network reads; by way of 16 x 16 where that is asked."""
    seen = {}

    def fit(self, train, **more):
        seen["trained"] = train.pixels
        return real(self, train, **more)

    def encode(self, images):
        seen["encoded"] = images
        return before(self, images)

    real, before = Classifier.fit, Classifier.encode
    monkeypatch.setattr(Classifier, "fit", fit)
    monkeypatch.setattr(Classifier, "encode", encode)
    rows = [{"method": "knn", "encoder": "net"}]
    trial.write(id={"set": "digits", "size": 16}, encoders={"net": STACKED["net"]}, rows=rows)
    where = (trial.folder, trial.folder, trial.results, trial.folder / "cache")
    options = Options(*where, resolution=resolution, limit_train=40)
    (row,) = planner.make(suite.read(str(trial.suite)), options, download=False).rows
    worker = Worker(Store(trial.folder / "cache"), device="cpu", batch_size=40)
    train = row.measures["halves"].id.fit.train[-1]
    for job in (*train.needs, train):
        job.run(worker)
    assert seen["trained"].shape == (40, 8, 8, 3)
    assert [step.size for step in train.use.shrinking] == ([8] if resolution == "native" else [16, 8])
    torch.testing.assert_close(seen["trained"], seen["encoded"], rtol=0, atol=0)
