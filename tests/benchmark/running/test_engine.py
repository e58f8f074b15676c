"""Whole runs on an engine: journals, markers and records name it, and no record joins two."""

import json
import shutil

import pytest

import run_all
from benchmark.detecting import Detector
from benchmark.planning import engines, planner, suite
from benchmark.planning.options import Options
from benchmark.store.entries import Store
from methods.base import CannotRun
from methods.device import exporting
from methods.encoders.networks import engine
from tests.benchmark.conftest import SUITE, Trial, undrawn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("exporter")
NET = {"kind": "classifier", "settings": {"architecture": "resnet8", "checkpoint": "digits_resnet8-b3b39c8d"}}
FEW = {
    "encoders": {**SUITE["encoders"], "net": NET},
    "calibrate": True,
    "rows": [{"method": "mahalanobis", "encoder": "net"}, {"method": "lowlevel", "encoder": "pixels"}],
}
NAME = "mini+limit=30+limit-train=60"


def made(folder):
    """A trial on the digits' own network, from a file."""
    (folder / "weights").mkdir(parents=True)
    trial = Trial(folder)
    trial.write(**FEW)
    shutil.copy(suite.SUITES / "digits_resnet8-b3b39c8d.safetensors", folder / "weights")
    return trial


def markers(trial, kind):
    return [json.loads(path.read_text())["meta"] for path in (trial.results / ".cache" / kind).rglob("done.json")]


