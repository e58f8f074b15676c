"""The note on a training or a scoring that is not the published one."""

import inspect
import sys
from dataclasses import dataclass

import pytest

import methods
from benchmark.jobs.inputs import EncoderUse
from benchmark.planning import departures
from methods import base


def note(name, preset=None, **settings):
    return departures.of_method(name, preset, methods.create(name, preset=preset, **settings), calibrated=True)


def test_a_method_as_published_has_no_note():
    assert note("dlsr", measure="lr", lr_sign="released", layers="last") == []  # which row it is, not how it is made
    assert note("dlsr", "released") == []
    assert note("knn", k=200) == []  # published for CIFAR-100
    assert note("ash", variant="b", percentile=85) == []


def test_a_short_training_is_told():
    assert note("dlsr", epochs=25, blocks=4, measure="mse") == [
        "trained with blocks 4 (16), epochs 25 (150); in brackets the published settings"
    ]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("ddpm", {"steps": 10, "skip": 4}, "scored with steps 10 (100), skip 4 (16)"),
        ("vae", {"steps": 20, "samples": 16}, "scored with samples 16 (1000), steps 20 (100)"),
        ("dlsr", {"k": 9}, "scored with k 9 (3)"),
        ("knn", {"k": 10}, "scored with k 10 (50)"),
        ("dice", {"percentile": 50}, "scored with percentile 50 (90)"),
        ("ddpm", {"epochs": 2, "steps": 10}, "trained with epochs 2 (300); scored with steps 10 (100)"),
    ],
)
def test_scoring_otherwise_is_told(name, settings, words):
    assert note(name, **settings) == [f"{words}; in brackets the published settings"]


def test_what_is_not_published_is_not_called_so(monkeypatch):
    assert note("feature_vae", epochs=10) == ["trained with epochs 10 (150); in brackets the defaults"]
    assert note("pca", components=16) == []  # no training, and no published value

    @dataclass
    class Mine(base.Method):
        random_fit = True
        epochs: int = 3

        def score(self, x):
            return x.index

    monkeypatch.setitem(base._METHODS, "mine", Mine)
    assert departures.of_method("mine", None, Mine(), calibrated=False) == []
    told = departures.of_method("mine", None, Mine(epochs=1), calibrated=False)
    assert told == ["trained with epochs 1 (3); in brackets the defaults"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weiper", "seven hyper-parameters were searched by its authors on OOD validation sets"),
        ("nnguide", "another draw of 50 images moves an AUROC by .7, so take several seeds"),
        ("cfood", "another draw moves an AUROC by 2.4, so take several seeds"),
    ],
)
def test_what_a_method_has_to_say_stands_beside_its_rows(name, words):
    (told,) = note(name)
    assert words in told


@pytest.mark.parametrize("name", ["tempscale", "vra"])
def test_what_a_row_is_calibrated_on_is_told(name):
    """That it is so: in the tests of these methods, with `validation` and without."""
    assert note(name) == ["calibrated on the ID calibration images, which are kept out of every fit"]
    without = departures.of_method(name, None, methods.create(name), calibrated=False)
    assert without == ["calibrated on the ID training images, as none are kept out to calibrate on"]


def test_every_method_that_takes_calibration_images_says_so():
    taking = {
        name
        for name in methods.names()
        if "train.validation" in inspect.getsource(sys.modules[type(methods.create(name)).__module__])
    }
    assert {name for name in taking if methods.create(name).calibrates} == taking - {"ddpm"}  # holds out by itself


def test_an_encoder_that_is_read_from_a_file_has_no_note():
    use = EncoderUse("r", "classifier", {"architecture": "resnet8", "epochs": 2}, title="resnet8")
    assert departures.of_encoder(use) == []
