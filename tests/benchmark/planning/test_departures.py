"""The note on a training that is not the published one."""

import methods
from benchmark.jobs.inputs import EncoderUse
from benchmark.planning import departures


def test_a_method_as_published_has_no_note():
    assert departures.of_method("dlsr", None, methods.create("dlsr", measure="lr", k=9)) == []
    assert departures.of_method("dlsr", "released", methods.create("dlsr", preset="released")) == []
    assert departures.of_method("knn", None, methods.create("knn", k=3)) == []  # not trained


def test_a_short_training_is_told():
    method = methods.create("dlsr", epochs=25, blocks=4, measure="mse")
    (note,) = departures.of_method("dlsr", None, method)
    assert note == "trained with blocks 4 (16), epochs 25 (150); in brackets the published settings"


def test_an_encoder_that_is_read_from_a_file_has_no_note():
    use = EncoderUse("r", "classifier", {"architecture": "resnet8", "epochs": 2}, title="resnet8")
    assert departures.of_encoder(use) == []
