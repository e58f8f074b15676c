"""Records and score files: what is read is what was written, under its own name, or it is left out and named."""

import gzip
import hashlib
import json
import os
import re
import time
from itertools import combinations

import numpy as np
import pytest

from benchmark.records import fitting, provenance, records, score_files
from benchmark.records.names import folder_name, safe_name, scores_path
from benchmark.store import files

SET = {"name": "birds", "title": "Birds", "split": "test", "n": 4, "of": 4, "notes": []}
NUMBERS = dict.fromkeys(("auroc", "fpr95", "fpr95_ood", "aupr_ood", "aupr_id"), 0.5)


def record(row="knn@net", seed=0, **more):
    about = {
        "suite": "toy", "row": row, "title": "kNN", "method": "knn", "encoder": "net", "encoder_title": "Net",
        "hyperparameters": {"k": 5}, "seed": seed, "random_fit": False, "resolution": "native",
        "id": {**SET, "name": "dogs"}, "train": SET, "footnotes": [],
        "ood": {**SET, "group": "far", "stands_in_for": None},
    }  # fmt: skip
    numbers = {"metrics": NUMBERS, "intervals": {"auroc": [0.4, 0.6], "fpr95": [0.4, 0.6]}}
    return records.result(about, "k", "done", **{**numbers, "provenance": {"date": "2026-11-01"}, **more})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "toy"


def write(folder, content):
    path = records.place(folder, content)
    records.write(path, content)
    return path


def test_a_record_comes_back_with_its_checksum(folder):
    path = write(folder, record())
    found = records.read(path)
    expected = {name: value for name, value in found.items() if name != "checksum"}
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"))
    assert found["checksum"] == hashlib.sha256(text.encode()).hexdigest()
    assert expected == record()


@pytest.mark.parametrize("settled", [0, files.SETTLED])
def test_a_record_is_parsed_again_only_where_its_file_changed(folder, monkeypatch, settled):
    """A file of a moment ago is not trusted to show by its times that it changed."""
    parsed, before = [], files.read_sealed
    monkeypatch.setattr(files, "SETTLED", settled)
    monkeypatch.setattr(files, "read_sealed", lambda path: parsed.append(path) or before(path))
    path = write(folder, record())
    first = records.read(path)
    first["metrics"]["auroc"] = 0.0  # of whoever reads it
    assert records.read(path)["metrics"]["auroc"] == 0.5
    assert len(parsed) == (2 if settled else 1)
    write(folder, {**record(), "reason": "another"})
    assert records.read(path)["reason"] == "another"
    path.write_text("{")
    assert records.read(path) is None
    path.unlink()
    assert records.read(path) is None


def test_a_record_is_a_line_for_each_field(folder):
    path = write(folder, record())
    first, *fields, last = path.read_text().splitlines()
    assert (first, last) == ("{", "}")
    assert [json.loads(f"{{{field.removesuffix(',')}}}") for field in fields] == [
        {name: value} for name, value in sorted(records.read(path).items())
    ]


def test_every_flipped_bit_of_a_record_is_found(folder):
    path = write(folder, record())
    content, good = path.read_bytes(), records.read(path)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        found, left_out = records.load(folder)
        assert found == [good] or (found == [] and len(left_out) == 1), place  # a space for a tab changes nothing


@pytest.mark.parametrize("kind", ["fifo", "folder", "deep", "huge", "other cell", "no checksum", "other form", "NaN"])
def test_a_record_that_does_not_fit_is_left_out_and_named(folder, kind):
    path = write(folder, record())
    content = records.read(path)
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "deep":
        path.write_text('{"a":' * 100_000)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 1 << 40)
    elif kind == "other cell":
        records.write(path, record(row="msp@net"))
    elif kind == "no checksum":
        path.write_text(json.dumps(record()))
    elif kind == "other form":
        records.write(path, {**content, "metrics": {"auroc": "high"}})
    else:
        records.write(path, {**content, "metrics": {**NUMBERS, "auroc": float("nan")}})
    assert records.read(path) is None
    assert records.fault(path)
    found, left_out = records.load(folder)
    assert found == []
    assert [line for line in left_out if "birds.seed0.json" in line]
    records.write(path, record())
    assert records.fault(path) == ""


def test_an_old_record_gets_the_metric_that_it_lacks_from_its_scores_or_goes_without(folder):
    known, ood = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.35, 0.5, 0.6])
    old = record(metrics={name: value for name, value in NUMBERS.items() if name != "fpr95_ood"})
    write(folder, old)
    (found,) = records.load(folder)[0]
    assert "fpr95_ood" not in found["metrics"]
    for side, scores in (("id", known), ("ood", ood)):
        score_files.save(scores_path(folder, "knn@net", old[side]["name"], 0), scores)
    (found,) = records.load(folder)[0]
    assert found["metrics"]["fpr95_ood"] == 0.5  # .3 and .4 are not below .25, where the last OOD image is flagged
    assert {name: found["metrics"][name] for name in old["metrics"]} == old["metrics"]


