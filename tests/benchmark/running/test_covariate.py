"""Covariate-shifted ID: columns and means with and without it, accuracy on it, and no OOD mean that counts it."""

import csv
import json
from statistics import fmean

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmark.metrics import fpr95_ood, fpr_at_tpr
from datasets.sources import find
from tests.benchmark.conftest import SUITE, Trial

FOLDER = "mini+limit=30+limit-train=60"
ROWS = ["msp@net", "knn@net", "lowlevel@pixels"]
N = 24


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """Digits, inverted, in a folder a class: the last class alone has no images."""
    place = tmp_path_factory.mktemp("sets") / "shifted"
    images = find("digits", "test", None, download=False)
    rows = [row for row in range(len(images)) if images.classes[images.labels[row]] != "9"][:N]
    for row, picture in zip(rows, images.read(rows), strict=True):
        folder = place / images.classes[images.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(picture)).save(folder / f"{row}.png")
    return str(place)


@pytest.fixture(scope="module")
def run(shifted, tmp_path_factory):
    """A run, to look at."""
    trial = Trial(tmp_path_factory.mktemp("run"))
    ood = [*SUITE["ood"], {"set": shifted, "group": "covariate"}]
    trial.write(ood=ood, rows=[SUITE["rows"][0], SUITE["rows"][1], SUITE["rows"][4]], metrics=["auroc", "fpr95_ood"])
    with pytest.MonkeyPatch.context() as patch:  # its page is looked at, not its figures
        patch.setattr("benchmark.reporting.drawing.draw", lambda *what, **how: None)
        patch.setattr("benchmark.reporting.ahead.Ahead.measured", lambda self, row: None)
        assert trial.run("--all-rows", "--columns", "all") == 0
    return trial


def scores(run, row, name):
    return np.load(run.results / FOLDER / "scores" / row / f"{name}.seed0.npy")


def test_ood_sets_are_held_against_id_and_against_all_that_is_id(run):
    records = {(r["row"], r["ood"]["name"]): r for r in run.records().values()}
    assert set(records) == {(row, name) for row in ROWS for name in ("halves", "letters", "shifted")}
    for row in ROWS:
        known, shifted = scores(run, row, "digits"), scores(run, row, "shifted")
        wide = np.concatenate([known, shifted])
        for name in ("halves", "letters"):
            ood, record = scores(run, row, name), records[row, name]
            for ids, numbers in ((known, record["metrics"]), (wide, record["full_spectrum"]["metrics"])):
                labels = np.r_[np.zeros(len(ids)), np.ones(len(ood))]
                assert numbers["auroc"] == pytest.approx(roc_auc_score(labels, np.r_[ids, ood]))
                assert numbers["fpr95_ood"] == fpr95_ood(ids, ood)
                assert numbers["fpr95"] == fpr_at_tpr(ids, ood)
            assert record["full_spectrum"]["sets"] == ["shifted"]
            assert record["full_spectrum"]["n_id"] == 30 + N
        assert "full_spectrum" not in records[row, "shifted"]


def test_means_are_with_and_without_and_never_over_shifted_id(run):
    with (run.results / FOLDER / "table.csv").open() as file:
        lines = {(line["row"], line["ood"]): line for line in csv.DictReader(file)}
    records = {(r["row"], r["ood"]["name"]): r for r in run.records().values()}
    for row in ROWS:
        near, far = records[row, "halves"], records[row, "letters"]
        plain = [100 * record["metrics"]["auroc"] for record in (near, far)]
        wide = [100 * record["full_spectrum"]["metrics"]["auroc"] for record in (near, far)]
        expected = {
            "average near": plain[0], "average far": plain[1], "average": fmean(plain),
            "average fs-near": wide[0], "average fs-far": wide[1], "average full-spectrum": fmean(wide),
            "full-spectrum halves": wide[0], "full-spectrum letters": wide[1],
        }  # fmt: skip
        for name, value in expected.items():
            assert float(lines[row, name]["auroc"]) == pytest.approx(value, abs=0.0051), name
        assert lines[row, "shifted"]["group"] == "covariate"
        assert lines[row, "full-spectrum halves"]["n_id"] == str(30 + N)


def test_accuracy_on_shifted_id_is_told_where_there_are_labels(run):
    records = {(r["row"], r["ood"]["name"]): r for r in run.records().values()}
    found = records["msp@net", "shifted"]["ood_accuracy"]
    assert found * N == pytest.approx(round(found * N))
    assert records["lowlevel@pixels", "shifted"]["ood_accuracy"] is None  # no head
    assert "ood_accuracy" not in records["msp@net", "letters"]
    page = (run.results / FOLDER / "table.md").read_text()
    assert f"on shifted {100 * found:.1f} %." in page
    assert f"Full-spectrum: against ID test and shifted as one ID set ({30 + N} images)." in page
    heads = next(line for line in page.splitlines() if line.startswith("| row"))
    for head in ("shifted<br>(covariate)", "Letters, full-spectrum<br>(fs-far)", "fs-near average"):
        assert head in heads
    assert "shifted, full-spectrum" not in heads
    with (run.results / FOLDER / "table.csv").open() as file:
        (line,) = (x for x in csv.DictReader(file) if (x["row"], x["ood"]) == ("msp@net", "shifted"))
    assert float(line["set_accuracy"]) == pytest.approx(100 * found, abs=0.0051)
    # the head's classes are matched by name: the images are those of digits 0 to 8
    html = (run.results / FOLDER / "report.html").read_text()
    table = json.loads(html.split('id="data-table"', 1)[1].split(">", 1)[1].split("</script>", 1)[0])
    groups = [column["group"] for column in table["columns"]]
    assert groups == ["near", "far", "fs-near", "fs-far", "covariate", *[""] * 6]
    assert next(c for c in table["columns"] if c["ood"] == "average")["over"] == ["halves", "letters"]


def test_a_row_that_cannot_run_is_told_once_for_all_columns(trial, shifted, capsys):
    ood = [*SUITE["ood"], {"set": shifted, "group": "covariate"}]
    rows = [SUITE["rows"][0], {"method": "knn", "encoder": "net", "settings": {"k": 500}}]
    trial.write(ood=ood, rows=rows)
    assert trial.run() == 0
    page = (trial.results / FOLDER / "table.md").read_text()
    (line,) = (line for line in page.splitlines() if "skipped: k is 500" in line)
    assert line.endswith("lower k (kNN)")
