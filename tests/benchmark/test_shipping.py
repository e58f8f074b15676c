"""What makes a network which a suite ships: what it writes is what the suite then uses."""

import json

from safetensors import safe_open

from benchmark import shipping
from benchmark.planning import planner
from benchmark.planning import suite as suites
from benchmark.planning.options import Options
from benchmark.store.keys import file_digest


def test_it_writes_a_network_that_the_suite_can_ship(tmp_path):
    suite = tmp_path / "mini.yaml"
    text = """
title: a trial
id: {set: digits}
ood: [{set: halves}]
calibrate: true
encoders:
  net: {kind: classifier, settings: {architecture: resnet8, resolution: 8, epochs: 1, shipped: old.safetensors}}
rows: [{method: msp, encoder: net}]
"""
    suite.write_text(text)
    shipping.main(str(suite), "net")
    (file,) = tmp_path.glob("mini_net-*.safetensors")
    assert file.stem == f"mini_net-{file_digest(file)[:8]}"
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert (header["trained_on"], header["images"], header["without"]) == ("digits", "950", "calibration images")
    assert json.loads(header["settings"]) == {"architecture": "resnet8", "resolution": 8, "epochs": 1}
    assert header["command"].endswith(f"python -m benchmark.shipping {suite} net")
    suite.write_text(text.replace("old.safetensors", file.name))
    options = Options(tmp_path, tmp_path, tmp_path / "results", tmp_path / "cache")
    (row,) = planner.make(suites.read(str(suite)), options, download=False).rows
    use = row.measures["halves"].id.images[-1].use
    assert (use.weights, use.trained_here) == (file, False)
