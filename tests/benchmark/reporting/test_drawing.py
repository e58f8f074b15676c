from pathlib import Path

import numpy as np
import pytest

from benchmark.records import scores
from benchmark.records.frames import View
from benchmark.records.names import scores_path
from benchmark.records.significance import Pair, Significance
from benchmark.reporting import comparisons, drawing, figures

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

    def run(compared=None, both=None, **more):
        found = [*done("knn", 0.9), *done("msp", 0.8)]
        view = View("toy", "Toy", "Toys", rows, SETS)
        drawing.draw(tmp_path, found, view, compared, both or {}, **{"redraw": False, **more})

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


def test_pdf_beside_png_where_it_is_asked_for(draw, drawn, tmp_path):
    draw(compared())
    draw(compared(), pdf=True)
    assert [name for name, *_ in drawn] == ["critical_difference.png", "critical_difference.pdf"]  # the PNG is there


def test_one_row_and_itself_with_the_other_sign_are_no_comparison_to_draw(draw, drawn):
    draw(Significance({"knn": 0.9}, (), mirrored={"msp": "knn"}))
    draw(Significance({}, ()))
    assert drawn == []


def test_titles_that_stand_twice_are_told_apart():
    assert drawing._distinct({"a": "Photos", "b": "Photos", "c": "Birds"}) == {
        "a": "Photos (a)",
        "b": "Photos (b)",
        "c": "Birds",
    }


@pytest.fixture
def single(monkeypatch):
    """What the figures of single rows were given."""
    calls = []

    def histograms(title, ood, path, **_):
        calls.append((path.name, title, ood))
        path.touch()

    def roc_curves(rows, path):
        calls.append((path.name, rows))
        path.touch()

    monkeypatch.setattr(figures, "histograms", histograms)
    monkeypatch.setattr(figures, "roc_curves", roc_curves)
    return calls


def test_figures_are_drawn_from_scores_else_from_quantiles_else_not(single, tmp_path):
    scored, kept, bare = (
        [{**record, "id": {"n": 5, "name": "toys"}} for record in done(row, 0.75)] for row in ("scored", "kept", "bare")
    )
    for record in kept:
        record["quantiles"] = {"id": [0.0] * 200, "ood": [1.0] * 200}
    values = np.arange(5.0)
    for record in scored:
        for name in ("toys", record["ood"]["name"]):
            path = scores_path(tmp_path, "scored", name, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    view = View("toy", "Toy", "Toys", [(row, row, "net") for row in ("scored", "kept", "bare")], SETS)

    def run():
        single.clear()
        drawing.draw(tmp_path, [*scored, *kept, *bare], view, None, {}, redraw=False)
        return list(single)

    first, second, roc = run()
    assert [first[0], second[0], roc[0]] == ["scored.png", "kept.png", "roc.png"]
    assert list(roc[1]) == ["scored, net", "kept, net"]
    assert all(cell.whole and cell.ids.tolist() == values.tolist() for cell in first[2].values())
    assert all(not cell.whole and len(cell.oods) == 200 and cell.auroc == 0.75 for cell in second[2].values())
    assert run() == []
    for name in ("toys", "dolls", "birds"):  # scores come to what was drawn from quantiles
        path = scores_path(tmp_path, "kept", name, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    assert [name for name, *_ in run()] == ["kept.png", "roc.png"]
    np.save(scores_path(tmp_path, "kept", "dolls", 0), np.arange(4.0))  # of other images: quantiles again
    assert [name for name, *_ in run()] == ["kept.png", "roc.png"]
    assert scores.source(tmp_path, kept[0]) == "quantiles"
