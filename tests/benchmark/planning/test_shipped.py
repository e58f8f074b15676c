"""The network that comes with `digits`: its file is what the suite says, and what its own header says."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmark.jobs import depending
from benchmark.jobs.inputs import WITHOUT, EncoderUse, Selection, calibrated
from benchmark.planning import suite
from benchmark.store.keys import file_digest
from datasets.loading import in_memory
from datasets.sources import find
from methods.encoders import registry
from methods.encoders.images import preprocessing

SPEC = suite.read("digits").encoders["resnet8"]
FILE = suite.SUITES / SPEC.settings["shipped"]


@pytest.fixture(scope="module")
def header():
    with safe_open(FILE, framework="pt") as file:
        return dict(file.metadata())


def test_its_name_ends_in_its_hash_and_it_is_small():
    assert FILE.stem.rpartition("-")[2] == file_digest(FILE)[:8]
    assert FILE.stat().st_size < 400_000


def test_its_header_says_what_the_suite_says(header):
    settings = {name: value for name, value in SPEC.settings.items() if name != "shipped"}
    assert json.loads(header["settings"]) == settings
    assert header["architecture"] == settings["architecture"]
    train = find("digits", "train", None)
    assert header["trained_on"] == train.name
    assert tuple(json.loads(header["classes"])) == train.classes
    fitted = calibrated(Selection(train, balanced=True))
    assert (json.loads(header["images"]), header["without"]) == (len(fitted.rows), WITHOUT)
    mean, std = preprocessing.statistics(in_memory(train, fitted.rows))  # of these images and no others
    assert json.loads(header["mean"]) == pytest.approx(mean, abs=1e-6)
    assert json.loads(header["std"]) == pytest.approx(std, abs=1e-6)
    assert header["command"] == "OMP_NUM_THREADS=1 python -m benchmark.shipping digits resnet8"


def test_where_it_was_trained_is_in_records_of_it(header, tmp_path):
    machine = json.loads(header["machine"])
    net = EncoderUse("net", SPEC.kind, SPEC.settings, title="Net", weights=FILE)
    assert depending.made(net) == machine
    assert {"cpu", "threads", "versions"} <= set(machine)
    above = EncoderUse("probe", "probe", {}, title="Probe", base=net)
    assert depending.made(above) == machine
    for said in ("{", "[1]", "[" * 9000, json.dumps({"path": "/home/me"})):
        file = tmp_path / "other.safetensors"
        save_file({"a": torch.zeros(1)}, file, {"machine": said})
        assert not depending.made(EncoderUse("net", SPEC.kind, SPEC.settings, title="Net", weights=file))


def test_it_is_as_accurate_as_it_says(header):
    test = find("digits", "test", None)
    encoder = registry.create(SPEC.kind, **SPEC.settings).open(FILE)
    logits = torch.cat([encoder.encode(block)["logits"] for block in in_memory(test, range(len(test))).split(200)])
    accuracy = (logits.argmax(1) == torch.tensor(test.labels)).double().mean()
    # one image more or less where another processor rounds a near tie the other way
    assert float(accuracy) == pytest.approx(json.loads(header["accuracy"]), abs=1.01 / len(test))
