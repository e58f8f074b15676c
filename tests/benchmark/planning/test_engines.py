"""Which engine an encoder runs on: a rule on the number of its images, and what the store holds before all else."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.jobs.encoding import Encode
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Engine
from benchmark.planning import engines
from benchmark.planning.suite import UsageError
from benchmark.store import files
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Store
from datasets.sources import find
from methods.device import exporting

NET = {"architecture": "resnet8", "shipped": "digits_resnet8-b3b39c8d.safetensors"}


@pytest.mark.parametrize(
    ("images", "side", "wanted"),
    [(2_232, 224, False), (2_233, 224, True), (15_624, 32, False), (15_625, 32, True), (0, 224, False)],
)
def test_an_export_pays_from_a_number_of_images_that_depends_on_their_size(images, side, wanted):
    assert engines.pays(images, side) is wanted


@pytest.mark.parametrize(
    ("asked", "device", "precision", "absent", "wanted"),
    [
        ("auto", "cpu", "32", "", "auto"),
        ("auto", "cpu", "32", "onnxscript", "torch"),
        ("auto", "cuda", "32", "", "torch"),
        ("auto", "cuda:1", "tf32", "", "torch"),
        ("auto", "cpu", "bf16", "", "torch"),
        ("torch", "cuda", "tf32", "onnx", "torch"),
        ("onnxruntime", "cpu", "32", "", "onnxruntime"),
    ],
)
def test_auto_is_torch_where_the_other_cannot_be_had(monkeypatch, asked, device, precision, absent, wanted):
    monkeypatch.setattr(exporting, "missing", lambda *packages: absent)
    assert engines.resolved(asked, device, precision) == wanted


@pytest.mark.parametrize(
    ("device", "precision", "absent", "said"),
    [
        ("cpu", "32", "onnx", "it needs onnx: pip install onnx onnxscript onnxruntime"),
        ("cuda", "32", "", "it runs on the CPU: --device cpu"),
        ("cpu", "bf16", "", "it computes in float32: --precision 32"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had_is_a_fault_of_usage(monkeypatch, device, precision, absent, said):
    monkeypatch.setattr(exporting, "missing", lambda *packages: absent)
    with pytest.raises(UsageError, match=f"^--engine onnxruntime: {said}$"):
        engines.resolved("onnxruntime", device, precision)


@pytest.fixture
def plan():
    """Jobs on one network, and what they are made of: 40 images to fit on, 20 ID images, 30 others."""
    use = EncoderUse("net", "classifier", NET, title="Net", weights=_weights())
    train = Selection(find("digits", "train", None), 40)
    sets = (Selection(find("digits", "test", None), 20), Selection(find("letters", "test", None), 30))
    fit = FitMethod("mahalanobis", {}, 0, (Encode(use, train),))
    scores = tuple(Score("mahalanobis", {}, 0, fit, (Encode(use, images),)) for images in sets)
    pixels = EncoderUse("pixels", "pixels", {"resolution": 8}, title="")
    return SimpleNamespace(use=use, fit=fit, scores=scores, pixels=Encode(pixels, train))


def _weights():
    from benchmark.planning.suite import SUITES

    return SUITES / NET["shipped"]


def test_all_images_of_the_plan_count_once_and_pixels_have_no_engine(plan, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(engines, "pays", lambda images, side: counted.append((images, side)) or images >= 90)
    monkeypatch.setattr(engines, "describe_device", lambda device: f"this {device}, 3 threads")
    store = Store(tmp_path)
    assert engines.chosen((*plan.scores, *plan.scores, plan.pixels), store, "auto") == {
        plan.use.key: Engine("onnxruntime", if_faster="this cpu, 3 threads")
    }
    assert engines.chosen(plan.scores[:1], store, "auto") == {}
    assert counted == [(40 + 20 + 30, 32), (40 + 20, 32)]
    assert engines.chosen(plan.scores[:1], store, "onnxruntime") == {plan.use.key: Engine("onnxruntime")}
    assert engines.chosen(plan.scores, store, "torch") == {}


def _put_features(store, plan):
    store.put("encode", plan.scores[0].images[0].key, meta={"engine": "torch"})


def _put_fit(store, plan):
    store.put("fit", plan.fit.key, meta={"engine": "torch"})


def _put_scores(store, plan):
    meta = {"encode": {"engine": "torch"}, "fit": None}
    store.put("score", plan.scores[1].key, arrays={"scores": np.zeros(3)}, meta=meta)


def _begin_features(store, plan):
    writer = ChunkWriter(store, "encode", plan.fit.train[0].key, 40)
    writer.about = {"engine": "torch"}
    writer.append({"embedding": np.zeros((10, 2), np.float32)})


@pytest.mark.parametrize("made", [_put_features, _put_fit, _put_scores, _begin_features])
def test_what_stands_in_the_store_decides(plan, tmp_path, made):
    """Features, or what was made of them and outlives them; also the beginning of an entry."""
    store, said = Store(tmp_path), []
    made(store, plan)
    wanted = {plan.use.key: Engine("torch", stands=True)}
    assert engines.chosen(plan.scores, store, "onnxruntime", said.append) == wanted
    assert said == [
        "note: --engine onnxruntime: net goes on with torch, which made what the store holds of it; another --cache "
        "begins anew"
    ]
    assert engines.chosen(plan.scores, store, "auto", said.append) == wanted
    assert engines.chosen(plan.scores, store, "torch", said.append) == wanted
    assert len(said) == 1


def test_a_journal_that_does_not_verify_says_nothing(plan, tmp_path):
    store = Store(tmp_path)
    _begin_features(store, plan)
    journal = store.partial("encode", plan.fit.train[0].key) / "journal"
    assert files.parse(journal.read_text().splitlines()[0])["about"] == {"engine": "torch"}
    journal.write_text(journal.read_text().replace("torch", "tarch"))
    assert engines.chosen(plan.scores, store, "torch") == {}
