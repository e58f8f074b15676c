"""Suites that calibrate: who sees which images, and the thresholds in their records."""

import numpy as np
import torch
from safetensors.torch import save_file

from benchmark.jobs.inputs import Selection, calibrated
from benchmark.store.entries import Store
from datasets.sources import find
from methods.encoders.classifier import Classifier
from methods.encoders.networks import cifar
from methods.knn import KNN

NET = {"architecture": "resnet8", "epochs": 1, "augment": "none"}
ROWS = [{"method": "msp", "encoder": "net"}, {"method": "knn", "encoder": "net", "settings": {"k": 5}}]
LIMITS = ("--limit", "30", "--limit-train", "180", "--no-speed")
FOLDER = "mini+limit=30+limit-train=180"


def calibrating(trial, **settings):
    trial.write(calibrate=True, encoders={"net": {"kind": "classifier", "settings": {**NET, **settings}}}, rows=ROWS)


def test_calibration_images_are_out_of_every_fit_and_encoded_once_and_give_thresholds(trial, counted, monkeypatch):
    seen = {}
    for cls in (Classifier, KNN):

        def fit(self, train, before=cls.fit, name=cls.__name__, **more):
            seen[name] = train
            return before(self, train, **more)

        monkeypatch.setattr(cls, "fit", fit)
    calibrating(trial)
    assert trial.run(*LIMITS, small=False) == 0
    train = calibrated(Selection(find("digits", "train", None), 180, balanced=True))
    assert (len(train.rows), len(train.calibration.rows)) == (171, 9)
    for given in seen.values():
        np.testing.assert_array_equal(given.index, train.rows)
        np.testing.assert_array_equal(given.validation.index, train.calibration.rows)
        np.testing.assert_array_equal(given.validation.labels, train.calibration.labels)
    assert seen["Classifier"].validation.pixels.shape == (9, 32, 32, 3)
    assert counted["images Classifier"] == 180 + 3 * 30
    counted.clear()
    assert trial.run(*LIMITS, small=False) == 0
    assert not counted
    check_thresholds(trial)


def check_thresholds(trial):
    """Every record tells its thresholds, those of the scores of the calibration images, and what they let through."""
    stored = [arrays["scores"] for arrays in scores_of(trial)]
    for record in trial.records(FOLDER).values():
        assert record["train"]["n"] == 171
        assert "9 others are kept out of every training, to calibrate on" in record["train"]["notes"]
        assert record["calibration"] == "new to the network"
        found = record["thresholds"]
        assert found["n"] == 9
        assert found["absent"]["99"] == "99 % needs 99 calibration images; there are 9"
        (calibration,) = (scores for scores in stored if found["accepting"]["90"]["threshold"] in scores)
        where = trial.results / FOLDER / "scores" / record["row"]
        threshold = calibration.max()
        accepted = {
            name: float((np.load(where / f"{record[name]['name']}.seed0.npy") <= threshold).mean())
            for name in ("id", "ood")
        }
        assert found["accepting"] == {"90": {"threshold": threshold, **accepted}, "95": None, "99": None}


def scores_of(trial):
    """Every stored entry of scores of 9 images."""
    store = Store(trial.results / ".cache")
    keys = [path.name for path in (trial.results / ".cache" / "score").glob("*/*")]
    return [arrays for key in keys if len((arrays := store.arrays("score", key))["scores"]) == 9]


def test_other_suites_fit_on_all_rows_and_tell_no_threshold(trial, counted):
    assert trial.run("--methods", "knn") == 0
    for record in trial.records().values():
        assert record["train"]["n"] == 60
        assert "thresholds" not in record
        assert "calibration" not in record
    assert counted["images Classifier"] == 60 + 3 * 30


def test_a_record_says_that_the_network_may_have_seen_the_calibration_images(trial):
    (trial.folder / "weights").mkdir()
    torch.manual_seed(0)
    header = {"mean": "[0.3, 0.3, 0.3]", "std": "[0.4, 0.4, 0.4]"}
    save_file(cifar.build("resnet8", 10).state_dict(), trial.folder / "weights" / "mine.safetensors", header)
    calibrating(trial, checkpoint="mine")
    assert trial.run("--methods", "msp") == 0
    assert {record["calibration"] for record in trial.records().values()} == {"seen by the network"}