def test_a_packed_file_that_unpacks_without_end_is_bounded(folder):
    folder.mkdir()
    line = json.dumps(record()).encode() + b"\n"
    sealed = json.dumps(json.loads(line) | {"checksum": "0"}).encode() + b"\n"
    for content in (b"x" * (3 << 20), b"[" * 100_000, sealed):
        (folder / records.PACKED).write_bytes(gzip.compress(content))
        found, left_out = records.load(folder)
        assert (found, len(left_out)) == ([], 1)
    (folder / records.PACKED).write_bytes(gzip.compress(b"\n" * (8 << 20)))  # took minutes, and a note of gigabytes
    found, left_out = records.load(folder)
    assert (found, len(left_out)) == ([], records.TOLD + 2)
    assert left_out[-2:] == [
        f"{records.PACKED}, after line 131072: it is too long",
        f"{records.PACKED}: 131,052 other lines",
    ]
    write(folder, record())
    records.pack(folder, folder / records.PACKED)
    whole = (folder / records.PACKED).read_bytes()
    records.place(folder, record()).unlink()
    assert len(records.load(folder)[0]) == 1
    (folder / records.PACKED).write_bytes(whole[: len(whole) // 2])
    assert len(records.load(folder)[1]) == 1


NAMES = ["my photos", "my_photos", "a b", "a_b", "a/images", "b/images", "images", "Photos", "photos", "../../x",
         "x" * 300, "x" * 301, "é", "e\u0301", "\udcff", "..", "", ".hidden", "con:", "a~b"]  # fmt: skip


def test_no_two_names_share_a_file_on_any_file_system():
    files = {name: safe_name(name) for name in NAMES}
    assert all(a.lower() != b.lower() for a, b in combinations(files.values(), 2))
    for name, file in files.items():
        assert re.fullmatch(r"[A-Za-z0-9_@=+][\w.@=+~-]*|~\w+", file, re.ASCII), file
        assert len(file) < 120
        assert safe_name(file) == file or "~" in file
        assert (file == name) is (re.fullmatch(r"[a-z0-9_]+", name, re.ASCII) is not None and len(name) <= 100)


def test_a_suites_name_leads_nowhere_else():
    assert folder_name("cifar10-dlsr") == "cifar10-dlsr"
    assert folder_name("My suite") == "My suite"
    for name in ("../../x", "/etc", "a/b", ".", "..", "digits+quick", "a=b"):
        assert re.fullmatch(r"[\w~-]+", folder_name(name)), name


def test_scores_are_held_against_their_record(folder):
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    paths = {side: scores_path(folder, "knn@net", name, 0) for side, name in (("id", "dogs"), ("ood", "birds"))}
    hashes = {side: score_files.save(path, scores) for side, path in paths.items()}
    about = record(scores=hashes)
    np.testing.assert_array_equal(score_files.read(folder, about, "ood"), scores)
    assert score_files.fit(folder, about)
    content = paths["ood"].read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        paths["ood"].write_bytes(bytes(damaged))
        assert not score_files.fit(folder, about)


@pytest.mark.parametrize("settled", [0, files.SETTLED])
def test_scores_are_read_again_only_where_their_file_changed(folder, monkeypatch, settled):
    """A file of a moment ago is not trusted to show by its times that it changed."""
    looked, before = [], score_files.read_regular
    monkeypatch.setattr(files, "SETTLED", settled)
    scores = np.arange(4, dtype=np.float32)
    about = record()
    paths = {side: score_files.path_of(folder, about, side) for side in score_files.SIDES}
    about["scores"] = {side: score_files.save(path, scores) for side, path in paths.items()}
    monkeypatch.setattr(score_files, "read_regular", lambda path, limit: looked.append(path) or before(path, limit))
    assert [score_files.fit(folder, about) for _ in range(3)] == [True] * 3
    assert len(looked) == (6 if settled else 2)
    assert not score_files.fit(folder, {**about, "scores": {**about["scores"], "ood": "0" * 64}})
    content = bytearray(paths["ood"].read_bytes())
    content[-1] ^= 1
    with paths["ood"].open("r+b") as file:
        file.write(content)
    assert not score_files.fit(folder, about)
    paths["id"].unlink()
    assert not score_files.fit(folder, about)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((4, 1)), np.array([1, 2, 3, np.nan]), np.zeros(4, dtype=int)])
def test_other_shapes_and_kinds_are_no_scores(folder, values):
    path = scores_path(folder, "knn@net", "birds", 0)
    path.parent.mkdir(parents=True)
    np.save(path, values)
    with pytest.raises(ValueError, match=r"birds\.seed0\.npy"):
        score_files.read(folder, record(), "ood")


