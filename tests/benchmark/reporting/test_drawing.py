from pathlib import Path

import pytest

from benchmark.records.frames import View
from benchmark.records.significance import Pair, Significance
from benchmark.reporting import comparisons, drawing

SETS = (("dolls", "Dolls", "near"), ("birds", "Birds", "far"))
CRITICAL, RESOLUTION = "figures/critical_difference.png", "figures/resolution.png"


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: the name of the file and what the figure was given; the files hold nothing."""
    calls = []
    for name in ("critical_difference", "resolution_difference"):

        def draw(*given):
            calls.append((given[-1].name, *given[:-1]))
            Path(given[-1]).touch()

        monkeypatch.setattr(comparisons, name, draw)
    return calls


def failed(row):
    """A row of which the records tell nothing but what it is."""
    about = {"kind": "result", "row": row, "method": row, "encoder": "net", "status": "failed", "reason": "", "seed": 0}
    return [{**about, "ood": {"name": name}, "key": row} for name, _, _ in SETS]


def done(row, value):
    """The records of a measured row, without scores: figures that need these are not asked for."""
    names = ("auroc", "fpr95", "fpr95_ood", "aupr_ood", "aupr_id")
    numbers = {"metrics": dict.fromkeys(names, value), "intervals": {name: [value, value] for name in names[:2]}}
    more = {"id": {"n": 5}, "accuracy": None, "status": "done", **numbers}
    return [{**record, **more, "ood": {**record["ood"], "n": 5}} for record in failed(row)]


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws what compares rows, and nothing of single rows."""
    monkeypatch.setattr(drawing._Results, "figures", lambda self: iter(()))
    rows = [("knn", "kNN", "net"), ("msp", "MSP", "other net")]

    def run(compared=None, both=None, *, redraw=False):
        found = [*done("knn", 0.9), *done("msp", 0.8)]
        drawing.draw(tmp_path, found, View("toy", "Toy", "Toys", rows, SETS), compared, both or {}, redraw=redraw)

    return run


def compared(p=0.4):
    return Significance({"knn": 0.9, "msp": 0.8}, (Pair("knn", "msp", 0.1, p, p),))


BOTH = {"msp": {"birds": (90.0, 80.0)}, "knn": {"dolls": (70.0, 60.0), "birds": (99.0, 98.0)}, "gone": {}}


def test_only_what_there_is_to_compare_is_drawn(draw, drawn, tmp_path):
    draw()
    assert drawn == []
    draw(compared(), BOTH)
    assert [(tmp_path / path).is_file() for path in (CRITICAL, RESOLUTION)] == [True, True]
    rows = [("kNN, net", 90.0), ("MSP, other net", 80.0)]
    both = {"kNN, net": {"Dolls": (70.0, 60.0), "Birds": (99.0, 98.0)}, "MSP, other net": {"Birds": (90.0, 80.0)}}
    assert drawn == [("critical_difference.png", rows, [(0, 1)]), ("resolution.png", both)]
    assert list(drawn[1][1]) == list(both)  # the best row first


def test_rows_that_differ_have_no_bar(draw, drawn):
    draw(compared(p=0.01))
    ((_, _, groups),) = drawn
    assert groups == []


def test_a_figure_is_drawn_again_only_where_its_numbers_changed(draw, drawn, tmp_path):
    for both in (BOTH, BOTH, {**BOTH, "msp": {"birds": (90.0, 81.0)}}):
        draw(compared(), both)
    assert [name for name, *_ in drawn] == ["critical_difference.png", "resolution.png", "resolution.png"]
    (tmp_path / CRITICAL).unlink()
    draw(compared(), both)
    assert drawn[-1][0] == "critical_difference.png"
    assert len(drawn) == 4
    draw(compared(), both, redraw=True)
    assert len(drawn) == 6
