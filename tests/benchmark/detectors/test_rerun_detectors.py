"""Detectors of rows that read `extras`, or a network that is run in another way: saved, loaded, scored."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmark.detectors import graph
from benchmark.planning import planner
from benchmark.planning.options import Options
from benchmark.store.entries import Store
from methods.base import CannotRun
from tests.benchmark.detectors.test_detectors import NET, saved_again, suite

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
ROWS = {
    "odin": ("msp", {"kind": "perturbed"}),
    "adascale": ("adascale", {"kind": "perturbed", "rule": "adascale"}),
    "rankfeat": ("ebo", {"kind": "rank_removed"}),
    "gram": ("gram", {"kind": "inside", "powers": 2}),
    "combood": ("combood", {"kind": "inside", "extras": ["extremes"]}),
    "nac": ("nac", {"kind": "inside", "extras": ["gradients"]}),
    "glmcm": ("glmcm", {"kind": "clip", "model": "tiny-detector", "local": True}),
    "neglabel": ("neglabel", {"kind": "clip", "model": "tiny-detector", "words": ""}),
}
LISTENING = ("gram", "combood", "glmcm")
SETTINGS = {"combood": {"k": 3}, "nac": {"layers": "cifar10"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny-detector.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder / "tiny-detector.json")
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-detector", load_weights=False).state_dict()
    state["visual.conv1.weight"] *= 30  # so that its images differ
    save_file(state, folder / "clip.safetensors")
    (folder / "words.txt").write_text("\n".join(map(str, range(12))))
    encoders = {"net": NET}
    for name, (_, settings) in ROWS.items():
        own = {key: value for key, value in settings.items() if key != "kind"}
        own |= {} if settings["kind"] == "clip" else {"base": "net"}
        own |= {"words": str(folder / "words.txt"), "kept": 0.5} if "words" in own else {}
        encoders[name] = {"kind": settings["kind"], "settings": own}
    rows = [
        {"method": method, "encoder": name, "settings": SETTINGS.get(name, {})} for name, (method, _) in ROWS.items()
    ]
    made = suite(encoders=encoders, rows=rows, ood=[])
    where = dict.fromkeys(("data", "weights", "results", "cache"), folder)
    options = Options(**where, limit=10, limit_train=100, speed=False)
    return planner.make(made, options, download=False), Store(folder / "store")


@pytest.mark.parametrize("name", ROWS)
def test_a_saved_row_scores_as_the_harness_does(run, name, tmp_path):
    label = f"{ROWS[name][0]}@{name}"
    again, test, wanted = saved_again(run, label, tmp_path / "d")
    found = np.concatenate([again.scores(test[:1]), again.scores(list(test[1:]))])
    assert wanted.std() > 0
    rounding = np.finfo(np.float32).eps * np.abs(wanted).max()  # what float32 can tell apart, where all are alike
    assert np.abs(found - wanted).max() <= max(1e-5 * wanted.std(), rounding)
    assert str(tmp_path.parent) not in (tmp_path / "d" / "detector.json").read_text()


@pytest.mark.timeout(600)  # the graph of Gram's powers is large
@pytest.mark.parametrize("name", ["neglabel", *(pytest.param(row, marks=pytest.mark.real) for row in LISTENING)])
def test_a_row_that_listens_to_one_pass_has_a_graph(run, exporter, name, tmp_path):
    from tests.benchmark.detectors.test_every_graph import holds  # skipped as a whole where there is no ONNX Runtime

    holds(saved_again(run, f"{ROWS[name][0]}@{name}", tmp_path / "d")[0], tmp_path / "x.onnx")


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"neglabel", *LISTENING}))
def test_a_row_that_runs_its_network_again_says_so_in_the_place_of_a_graph(run, name, tmp_path):
    detector = saved_again(run, f"{ROWS[name][0]}@{name}", tmp_path / "d")[0]
    with pytest.raises(CannotRun, match=r"--onnx: .* it runs its network again"):
        graph.export(detector, tmp_path / "x.onnx")
