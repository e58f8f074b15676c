"""A folder is a suite: what it stands for, what runs on it, and what cannot be in one line."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import save_file

import run_all
from benchmark.jobs.worker import Worker
from benchmark.planning import folder_suite, id_images, planner, suite
from benchmark.planning.changing import with_network
from benchmark.planning.options import Options
from benchmark.planning.parts import EncoderSpec
from benchmark.planning.suite import UsageError
from benchmark.store.entries import Store

D, CLASSES = 8, ("ant", "bee", "cow")
HEAD = {
    "weight": np.random.default_rng(9).normal(size=(3, D)).astype(np.float32),
    "bias": np.array([0.1, 0.2, -0.3], np.float32),
}
ROWS = ("--methods", "msp", "knn", "mahalanobis", "random")


def rows(n, seed, shift=0.0):
    """Three clusters, of which the label says which, and logits that the head gives."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    embedding = (rng.normal(size=(n, D)) + 2 * np.eye(3, D)[labels] + shift).astype(np.float32)
    logits = (torch.from_numpy(embedding) @ torch.from_numpy(HEAD["weight"]).T + torch.from_numpy(HEAD["bias"])).numpy()
    return {"embedding": embedding, "logits": logits, "labels": labels}


def npz(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path.with_suffix(".npz"), **arrays)


def tensors(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path.with_suffix(".safetensors"))


def npy(path, **arrays):
    path.mkdir(parents=True)
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)


SETS = {"id/train": (120, 0, 0.0), "id/test": (60, 1, 0.0), "near/a": (40, 2, 0.5), "far/b": (40, 3, 3.0)}


def filled(folder, write=npz, keys=("embedding", "logits", "labels"), head=True, sets=SETS):
    for name, about in sets.items():
        arrays = rows(*about)
        write(folder / name, **{key: arrays[key] for key in keys})
    if head:
        npz(folder / "id" / "head", **HEAD)
    return folder