def test_pickled_and_structured_scores_are_not_loaded(folder):
    path = scores_path(folder, "knn@net", "birds", 0)
    path.parent.mkdir(parents=True)
    for values in (np.array([{}] * 4, dtype=object), np.zeros(4, dtype=[("a", "f8")])):
        np.save(path, values, allow_pickle=True)
        with pytest.raises(ValueError, match=r"birds\.seed0\.npy"):
            score_files.read(folder, record(), "ood")
    path.unlink()
    os.mkfifo(path)
    started = time.monotonic()
    with pytest.raises(ValueError, match="fifo"):
        score_files.read(folder, record(), "ood")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("count", [1, 2, 3, 199, 1000])
def test_quantiles_are_numpys_to_four_digits(count):
    scores = np.random.default_rng(0).normal(size=count)
    found = score_files.quantiles(scores)
    assert len(found) == 200
    expected = np.quantile(scores, np.arange(200) / 199)
    np.testing.assert_allclose(found, expected, rtol=5e-4)


def test_quantiles_far_from_0_differ():
    scores = np.random.default_rng(0).normal(size=1000)
    far = score_files.quantiles(scores + 1e6)  # four digits of the value alone would show one number
    np.testing.assert_allclose(np.array(far) - 1e6, np.quantile(scores, np.arange(200) / 199), atol=1e-3)


def test_quantiles_of_infinities_and_of_one_value():
    assert score_files.quantiles(np.array([1.0, np.inf]))[-1] == np.inf
    both = np.array(score_files.quantiles(np.array([np.inf, 0.0, -np.inf, np.inf, -np.inf])))
    assert both[0] == -np.inf
    assert both[-1] == np.inf
    assert not np.isnan(both).any()
    assert set(score_files.quantiles(np.full(5, 0.5))) == {0.5}


def of(weights, date, ood="o", row="knn@net", **more):
    depends = {"encoder": {"kind": "file", "weights": weights}, "id": "i", "ood": ood, "train": None, **more}
    return record(row=row, depends=depends, provenance={"date": date})


def test_after_a_checkpoint_was_replaced_the_old_networks_numbers_are_left_out():
    old, new = of("old", "2026-11-01"), of("new", "2026-11-02", row="msp@net")
    assert fitting.split([old, new], {}) == ([new], [old])
    present = dict(fitting.parts(of("old", "")))
    assert fitting.split([old, new], present) == ([old], [new])


def test_two_folders_of_one_name_are_not_one_column():
    a, b = of("w", "2026-11-01", ood="a"), of("w", "2026-11-02", ood="b", row="msp@net")
    assert fitting.split([a, b], {}) == ([b], [a])


def test_seeds_of_a_trained_encoder_stand_beside_each_other_and_older_records_tell_less():
    def trained(seed):
        training = {"data": "d", "seed": seed}
        return {**of(None, "2026-11-01"), "seed": seed} | {
            "depends": {"encoder": {"kind": "net", "training": training}, "id": "i"}
        }

    older = record(provenance={"date": "2026-10-01", "encoder": {"kind": "net"}, "data": {"id": "i", "ood": "o"}})
    found = [trained(0), trained(1), older]
    assert fitting.split(found, {}) == (found, [])


def test_files_of_several_seeds_stand_beside_each_other_and_one_that_was_replaced_does_not():
    def of_seed(seed, weights, date, row="msp@net"):
        about = {"encoder": {"kind": "net", "weights": weights, "of_seed": seed}, "id": "i"}
        return {**of(None, date, row=row), "seed": seed, "depends": about}

    first, second = of_seed(0, "a", "2026-11-01"), of_seed(1, "b", "2026-11-01")
    assert fitting.split([first, second], {}) == ([first, second], [])
    replaced = of_seed(1, "c", "2026-11-02", row="knn@net")
    assert fitting.split([first, second, replaced], {}) == ([first, replaced], [second])
    one_for_all = of("a", "2026-11-03")
    assert fitting.split([first, second, one_for_all], {}) == ([one_for_all], [first, second])


def test_a_command_and_a_packed_reason_keep_no_folder_of_the_machine(folder):
    words = ["run_all.py", "--data", "/home/me/data", "--results=/tmp/r", "--ood", "/my photos/cats", "../x", "a=b"]
    told = "run_all.py --data .../data --results=.../r --ood .../cats ../x a=b"
    assert provenance.portable(words) == told
    for text, kept in {
        "fit knn: /tmp/x/y.npy: no space": "fit knn: .../y.npy: no space",
        "no images/s of b/images: see https://a.b/c/d": "no images/s of b/images: see https://a.b/c/d",
        "(/data/a) and '/data/b'": "(.../a) and '.../b'",
    }.items():
        assert provenance.without_folders(text) == kept
    write(folder, {**record(), "status": "failed", "reason": "fit knn: /tmp/x/y.npy: no space"})
    (folder / "packed").mkdir()
    records.pack(folder, folder / "packed" / records.PACKED)
    (found,), left_out = records.load(folder / "packed")
    assert (found["reason"], left_out) == ("fit knn: .../y.npy: no space", [])
