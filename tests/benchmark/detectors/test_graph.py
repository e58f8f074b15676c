"""`--onnx`: the graph gives what the detector gives, for any number of images; what is no arithmetic says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.detecting import Detector, build
from benchmark.detectors import graph
from benchmark.detectors.examples import colours
from benchmark.store.entries import Store
from methods.base import CannotRun
from tests.benchmark.detectors.test_detectors import planned

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("exporter")


SERVICE = (Path(__file__).parents[3] / "results" / "OWN.md").read_text("utf-8").split("```python\n")[-1].split("```")[0]


def test_the_graph_scores_as_the_detector_does(tmp_path, monkeypatch, capsys):
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
    assert float(said["differs"].partition(" of ")[0]) <= 1e-4
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    files = [str(tmp_path / f"{number}.png") for number in range(len(images))]
    monkeypatch.setattr("sys.argv", ["service.py", str(tmp_path / "d" / "detector.onnx"), *files])
    capsys.readouterr()
    exec(compile(SERVICE, "service.py", "exec"), {})  # as results/OWN.md has it, without this project
    lines = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == files
    assert [float(line[1]) for line in lines] == pytest.approx(score.tolist(), abs=1e-4 * detector.spread)
    assert [line[3] == "True" for line in lines] == verdicts.tolist()


@pytest.mark.parametrize(
    ("lowest", "deviation", "wanted"),
    [
        (0.0, 1.0, 1e-4),
        (50.0, 1.0, 1e-4),  # a millionth of 52 is half of that
        (1.0, 1 / 400, 4e-4 * 1.005),  # 1.005: the largest score
        (1.0, 1 / 40_000, 1e-3),  # never more
    ],
)
def test_scores_that_are_nearly_alike_are_held_to_what_float32_can_say_of_them(lowest, deviation, wanted):
    calibration = lowest + 2 * deviation * np.array([0.0, 0, 1, 1])  # whose standard deviation is `deviation`
    detector = Detector({}, None, None, "", calibration, None)
    assert graph.tolerance(detector) == pytest.approx(wanted, rel=1e-9)


def test_what_is_no_arithmetic_says_why_and_is_saved_without(tmp_path):
    detector = build(planned(tmp_path), "lowlevel", Store(tmp_path / "store"))
    said = "saved, without an ONNX file: --onnx: Low-level statistics: no graph of plain arithmetic"
    with pytest.raises(CannotRun, match=said):
        detector.save(tmp_path / "d", onnx=True)
    assert not (tmp_path / "d" / "detector.onnx").exists()
    Detector.load(tmp_path / "d")