def images(folder, *names, seed=0):
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed + place).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a folder: status and records by row and set."""
    monkeypatch.setattr("benchmark.reporting.drawing.draw", lambda *what, **how: None)
    monkeypatch.setattr("benchmark.reporting.ahead.Ahead.measured", lambda self, row: None)

    def go(folder, *more):
        results = tmp_path / "results"
        where = ["--results", str(results), "--data", str(tmp_path), "--weights", str(tmp_path), "--device", "cpu"]
        status = run_all.main(["--id", str(folder), *where, *more])
        found = [json.loads(path.read_text()) for path in results.glob(f"{Path(folder).stem}/records/*/*.json")]
        return status, {(r["row"], r.get("ood", {}).get("name")): r for r in found if r["kind"] != "speed"}

    return go


def made(folder, tmp_path, **options):
    where = Options(data=tmp_path, weights=tmp_path, results=tmp_path / "r", cache=tmp_path / "c", **options)
    return planner.make(folder_suite.asked(str(folder)), where, download=False)


def numbers(records):
    """What may not differ between two runs."""
    return {cell: (r["metrics"], r["thresholds"], r["accuracy"]) for cell, r in records.items()}


def test_every_form_gives_the_same_table(tmp_path, run):
    status, first = run(filled(tmp_path / "one"), *ROWS)
    assert status == 0
    assert {ood for _, ood in first} == {"a", "b"}
    assert all(r["status"] == "done" and r["encoder"] == "features" for r in first.values())
    data = rows(*SETS["id/test"])
    assert first["msp@features", "a"]["accuracy"] == np.mean(data["logits"].argmax(axis=1) == data["labels"])
    assert first["msp@features", "a"]["calibration"] == "seen by the network"
    _, found = run(filled(tmp_path / "two", tensors), *ROWS)
    assert numbers(found) == numbers(first)
    _, found = run(filled(tmp_path / "three", npy, ("embedding", "labels")), *ROWS)  # the head gives the logits
    for cell, (metrics, _, accuracy) in numbers(found).items():
        assert metrics == pytest.approx(first[cell]["metrics"], abs=1e-3)
        assert accuracy == first[cell]["accuracy"]


def test_the_rows_are_all_that_read_no_pixels_and_what_is_not_there_is_skipped(tmp_path):
    planned = made(filled(tmp_path / "mine", keys=("embedding",), head=False), tmp_path)
    labels = {row.spec.label for row in planned.rows}
    assert {"msp@features", "vim@features", "dlsr-mse@features", "constant@features"} <= labels
    assert not any("lowlevel" in label or "glow" in label for label in labels)
    reasons = {row.spec.label: row.reason for row in planned.rows}
    assert reasons["knn@features"] == ""
    assert "which features does not offer" in reasons["msp@features"]
    assert "which features does not offer" in reasons["dlsr-mse@features"]


def test_covariate_shifted_id_counts_as_id(tmp_path, run):
    sets = {**SETS, "covariate/dusk": (30, 4, 0.2)}
    folder = filled(tmp_path / "mine", sets=sets)
    status, found = run(folder, "--methods", "msp")
    assert status == 0
    assert {name: r["ood"]["group"] for (_, name), r in found.items()} == {
        "a": "near", "b": "far", "dusk": "covariate",
    }  # fmt: skip
    for name in ("a", "b"):
        wide = found["msp@features", name]["full_spectrum"]
        assert (wide["sets"], wide["n_id"]) == (["dusk"], 60 + 30)
    shifted = rows(*sets["covariate/dusk"])
    accuracy = np.mean(shifted["logits"].argmax(axis=1) == shifted["labels"])
    assert found["msp@features", "dusk"]["ood_accuracy"] == pytest.approx(accuracy)


def test_without_labels_there_is_no_accuracy(tmp_path, run):
    status, found = run(filled(tmp_path / "mine", keys=("embedding", "logits")), "--methods", "msp", "rmds")
    assert status == 0
    assert found["msp@features", "a"]["accuracy"] is None
    assert found["rmds@features", "a"]["reason"] == "needs labels; the training set has none"


def test_without_logits_they_are_those_of_the_head(tmp_path):
    folder = filled(tmp_path / "mine", keys=("embedding", "labels"))
    (row,) = (row for row in made(folder, tmp_path).rows if row.spec.label == "msp@features")
    job = row.measures["a"].id.images[-1]
    worker = Worker(Store(tmp_path / "c"), device="cpu", batch_size=8)
    job.run(worker)
    logits = worker.store.arrays("encode", job.key)["logits"]
    assert np.allclose(logits, rows(*SETS["id/test"])["logits"], atol=1e-6)


def test_classes_are_matched_by_name_between_train_and_test(tmp_path, run):
    """Texts in another order and number in the two splits: the accuracy is that of the names."""
    folder = filled(tmp_path / "mine")
    arrays = rows(*SETS["id/train"])
    names = np.array(CLASSES)
    npz(folder / "id" / "train", **{**arrays, "labels": names[arrays["labels"]]})
    test = rows(*SETS["id/test"])
    kept = test["labels"] > 0  # no ant: bee is the first of the test set's classes
    npz(
        folder / "id" / "test",
        **{key: values[kept] for key, values in test.items()} | {"labels": names[test["labels"][kept]]},
    )
    _, found = run(folder, "--methods", "msp")
    record = found["msp@features", "a"]
    assert record["accuracy"] == np.mean(test["logits"][kept].argmax(axis=1) == test["labels"][kept])
    assert "in this order: ant, bee, cow" in " ".join(record["footnotes"])


def test_logits_of_other_classes_are_not_used(tmp_path):
    folder = filled(tmp_path / "mine", head=False)
    names = np.array(["a", "b"])
    for split in ("train", "test"):
        arrays = rows(*SETS[f"id/{split}"])
        npz(folder / "id" / split, **{**arrays, "labels": names[arrays["labels"] % 2]})
    reasons = {row.spec.label: row.reason for row in made(folder, tmp_path).rows}
    assert "does not name its 3 classes, and mine has 2" in reasons["msp@features"]
    assert reasons["knn@features"] == ""


FAULTS = {
    "other head": (lambda f: npz(f / "id/head", **{**HEAD, "bias": HEAD["bias"] + 0.01}), "not what the head gives"),
    "half a head": (lambda f: npz(f / "id/head", weight=HEAD["weight"]), "holds no bias, but weight"),
    "wide head": (lambda f: npz(f / "id/head", weight=np.ones((3, 5)), bias=np.ones(3)), "a head for 5 columns"),
    "head of ints": (lambda f: npz(f / "id/head", weight=np.ones((3, D), int), bias=np.ones(3)), "weight is int64"),
    "pickled head": (lambda f: npz(f / "id/head", weight=np.array([{}]), bias=np.ones(3)), "cannot be read as weights"),
    "no test": (lambda f: (f / "id/test.npz").unlink(), "has no test split of its own"),
    "no train": (lambda f: (f / "id/train.npz").unlink(), "has no training split"),
    "images": (
        lambda f: ((f / "id/test.npz").unlink(), images(f / "id/test", "1.png")),
        "holds images, the ID training",
    ),
    "narrow": (lambda f: npz(f / "id/test", embedding=np.ones((9, 4)), logits=np.ones((9, 3))), "has 4 columns, not 8"),
    "bad": (
        lambda f: npz(f / "id/train", embedding=np.full((9, D), np.nan), logits=np.ones((9, 3))),
        "NaN or infinite",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_id_set_is_one_line(fault, tmp_path, run, capsys):
    folder = filled(tmp_path / "mine")
    breaks, said = FAULTS[fault]
    breaks(folder)
    status, found = run(folder, *ROWS)
    told = capsys.readouterr().err.strip()
    assert (status, found) == (1, {})
    assert re.fullmatch(rf"error: .*{re.escape(said)}.*", told)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"embedding": np.ones((9, D))}, None),  # the head gives its logits
        ({"logits": np.ones((9, 3))}, "no embedding, which the suite's encoder `features` offers"),
        ({"embedding": np.ones((9, D)), "logits": np.ones((9, 3))}, "not what the head gives"),
        ({"embedding": np.ones((9, D + 1))}, "shape|columns"),
        ({"embedding": np.full((9, D), np.inf)}, "row 0 .* NaN or infinite"),
    ],
)
def test_a_broken_ood_set_stops_alone(arrays, said, tmp_path, run, capsys):
    folder = filled(tmp_path / "mine")
    npz(folder / "near" / "a", **arrays)
    status, found = run(folder, "--methods", "knn")
    assert status == (said is not None)
    assert {ood for _, ood in found} == ({"a", "b"} if said is None else {"b"})
    if said:
        told = capsys.readouterr().err
        assert re.search(rf"failed: .*a\.npz: .*({said})", told)
        assert told.count("a.npz") == 1  # it is named once


def test_rows_that_are_also_in_the_id_set_are_told(tmp_path):
    folder = filled(tmp_path / "mine", keys=("embedding",), head=False)
    npz(folder / "near" / "a", embedding=np.concatenate([rows(*SETS["id/test"])["embedding"][:5], np.ones((3, D))]))
    (near, _) = made(folder, tmp_path).columns
    assert near.about["notes"] == ["5 of its 8 images are also in the ID test set"]


def test_calibration_images_of_their_own_leave_the_training_set_whole(tmp_path, run):
    folder = filled(tmp_path / "mine")
    npz(folder / "id" / "calibration", **rows(30, 7))
    status, found = run(folder, *ROWS)
    record = found["mahalanobis@features", "b"]
    assert status == 0
    assert (record["train"]["n"], record["thresholds"]["n"]) == (120, 30)
    assert record["calibration"] == "new to the network"
    assert record["train"]["notes"] == ["30 others of a split of their own calibrate"]


def test_without_an_ood_set_there_are_thresholds_and_no_auroc(tmp_path, run, capsys):
    sets = {name: about for name, about in SETS.items() if name.startswith("id")}
    folder = filled(tmp_path / "mine", sets=sets)
    npz(folder / "id" / "calibration", **rows(30, 7))
    status, found = run(folder, *ROWS)
    out = capsys.readouterr().out
    assert status == 0
    assert "There is no OOD set: no AUROC." in out
    record = found["msp@features", None]
    assert record["kind"] == "thresholds"
    score = lambda seed_n: -torch.from_numpy(rows(*seed_n)["logits"]).double().softmax(dim=1).amax(dim=1).numpy()  # noqa: E731
    held, test = np.sort(score((30, 7))), score(SETS["id/test"])
    cell = record["thresholds"]["accepting"]["90"]
    assert cell["id"] == np.mean(test <= held[26])  # 27 of 30 are 90 %
    assert record["thresholds"]["accepting"]["99"] is None
    written = tmp_path / "results" / "mine"
    assert (written / "table.md").read_text().count("| MSP | features |") == 1
    page = (written / "report.html").read_text()
    assert page.count("<details>") == len(found)
    assert f"<bdi>{cell['threshold']:.5g} ({100 * cell['id']:.1f})</bdi>" in page
    assert f"<td>{len(found)}</td>" in (tmp_path / "results" / "index.html").read_text()
    assert run(folder, *ROWS)[0] == 0
    assert "4 reused" in capsys.readouterr().err


def test_names(tmp_path):
    sets = {**SETS, "far/a": (40, 5, 1.0), "near/two words": (40, 6, 1.0)}
    folder = filled(tmp_path / "mine", sets=sets)
    os.rename(folder / "near" / "a.npz", tmp_path / "elsewhere.npz")
    (folder / "near" / "a.npz").symlink_to(tmp_path / "elsewhere.npz")
    planned = made(folder, tmp_path)
    assert [column.name for column in planned.columns] == ["near/a", "two words", "far/a", "b"]
    chosen = made(folder, tmp_path, ood=("two words", "far/a"))
    assert [column.name for column in chosen.columns if column.selected] == ["two words", "far/a"]
    assert planned.suite.id.name == "mine"


def test_links_are_followed_loops_are_cut_and_told(tmp_path):
    folder = filled(tmp_path / "mine")
    images(tmp_path / "photos", "1.png")
    (folder / "near" / "back").symlink_to(folder)
    (folder / "near" / "up").symlink_to(tmp_path)
    (folder / "far" / "notes.txt").write_text("none")
    (folder / "far" / "table.xls").write_text("none")
    images(folder / "far" / ".kept", "1.png")
    (folder / "far" / ".ipynb_checkpoints").mkdir()
    read = folder_suite.asked(str(folder))
    assert [ood.name or ood.set.rpartition("/")[2] for ood in read.ood] == ["a.npz", "b.npz"]
    assert read.notes == (
        "near: left out: links that lead back into it (2); a set is a folder, or a file of features",
        "far: left out: .xls files (1), hidden folders of images (1); a set is a folder, or a file of features",
    )
    assert made(folder, tmp_path).footnotes == tuple(f"{note}." for note in read.notes)


def test_a_suite_comes_first_then_a_file_then_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "digits")
    filled(tmp_path / "mine")
    assert folder_suite.asked("digits").title.startswith("scikit-learn's digits")
    assert folder_suite.asked("./digits").name == "digits@folder"  # its results stand apart
    assert folder_suite.asked("mine").name == "mine"
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        folder_suite.asked("digitz")
    with pytest.raises(UsageError, match="or a folder that is there"):
        folder_suite.asked("./nowhere")
    with pytest.raises(UsageError, match="no folder `id` in it"):
        folder_suite.asked(str(tmp_path))
    (tmp_path / "torn/id").mkdir(parents=True)
    (tmp_path / "torn/id/train.npz").write_bytes(b"PK\3\4")
    with pytest.raises(id_images.BadData, match=r"train\.npz cannot be read as features"):
        folder_suite.asked("torn")


@pytest.mark.parametrize("name", ["mine", "ein Ordner", "no", "1e5", "a+b", "x: y", "é", "..."])
def test_a_written_suite_reads_as_the_folder(name, tmp_path):
    folder = filled(tmp_path / name, sets={**SETS, "far/a": (40, 5, 1.0), "covariate/c": (40, 6, 0.1)})
    file = tmp_path / "there" / "suite.yaml"
    file.parent.mkdir()
    meant = folder_suite.asked(str(folder))
    folder_suite.write(meant, file)
    read = suite.read(str(file))
    assert read.model_dump(exclude={"name"}) == meant.model_dump(exclude={"name"})
    assert str(tmp_path) not in file.read_text()
    with pytest.raises(UsageError, match="there is such a file already"):
        folder_suite.write(meant, file)
    with pytest.raises(UsageError, match="suite is a suite already; name a folder with --id"):
        folder_suite.write(read, tmp_path / "again.yaml")
    with pytest.raises(UsageError, match=r"ends in \.yaml"):
        folder_suite.write(meant, tmp_path / "suite.txt")


def test_write_suite_runs_nothing(tmp_path, run, capsys):
    folder = filled(tmp_path / "mine")
    assert run(folder, "--write-suite", str(tmp_path / "mine.yaml")) == (0, {})
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["id"] == {"set": "./mine/id", "name": "mine"}
    assert run(tmp_path / "mine.yaml", "--methods", "knn")[0] == 0


def test_write_suite_writes_the_users_own_network(tmp_path):
    images(tmp_path / "mine" / "id", "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    own = {"network": "resnet18", "checkpoint": str(tmp_path / "my.pth"), "size": 32}
    meant = with_network(folder_suite.asked(str(tmp_path / "mine")), own)
    folder_suite.write(meant, tmp_path / "suite.yaml")
    read = suite.read(str(tmp_path / "suite.yaml"))
    assert (read.encoders, read.rows) == (meant.encoders, meant.rows)
    assert str(tmp_path) not in (tmp_path / "suite.yaml").read_text()


def test_a_folder_of_images_has_pixels_and_a_public_network(tmp_path):
    names = [f"{split}/{label}/{n}.png" for split in ("train", "test") for label in "ab" for n in range(4)]
    images(tmp_path / "mine" / "id", *names)
    images(tmp_path / "mine" / "far" / "noise", "1.png", "2.png", seed=50)
    planned = made(tmp_path / "mine", tmp_path)
    assert planned.suite.encoders["pixels"].settings == {"resolution": 16}
    on = {row.spec.label for row in planned.rows if not row.reason}
    assert on == {"lowlevel@pixels", "random@pixels", "constant@pixels"}
    assert {"msp@probe", "vim@probe", "knn@imagenet", "dlsr-mse@imagenet"} <= {row.spec.label for row in planned.rows}
    ((what, why),) = planned.absent
    assert what == "encoder imagenet"
    assert re.fullmatch(r"no weights of .* here: put them at .*, or run `hf download .*; or name a network: .*", why)


def test_a_network_of_the_users_takes_the_place_of_the_public_one(tmp_path):
    images(tmp_path / "mine" / "id", "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    spec = EncoderSpec(kind="classifier", settings={"architecture": "resnet8"})
    read = folder_suite.folder_suite(tmp_path / "mine", network=("mine", spec))
    assert list(read.encoders) == ["mine", "pixels"]
    assert {"msp@mine", "knn@mine", "lowlevel@pixels"} <= {row.label for row in read.rows}


def test_an_encoder_of_images_reads_no_features(tmp_path):
    folder = filled(tmp_path / "mine")
    folder_suite.write(folder_suite.asked(str(folder)), tmp_path / "mine.yaml")
    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    content["encoders"]["pixels"] = {"kind": "pixels"}
    content["rows"] = [{"method": "lowlevel", "encoder": "pixels"}, {"method": "knn", "encoder": "features"}]
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(content))
    reasons = {row.spec.label: row.reason for row in made(tmp_path / "both.yaml", tmp_path).rows}
    assert reasons == {"lowlevel@pixels": "pixels reads images; mine holds features", "knn@features": ""}
    with pytest.raises(UsageError, match=r"--resolution id: .* holds features, no images"):
        made(folder, tmp_path, resolution="id")
