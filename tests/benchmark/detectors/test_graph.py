"""`--onnx`: the graph gives what the detector gives, for any number of images; what is no arithmetic says so."""

import json

import numpy as np
import pytest

from benchmark.detecting import Detector, build
from benchmark.detectors.examples import colours
from benchmark.store.entries import Store
from methods.base import CannotRun
from tests.benchmark.detectors.test_detectors import planned

onnxruntime = pytest.importorskip("onnxruntime")


def test_the_graph_scores_as_the_detector_does(tmp_path):
    build(planned(tmp_path), "mahalanobis@net", Store(tmp_path / "store")).save(tmp_path / "d", onnx=True)
    detector = Detector.load(tmp_path / "d")  # whose digests the graph's file is among
    session = onnxruntime.InferenceSession(tmp_path / "d" / "detector.onnx")
    limit = float(np.median(detector.scores(colours(7, 32, seed=9).numpy())))
    for count in (1, 2, 7):
        images = colours(count, 32, seed=count + 50).numpy()
        table = detector(images)
        score, p_value, verdicts = session.run(["score", "p_value", "accepted"], {"images": images})
        assert score == pytest.approx(table["score"].to_numpy(), abs=1e-4 * detector.spread)
        assert p_value.tolist() == table["p_value"].tolist()
        assert verdicts.tolist() == table["accepted"].tolist()
        given = {"images": images, "threshold": np.array(limit)}
        assert session.run(["accepted"], given)[0].tolist() == (score <= limit).tolist()
    about = json.loads((tmp_path / "d" / "detector.json").read_text())
    said = session.get_modelmeta().custom_metadata_map
    assert float(said["threshold"]) == about["thresholds"]["95"]["threshold"]
    assert json.loads(said["preprocessing"])[0]["size"] == int(said["size"]) == 32


def test_what_is_no_arithmetic_says_why_and_is_saved_without(tmp_path):
    detector = build(planned(tmp_path), "lowlevel", Store(tmp_path / "store"))
    said = "saved, without an ONNX file: --onnx: Low-level statistics: no graph of plain arithmetic"
    with pytest.raises(CannotRun, match=said):
        detector.save(tmp_path / "d", onnx=True)
    assert not (tmp_path / "d" / "detector.onnx").exists()
    Detector.load(tmp_path / "d")
