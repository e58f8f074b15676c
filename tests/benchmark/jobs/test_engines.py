"""Where an export pays the faster engine is taken: timed once for a machine, by whichever worker comes first."""

from types import SimpleNamespace

import pytest

from benchmark.jobs import engines
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.worker import Engine, Worker
from benchmark.planning.suite import SUITES
from benchmark.records.throughput import Speed
from benchmark.store.entries import Store
from datasets.sources import find
from methods.base import CannotRun
from methods.device import exporting

NET = {"architecture": "resnet8", "shipped": "digits_resnet8-b3b39c8d.safetensors"}
IMAGES = Selection(find("digits", "test", None), 40)


@pytest.fixture
def timed(monkeypatch):
    """Of what is timed the speeds are those set here; nothing is exported."""
    trial = SimpleNamespace(speeds={"torch": 2.0, "onnxruntime": 1.0}, times=[])

    def compared(works, images):
        trial.times.append(images)
        assert {name: set(work()) for name, work in works.items()}["torch"] == {"embedding", "layers", "logits"}
        return {name: Speed.of(images, [images / trial.speeds[name]]) for name in works}

    monkeypatch.setattr(engines.throughput, "compared", compared)
    monkeypatch.setattr(exporting, "missing", lambda *packages: "")
    monkeypatch.setattr(exporting, "versions", dict)
    monkeypatch.setattr(engines.onnx, "graph_of", lambda encoder: b"graph")
    monkeypatch.setattr(engines.onnx, "OnnxRuntime", lambda graph: lambda pixels: {"of": graph})
    monkeypatch.setattr(engines.onnx, "held_against_torch", lambda *what: (lambda pixels: {}, 0.0))
    return trial


def a_worker(folder, said=None, engine=None):
    use = EncoderUse("net", "classifier", NET, title="Net", weights=SUITES / NET["shipped"])
    worker = Worker(Store(folder), device="cpu")
    worker.engines = {use.key: engine or Engine("onnxruntime", if_faster="this machine")}
    worker.say = (said if said is not None else []).append
    return worker, use


def test_torch_is_taken_where_it_is_faster_and_a_line_says_so(timed, tmp_path):
    worker, use = a_worker(tmp_path, said := [])
    assert [engines.take(worker, use, IMAGES) for _ in range(2)] == ["torch", "torch"]
    assert worker.open(use)._engine is None
    line = "note: net runs on torch, which is faster here: 2 images/s, 1 on ONNX Runtime"
    assert [each for each in said if "runs on" in each] == [line]
    assert timed.times == [40]  # all that there are


def test_it_is_timed_once_for_a_machine_and_holds_for_every_worker(timed, tmp_path):
    for _ in range(2):
        worker, use = a_worker(tmp_path, said := [])
        assert engines.take(worker, use, IMAGES) == "torch"
        timed.speeds["onnxruntime"] = 3.0
    assert len(timed.times) == 1
    assert said == []
    worker.engines = {use.key: Engine("onnxruntime", if_faster="another machine")}
    assert engines.take(worker, use, IMAGES) == "onnxruntime"
    assert worker.open(use)._engine(None) == {"of": b"graph"}
    assert len(timed.times) == 2
    found = {worker.store.meta("engine", path.name)["machine"] for path in (tmp_path / "engine").glob("*/*")}
    assert found == {"this machine", "another machine"}


def test_a_store_keeps_both_speeds(timed, tmp_path):
    worker, use = a_worker(tmp_path)
    engines.take(worker, use, IMAGES)
    (path,) = (tmp_path / "engine").glob("*/*")
    assert worker.store.meta("engine", path.name) == {
        "title": "engine of net",
        "engine": "torch",
        "images_per_second": {"torch": 2.0, "onnxruntime": 1.0},
        "batch": 40,
        "machine": "this machine",
    }


def test_what_was_begun_or_asked_for_is_not_timed(timed, tmp_path):
    for begun in ("onnxruntime", "torch"):
        worker, use = a_worker(tmp_path)
        assert engines.take(worker, use, IMAGES, begun) == begun
    worker, use = a_worker(tmp_path, engine=Engine("onnxruntime"))
    assert engines.take(worker, use, IMAGES) == "onnxruntime"
    assert timed.times == []


def test_without_a_graph_nothing_is_timed(timed, tmp_path, monkeypatch):
    def none(encoder):
        raise CannotRun("torch exports no graph of it")

    monkeypatch.setattr(engines.onnx, "graph_of", none)
    worker, use = a_worker(tmp_path, said := [])
    assert [engines.take(worker, use, IMAGES) for _ in range(2)] == ["torch", "torch"]
    assert said == ["note: net runs on torch: torch exports no graph of it"]
    assert timed.times == []
