"""Records of one suite from two machines, in one folder; where they should be equal and are not, it is told."""

import json
import shutil

import pytest

from benchmark.records import records, score_files
from benchmark.records.merging import difference, merged
from benchmark.store import files

NAME = "mini+limit=30+limit-train=60"


def record(row="knn", key="k", status="done", auroc=0.9, seed=0):
    metrics = {"auroc": auroc, "fpr95": 0.1} if status == "done" else None
    return {"row": row, "ood": {"name": "svhn"}, "key": key, "status": status, "metrics": metrics, "seed": seed}


def cell(one):
    return one["row"]


@pytest.mark.parametrize(
    ("own", "other", "left"),
    [
        ([record()], [record("vim")], ["vim", "knn"]),  # both are shown
        ([record()], [record(auroc=0.8)], ["knn"]),  # ours
        ([record(status="failed")], [record()], ["knn"]),  # a number before none
        ([record()], [record(status="failed")], ["knn"]),
        ([record(key="old")], [record(key="new")], ["knn", "knn"]),  # the plan knows which
        ([record(status="skipped")], [record(status="failed", key="")], ["knn"]),
    ],
)
def test_one_record_a_cell_and_key_and_numbers_before_none(own, other, left):
    found = merged(own, other, cell)
    assert [one["row"] for one in found] == left
    expected = {one["row"] for one in (*own, *other) if one["status"] == "done"}
    assert {one["row"] for one in found if one["status"] == "done"} == expected
    assert found[-1] is own[0] or own[0]["status"] != "done"


def test_differences_are_of_numbers_alone():
    assert difference(record(), record()) == ""
    assert difference(record(), record(status="failed")) == ""
    assert difference(record(), record(auroc=0.8)) == "knn on svhn, seed 0: auroc 0.900000 and 0.800000"


def test_the_records_of_two_machines_lie_in_one_folder(trial, capsys):
    """Each measures two rows, one of them both: all three are shown, and where their numbers differ it is told."""
    rows = ("lowlevel", "random"), ("lowlevel", "constant")
    folders = []
    for number, names in enumerate(rows):
        trial.results = trial.folder / f"machine {number}"
        trial.write(rows=[{"method": name, "encoder": "pixels"} for name in ("lowlevel", "random", "constant")])
        assert trial.run("--methods", *names) == 0
        folders.append(trial.results / NAME)
    shutil.copytree(folders[1], folders[0] / "from" / "b")
    trial.results = trial.folder / "machine 0"

    def redrawn():
        capsys.readouterr()
        assert trial.run("--redraw") == 0
        return " ".join(capsys.readouterr().out.split())

    text = redrawn()
    assert "another machine" not in text.casefold()
    found = records.load(folders[0])[0]
    assert sorted({one["row"] for one in found}) == ["constant@pixels", "lowlevel@pixels", "random@pixels"]
    assert len(found) == 3 * 2
    assert all(one["status"] == "done" and score_files.fit(folders[0], one) for one in found)
    path = folders[0] / "from" / "b" / "records" / "lowlevel@pixels" / "halves.seed0.json"
    other = json.loads(path.read_text())
    other["metrics"]["auroc"] = 0.123
    path.write_text(json.dumps(files.sealed(other)))
    ours = next(one for one in found if (one["row"], one["ood"]["name"]) == ("lowlevel@pixels", "halves"))
    told = f"lowlevel@pixels on halves, seed 0: auroc {ours['metrics']['auroc']:.6f} and 0.123000 in from/b"
    assert records.differing(folders[0]) == [told]
    assert told in redrawn()
    kept = next(one for one in records.load(folders[0])[0] if one["row"] == ours["row"] and one["ood"] == ours["ood"])
    assert kept["metrics"] == ours["metrics"]
