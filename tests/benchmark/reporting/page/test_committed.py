"""Pages of committed results: from their records alone, without data, weights or scores."""

import shutil

import pytest

import run_all
from benchmark import publishing
from benchmark.records import records

FLAGS = "pretrained=tf_efficientnet_lite0+limit=1000+limit-train=5000+quick"
NAMED = ("--pretrained", "tf_efficientnet_lite0", "--limit", "1000", "--limit-train", "5000", "--quick")


@pytest.fixture
def results(tmp_path):
    """Two committed folders, and one of this machine beside them."""
    for name in ("celeba-dlsr", "cifar100-dlsr"):
        shutil.copytree(publishing.PUBLISHED / "cpu" / f"{name}+{FLAGS}", tmp_path / f"{name}+{FLAGS}")
    (tmp_path / "mine" / "records").mkdir(parents=True)
    return tmp_path


def run(results, *more):
    nothing = ("--data", str(results / "none"), "--weights", str(results / "none"))
    return run_all.main(["--redraw", "--results", str(results), "--device", "cpu", *nothing, *more])


def test_every_committed_folder_gets_its_page_and_nothing_else_changes(results, capsys):
    tables = {path: path.read_bytes() for path in results.glob("*/*") if path.is_file()}
    assert run(results) == 0
    pages = sorted(path.parent.name for path in results.glob("*/report.html"))
    assert pages == [f"celeba-dlsr+{FLAGS}", f"cifar100-dlsr+{FLAGS}"]
    index = (results / "index.html").read_text()
    assert index.count("/report.html") == 2
    assert str(results / "index.html") in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tables} == tables


def test_one_is_named_as_its_run_was(results, capsys, read):
    assert run(results, "--id", "celeba-dlsr", *NAMED) == 0
    out = capsys.readouterr().out
    shown = read(results / f"celeba-dlsr+{FLAGS}" / "report.html", "table")
    assert not (results / f"cifar100-dlsr+{FLAGS}" / "report.html").exists()
    assert shown["title"] in out
    details = read(results / f"celeba-dlsr+{FLAGS}" / "report.html", "details")
    done = [cell for of_row in details["cells"].values() for cell in of_row.values() if "scores" in cell]
    assert done
    assert all(cell["scores"] is None for cell in done)  # neither scores nor quantiles are committed


def test_a_damaged_folder_is_told_and_stops_no_other(results, capsys):
    packed = results / f"celeba-dlsr+{FLAGS}" / records.PACKED
    packed.write_bytes(packed.read_bytes()[:400])
    assert run(results) == 1
    err = capsys.readouterr().err
    assert f"failed: {packed.parent}: no result in {records.PACKED}" in err
    assert (results / f"cifar100-dlsr+{FLAGS}" / "report.html").is_file()
    index = (results / "index.html").read_text()
    assert "damaged: records.jsonl.gz, after line" in index
    assert run(results, "--id", "celeba-dlsr", *NAMED) == 1
