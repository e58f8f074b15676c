"""`evaluate`: a network, images and features that are objects, measured as the command line measures files."""

import copy
import json
import os
import random
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import run_all
from benchmark import evaluate, metrics
from benchmark.records import names, records
from datasets.sources import find
from methods.encoders import registry
from methods.encoders.images import preprocessing
from tests.benchmark.conftest import undrawn


class Net(nn.Module):
    """Images (N, 3, 8, 8) -> 6 -> 3 logits: the classes are told by the mean of a channel."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.bn, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def images(n, seed, shift=0.0):
    """Of three classes, each brighter in a channel of its own."""
    labels = torch.arange(n) % 3
    x = 0.5 * torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) + shift
    x[torch.arange(n), labels] += 2
    return x, labels


@pytest.fixture(scope="module")
def network():
    net, (x, labels) = Net(), images(60, 9)
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
    return net


TRAIN, TEST, NEAR, FAR = images(80, 0), images(40, 1), images(30, 2, 0.7)[0], images(30, 3, -3.0)[0]
METHODS = ["msp", "mahalanobis", "knn:k=5"]


@pytest.fixture(autouse=True)
def _no_figures():
    with undrawn():
        yield


@pytest.fixture(scope="module")
def result(network):
    return evaluate(network, id=(TRAIN, TEST), near={"near": NEAR}, far={"far": FAR}, methods=METHODS, device="cpu")


def test_the_frame_holds_fractions_that_follow_from_the_network(network, result):
    frame = result.frame
    assert list(frame["row"].unique()) == ["mahalanobis@Net", "msp@Net", "knn:k=5@Net"]
    assert list(zip(frame["set"][:2], frame["group"][:2], strict=True)) == [("near", "near"), ("far", "far")]
    with torch.no_grad():
        net = copy.deepcopy(network).eval()
        scores = {name: -net(x).softmax(1).max(1).values.double().numpy() for name, x in
                  (("id", TEST[0]), ("near", NEAR), ("far", FAR))}  # fmt: skip
        accuracy = float((net(TEST[0]).argmax(1) == TEST[1]).double().mean())
    assert accuracy > 0.9
    for name in ("near", "far"):
        line = frame[(frame["method"] == "msp") & (frame["set"] == name)].iloc[0]
        assert line.auroc == pytest.approx(metrics.auroc(scores["id"], scores[name]), abs=2e-3)
        low, high = line.auroc_low, line.auroc_high
        assert 0 <= low <= line.auroc <= high <= 1
        assert line.accuracy == pytest.approx(accuracy)
        assert (line.status, line.reason) == ("done", "")


def test_it_shows_itself(result):
    assert "Net on ID" in str(result)
    html = result._repr_html_()
    assert html.count("<tr") == 4
    assert "near (near)" in html
    for row in ("msp@Net", "knn:k=5@Net"):
        assert row in html


def test_accuracy_and_preprocessing_are_said_before_any_ood_number(network, capsys, monkeypatch):
    said = []
    monkeypatch.setattr("benchmark.evaluating._say", said.append)
    monkeypatch.setattr("benchmark.jobs.measuring.Measure.run", lambda self, worker: said.append("measured"))
    evaluate(network, id=(TRAIN, TEST), far={"far": FAR}, methods=["msp"], device="cpu")
    assert said[0].startswith("Net read its images as they were given: float32 3 x 8 x 8, from -2.09 to 3.53")
    assert said[1].startswith("ID accuracy of Net: ")
    assert said[1].endswith("% of the 40 ID test images are labelled rightly.")
    assert said[2] == "measured"


def test_it_writes_what_the_command_line_writes(result, tmp_path):
    folder = result.write(tmp_path / "mine")
    assert folder == tmp_path / "mine"
    assert {"table.md", "table.csv", "table.tex", "findings.md", "records", "scores"} <= set(os.listdir(folder))
    table = pd.read_csv(folder / "table.csv")
    line = table[(table["row"] == "msp@Net") & (table["ood"] == "far")].iloc[0]
    ours = result.frame[(result.frame["method"] == "msp") & (result.frame["set"] == "far")].iloc[0]
    assert line.auroc == pytest.approx(100 * ours.auroc, abs=5e-3)
    assert len(list((folder / "records").rglob("*.json"))) == 6
    record = json.loads(next((folder / "records").rglob("near.seed0.json")).read_text())
    assert record["calibration"] == "seen by the network"
    assert record["train"]["n"] == 76  # 5 % calibrate
    assert record["thresholds"]
    result.write(folder)  # a second time
    assert "Left out" not in (folder / "table.md").read_text()


def test_two_calls_write_into_one_folder_as_two_runs_do(network, result, tmp_path):
    result.write(tmp_path)
    more = evaluate(network, id=(TRAIN, TEST), near={"near": NEAR}, far={"far": FAR}, methods=["ebo"], device="cpu")
    assert set(pd.read_csv(more.write(tmp_path) / "table.csv")["row"]) == {
        "msp@Net", "mahalanobis@Net", "ebo@Net", "knn:k=5@Net",
    }  # fmt: skip
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.fc.bias += 1
    told = evaluate(other, id=(TRAIN, TEST), near={"near": NEAR}, far={"far": FAR}, methods=["vra"], device="cpu")
    assert "Left out" in (told.write(tmp_path) / "table.md").read_text()


def test_nothing_of_the_callers_is_changed(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    net = copy.deepcopy(network).train()
    net.bn.eval()
    net.fc.requires_grad_(False)
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    seen = []
    net.conv.register_forward_hook(lambda module, x, y: None)
    generator = torch.Generator().manual_seed(5)

    def state():
        modes = [(name, module.training, len(module._forward_hooks)) for name, module in net.named_modules()]
        tensors = [tensor.clone() for tensor in (*net.state_dict().values(), net.conv.weight.grad)]
        drawn = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), generator.get_state())  # noqa: NPY002
        return modes, tensors, drawn, [p.requires_grad for p in net.parameters()], torch.backends.cudnn.allow_tf32

    before = state()
    loader = DataLoader(TensorDataset(*TRAIN), 16, shuffle=True, generator=generator)
    torch.utils.data.RandomSampler(TEST[0])
    evaluate(net, id=(loader, TEST), far={"far": DataLoader(TensorDataset(FAR), 7, shuffle=True)}, methods=["knn:k=5"])
    after = state()
    assert before[0] == after[0]
    assert before[3:] == after[3:]
    for one, other in zip(before[1], after[1], strict=True):
        assert torch.equal(one, other)
    assert before[2][:2] == after[2][:2]
    assert all(map(torch.equal, before[2][2:], after[2][2:]))
    assert not seen
    assert not list(tmp_path.rglob("*"))


def test_a_caller_who_set_a_precision_by_either_of_torchs_ways_is_served(network):
    """To read `allow_tf32` raises where one of the newer switches differs from the others."""
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    try:
        evaluate(network, id=(TRAIN, TEST), far={"far": FAR}, methods=["msp"], device="cpu")
        assert conv.fp32_precision == "ieee"
    finally:
        conv.fp32_precision = before


def test_what_a_result_keeps_goes_with_it(network):
    of = evaluate(network, id=(TRAIN, TEST), far={"far": FAR}, methods=["msp"], device="cpu")
    place = of.plan.folder
    assert place.is_dir()
    del of
    assert not place.exists()


def test_an_ood_set_that_cannot_be_stops_alone(network, capsys):
    broken = FAR.clone()
    broken[4] = torch.nan
    of = evaluate(
        network, id=(TRAIN, TEST), near={"x": NEAR, "bad": broken}, far={"x": FAR, "wide": FAR.repeat(1, 1, 1, 2)},
        methods=["msp"], device="cpu",
    )  # fmt: skip
    assert list(of.frame["set"]) == ["near/x", "far/x", "wide"]
    err = capsys.readouterr().err
    assert "failed: near/bad: bad (test): image 4 (from 0) holds NaN or infinity" in err
    record = json.loads(next(of.plan.folder.rglob("wide.seed0.json")).read_text())
    note = "its images are float32 3 x 8 x 16, those of the ID test set float32 3 x 8 x 8"
    assert note in record["ood"]["notes"]


def test_features_that_cannot_be_are_named_once(capsys):
    arrays = np.random.default_rng(0).normal(size=(3, 30, 4)).astype(np.float32)
    labels = np.arange(30) % 3
    arrays[2, 3, 1] = np.nan
    evaluate(
        None, id=((arrays[0], labels), (arrays[1], labels)), near={"good": arrays[1] + 1, "bad": arrays[2]},
        methods=["mahalanobis"],
    )  # fmt: skip
    assert "failed: near/bad: embedding of row 3 (from 0) is NaN or infinite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"id": TRAIN[0]}, r"id: give \(train, test\)"),
        ({"id": (TRAIN, TRAIN)}, "no test split of its own"),
        ({"id": ((TRAIN[0] / 0, TRAIN[1]), TEST)}, r"ID .train.: image 0 .from 0. holds NaN"),
        ({"network": "resnet18"}, "a str is no torch.nn.Module"),
        ({"far": {3: FAR}}, "3 names no set"),
        ({"methods": ["vmi"]}, "no method or row 'vmi'; did you mean 'vim'"),
        ({"methods": ["knn:k=0"]}, "k is 0; it must be"),
        ({"device": "cuda:99"}, "--device cuda:99: there are"),
        ({"head": (1, 2)}, "head: name the layer"),
        ({"network": None}, "without a network a set is|ID .train.: |embedding is"),
        ({"id": (TRAIN, TEST[0]), "network": nn.Linear(8, 3)}, "the logits of Linear|logits of 8 images"),
    ],
)
def test_what_cannot_be_is_one_line(network, how, said):
    given = {"network": network, "id": (TRAIN, TEST), "far": {"far": FAR}, "methods": ["msp"], "device": "cpu", **how}
    with pytest.raises(ValueError, match=said) as error:
        evaluate(**given)
    assert "\n" not in str(error.value)
    assert "/tmp" not in str(error.value)


def test_features_are_measured_as_a_folder_of_them(network, result, tmp_path):
    net = copy.deepcopy(network).eval()

    def features(x):
        with torch.no_grad():
            return torch.relu(net.bn(net.conv(x))).mean((2, 3)).numpy()

    sets = {"id/train": TRAIN, "id/test": TEST, "near/near": (NEAR, None), "far/far": (FAR, None)}
    arrays = {
        name: {"embedding": features(x), **({} if y is None else {"labels": y.numpy()})}
        for name, (x, y) in sets.items()
    }
    of = evaluate(
        None, id=(arrays["id/train"], (arrays["id/test"]["embedding"], TEST[1])), near={"near": arrays["near/near"]},
        far={"far": torch.from_numpy(arrays["far/far"]["embedding"])}, methods=METHODS, head=net.fc, device="cpu",
    )  # fmt: skip
    for name, values in arrays.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / "mine" / f"{name}.npz", **values)
    np.savez(tmp_path / "mine/id/head.npz", weight=net.fc.weight.detach().numpy(), bias=net.fc.bias.detach().numpy())
    where = ["--results", str(tmp_path / "results"), "--device", "cpu", "--no-speed"]
    assert run_all.main(["--id", str(tmp_path / "mine"), "--methods", *METHODS, *where]) == 0
    folder = tmp_path / "results" / "mine"
    for row in ("msp@features", "mahalanobis@features", "knn:k=5@features"):
        for name in ("near", "far"):
            paths = [names.scores_path(place, row, name, 0) for place in (folder, of.plan.folder)]
            assert np.array_equal(*map(np.load, paths))
    both = of.frame.merge(result.frame, on=["method", "set"])
    assert np.abs(both["auroc_x"] - both["auroc_y"]).max() < 2e-3
    assert of.frame["accuracy"].iloc[0] == result.frame["accuracy"].iloc[0]


def test_covariate_shifted_id_is_held_beside_id(network, tmp_path):
    x, labels = images(24, 7, 0.1)
    of = evaluate(
        network, id=(TRAIN, TEST), far={"far": FAR}, methods=["msp"], covariate={"dusk": (x, labels)}, device="cpu"
    )
    assert list(zip(of.frame["set"], of.frame["group"], strict=True)) == [("far", "far"), ("dusk", "covariate")]
    found = {r["ood"]["name"]: r for r in records.load(of.plan.folder)[0] if r["kind"] == "result"}
    with torch.no_grad():
        net = copy.deepcopy(network).eval()
        known, dusk, far = (-net(z).softmax(1).amax(1).double().numpy() for z in (TEST[0], x, FAR))
        accuracy = float((net(x).argmax(1) == labels).double().mean())
    wide = found["far"]["full_spectrum"]
    assert wide["n_id"] == 40 + 24
    assert wide["metrics"]["auroc"] == pytest.approx(metrics.auroc(np.r_[known, dusk], far))
    assert found["dusk"]["ood_accuracy"] == pytest.approx(accuracy)


def test_without_ood_sets_there_are_thresholds(network):
    of = evaluate(network, id=(TRAIN, TEST), methods=["msp"], device="cpu")
    assert list(of.frame["set"]) == [""]
    assert of.frame["accuracy"].iloc[0] > 0.9
    assert np.isnan(of.frame["auroc"].iloc[0])
    assert "msp" in str(of).lower()


def test_a_detector_is_built_of_the_plan(result, monkeypatch):
    calls = []
    stub = SimpleNamespace(build=lambda *what, **how: calls.append((what, how)) or "detector")
    monkeypatch.setitem(sys.modules, "benchmark.detecting", stub)
    assert result.detector("mahalanobis") == "detector"
    assert result.detector("knn") == "detector"
    assert [what[1] for what, _ in calls] == ["mahalanobis@Net", "knn:k=5@Net"]
    assert calls[0] == ((result.plan, "mahalanobis@Net", result.store), {"device": "cpu"})
    with pytest.raises(ValueError, match="'vim' names 0 rows of mahalanobis@Net, msp@Net, knn:k=5@Net"):
        result.detector("vim")


def test_a_detector_of_a_row_that_was_not_measured_is_refused(network, capsys):
    of = evaluate(network, id=(TRAIN, TEST), far={"far": FAR}, methods=["dlsr-mse", "msp"], device="cpu")
    assert "skipped: dlsr-mse@Net: dlsr reads layers, which Net does not offer" in capsys.readouterr().err
    assert list(of.frame["status"]) == ["skipped", "done"]
    with pytest.raises(ValueError, match="dlsr-mse@Net was not measured: dlsr reads layers, which Net does not offer"):
        of.detector("dlsr")


def test_scores_are_the_command_lines_to_the_bit(tmp_path):
    """A network of timm by its name, and the same as an object on the same prepared tensors, in the same batches."""
    draw = np.random.default_rng(0)
    for name, n in (("id/train", 90), ("id/test", 70), ("near/noise", 70)):
        for row in range(n):
            path = tmp_path / "mine" / name / f"{row % 3}" / f"{row:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "my.pth")
    own = {"network": "test_resnet", "checkpoint": str(tmp_path / "my.pth"), "size": 32, "crop": 1.0}
    flags = [part for name, value in own.items() for part in (f"--{name}", str(value))]
    rows = ["msp", "mahalanobis", "knn:k=5", "knn-layers:k=5"]
    where = ["--results", str(tmp_path / "results"), "--device", "cpu", "--no-speed"]
    assert run_all.main(["--id", str(tmp_path / "mine"), *flags, "--methods", *rows, *where]) == 0
    encoder = registry.create("network", **own)

    def tensors(name, split):
        there = find(str(tmp_path / "mine" / name), split, None)
        pixels = [torch.from_numpy(image) for image in there.read(range(len(there)))]
        prepared = preprocessing.prepared([encoder.shrinking(image) for image in pixels], encoder.shrinking, "cpu")
        reading = encoder._read_at
        return preprocessing.normalise(prepared, reading.mean, reading.std), there.labels

    known = tensors("id", "train"), tensors("id", "test")
    of = evaluate(network, id=known, near={"noise": tensors("near/noise", "test")}, methods=rows, device="cpu")
    for row in rows:
        for name, ours in (("noise", "noise"), ("mine", "ID")):
            theirs = np.load(names.scores_path(tmp_path / "results" / "mine", f"{row}@test_resnet", name, 0))
            assert np.array_equal(theirs, np.load(names.scores_path(of.plan.folder, f"{row}@ResNet", ours, 0))), row