def records(trial):
    return [json.loads(path.read_text()) for path in (trial.results / NAME / "records").rglob("*.json")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run on ONNX Runtime against one OOD set, and a saved detector; not to be written to."""
    with undrawn():
        trial = made(tmp_path_factory.mktemp("ran"))
        more = ("--ood", "letters", "--save", "mahalanobis@net")
        assert trial.run("--engine", "onnxruntime", *more) == 0
    return trial


@pytest.fixture
def again(ran, tmp_path):
    """The same, to go on with."""
    shutil.copytree(ran.folder, tmp_path / "again")
    trial = Trial(tmp_path / "again")
    trial.write(**FEW)
    return trial


@pytest.fixture(autouse=True)
def _no_figures():
    with undrawn():
        yield


def test_markers_and_records_name_the_engine(ran, tmp_path):
    encoded = markers(ran, "encode")
    of_net = [meta["engine"] for meta in encoded if "with net" in meta["title"]]
    assert sorted(of_net) == ["onnxruntime"] * 4 + ["torch"] * 5  # the table's; a detector's, of all sets
    assert {meta["engine"] for meta in encoded if "with pixels" in meta["title"]} == {None}
    (graph,) = markers(ran, "graph")
    assert graph["apart"] <= engine.TOLERANCE
    found = {record["row"]: record["provenance"]["engine"] for record in records(ran)}
    assert found == {"mahalanobis@net": "onnxruntime", "lowlevel@pixels": None}
    other = made(tmp_path / "torch")
    assert other.run("--ood", "letters") == 0
    for record in records(other):
        (same,) = (one for one in records(ran) if (one["row"], one["key"]) == (record["row"], record["key"]))
        assert same["metrics"]["auroc"] == pytest.approx(record["metrics"]["auroc"], abs=0.005)
        assert record["provenance"]["engine"] == ("torch" if "net" in record["row"] else None)


def test_what_goes_on_takes_the_engine_that_stands(again, capsys):
    assert again.run("--engine", "torch") == 0
    assert {record["provenance"]["engine"] for record in records(again) if "net" in record["row"]} == {"onnxruntime"}
    assert len(records(again)) == 4
    assert "note: --engine torch: net goes on with onnxruntime" in capsys.readouterr().err


def test_what_goes_on_without_the_engine_that_stands_does_not_run(again, capsys, monkeypatch):
    before = records(again)
    missing = exporting.missing
    monkeypatch.setattr(exporting, "missing", lambda *names: "onnxruntime" if "onnxruntime" in names else missing())
    assert again.run() == 0
    done = [record for record in records(again) if record["status"] == "done"]
    assert len(done) == len(before) + 1  # on pixels
    said = "skipped: mahalanobis@net: net: its features here were made by onnxruntime, and onnxruntime is not installed"
    assert said in capsys.readouterr().err


def test_an_entry_that_was_begun_is_gone_on_with_by_its_engine(ran, tmp_path, monkeypatch):
    from benchmark.jobs import writing
    from benchmark.store.chunks import ChunkWriter

    trial = made(tmp_path)
    shutil.copytree(ran.results / ".cache" / "graph", trial.results / ".cache" / "graph")  # an export takes seconds
    monkeypatch.setattr(writing, "CHUNK_IMAGES", 10)
    append, calls = ChunkWriter.append, []

    def stop(self, arrays):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        append(self, arrays)

    monkeypatch.setattr(ChunkWriter, "append", stop)
    where = ("--batch-size", "10", "--methods", "mahalanobis")
    assert trial.run("--engine", "onnxruntime", *where) == 130
    monkeypatch.setattr(ChunkWriter, "append", append)
    assert trial.run("--engine", "torch", *where) == 0
    assert {record["provenance"]["engine"] for record in records(trial)} == {"onnxruntime"}


def test_the_embedded_suite_stays_on_torch_by_the_rule(tmp_path, monkeypatch):
    """All images of its network are too few; an export that were cheaper would pay."""
    options = Options(**dict.fromkeys(("data", "weights", "results", "cache"), tmp_path), speed=False)
    digits = planner.make(suite.read("digits"), options, download=False)
    targets = [target for _, target in digits.targets()]
    store = Store(tmp_path)
    assert engines.chosen(targets, store, "auto") == {}
    monkeypatch.setattr(engines, "PAYS", engines.PAYS / 10)
    found = engines.chosen(targets, store, "auto")
    assert found
    assert {engine.name for engine in found.values()} == {"onnxruntime"}


def test_a_graph_that_differs_is_refused_in_one_line_and_not_tried_again(tmp_path, capsys, monkeypatch):
    tried = []

    def refused(encoder, graph, pixels):
        tried.append(len(pixels))
        raise CannotRun("ONNX Runtime gives features 0.5 of a standard deviation from torch's")

    monkeypatch.setattr(engine, "held_against_torch", refused)
    monkeypatch.setattr(engine, "graph_of", lambda encoder: b"graph")
    trial = made(tmp_path)
    assert trial.run("--engine", "onnxruntime", "--methods", "mahalanobis") == 0
    said = capsys.readouterr().err
    line = "note: net runs on torch: ONNX Runtime gives features 0.5 of a standard deviation from torch's"
    assert said.count(line) == 1
    assert tried == [16]
    assert {record["provenance"]["engine"] for record in records(trial)} == {"torch"}


def test_suite_and_environment_name_the_engine_and_the_command_line_decides(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(engines, "resolved", lambda name, device, precision: asked.append(name) or "torch")
    trial = made(tmp_path)
    trial.write(**FEW, engine="onnxruntime")
    where = ("--methods", "lowlevel@pixels")
    assert trial.run(*where) == 0
    monkeypatch.setenv("OOD_ENGINE", "auto")
    assert trial.run(*where) == 0
    assert trial.run(*where, "--engine", "torch") == 0
    assert asked == ["onnxruntime", "auto", "torch"]
    monkeypatch.setenv("OOD_ENGINE", "tensorflow")
    with pytest.raises(SystemExit) as status:
        trial.run(*where)
    assert status.value.code == 2
    assert "argument --engine: 'tensorflow': valid are torch, onnxruntime, auto" in capsys.readouterr().err


def test_a_detectors_folder_names_the_engine_and_scores_take_it_where_it_is(ran, capsys, monkeypatch):
    folder = ran.results / NAME / "detectors" / "mahalanobis@net"
    about = json.loads((folder / "detector.json").read_text())
    assert (about["encoders"][0]["engine"], about["encoders"][0]["graph"]) == ("onnxruntime", "encoder.onnx")
    assert "the table's engine is onnxruntime, its own torch" in about["differs"]["because"]
    assert about["differs"]["largest"] < engine.TOLERANCE
    detector = Detector.load(folder)
    encoder = detector.worker.open(detector.use)
    assert isinstance(encoder._engine, engine.OnnxRuntime)
    assert capsys.readouterr().err == ""
    missing = exporting.missing
    monkeypatch.setattr(exporting, "missing", lambda *names: "onnxruntime" if "onnxruntime" in names else missing())
    other = Detector.load(folder)
    assert other.worker.open(other.use)._engine is None
    line = "made with ONNX Runtime, it scores with torch: onnxruntime is not installed: pip install onnxruntime"
    assert line in capsys.readouterr().err
    images = detector._examples()["images"].numpy()
    assert other.scores(images) == pytest.approx(detector.scores(images), abs=1e-3 * detector.spread)


def test_flags_of_the_engine_are_refused_in_one_line(tmp_path, capsys, monkeypatch):
    trial = made(tmp_path)
    monkeypatch.setattr(exporting, "missing", lambda *names: "onnxruntime")
    assert run_all.main(trial.arguments("--engine", "onnxruntime")) == 2
    said = "error: --engine onnxruntime: it needs onnxruntime: pip install onnx onnxscript onnxruntime"
    assert said in capsys.readouterr().err
