"""What Python decides of the page: numbers, histograms, thresholds, and that nothing in it runs."""

import csv
import html.parser
import json
import re

import numpy as np
import pytest

import run_all
from benchmark import metrics
from benchmark.metrics import METRICS
from benchmark.records.scores import Cell
from benchmark.reporting.page import details, document, report, table


class Parsed(html.parser.HTMLParser):
    """The first table's cells as text; all tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.lines = 0, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.tables += tag == "table"
        if self.tables == 1 and tag == "tr":
            self.lines.append([])
        if self.tables == 1 and tag in ("td", "th"):
            self.lines[-1].append("")

    def handle_endtag(self, tag):
        self.tables += tag == "table"  # what follows is of none

    def handle_data(self, words):
        if self.tables == 1 and self.lines and self.lines[-1]:
            self.lines[-1][-1] += words


def test_the_numbers_are_those_of_the_csv_cell_by_cell(make, read):
    made = make()
    made.fail("vim@net", "cars")
    page = made.write()
    shown = read(page, "table")
    rows = {row["row"]: row for row in shown["rows"]}
    places = {column["ood"]: place for place, column in enumerate(shown["columns"])}
    with (made.folder / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows) * len(places)
    for line in lines:
        cell = rows[line["row"]]["cells"][places[line["ood"]]]
        assert cell["status"] == line["status"]
        for metric in METRICS:
            value, text, *_ = cell["figures"][metric.name]
            assert value == line[metric.name]
            assert text == "" or abs(float(text) - float(value)) <= 0.0551


def test_the_table_is_whole_without_scripts_in_the_order_of_the_suite(make):
    made = make()
    made.fail("vim@net", "cars")
    head, *lines = ([" ".join(cell.split()) for cell in line] for line in Parsed(made.write().read_text()).lines)
    assert head[2:] == [
        "Near <set> near 150 of 1,000",
        "Birds far 160 of 1,000",
        "Cars & co far 170 of 1,000",
        "near average",
        "far average",
        "average",
    ]
    assert [line[0] for line in lines] == list(made.rows)
    for line in lines:
        for (name, _, _), cell in zip(made.sets, line[2:], strict=False):
            record = made.record(line[0], name)
            if record["status"] == "done":
                assert re.match(r"\d+\.\d", cell)[0] == f"{100 * record['metrics']['auroc']:.1f}"
    (vim,) = (line for line in lines if line[0] == "vim@net")
    assert vim[4:] == ["failed [1]", f"{vim[2].split()[0]} {vim[2].split(maxsplit=1)[1]}", "–", "–"]
    assert "published 75.5 " in lines[0][3]


def test_what_is_not_the_set_of_that_name_says_so_in_its_head(make):
    made = make()
    for record in made.found:
        if record["ood"]["name"] == "birds":
            record["ood"] |= {"stands_in_for": "Planes", "notes": ["drawn by hand"]}
    parsed = Parsed(made.write().read_text())
    assert " ".join(parsed.lines[0][3].split()) == "Birds far 160 of 1,000 stands in for Planes"
    heads = [attributes.get("title") for tag, attributes in parsed.tags if tag == "th" and attributes["scope"] == "col"]
    assert heads[3] == "Birds: stands in for Planes, and is not it; drawn by hand."
    assert not heads[2]


def test_a_mean_with_a_missing_cell_says_why(make, read):
    made = make()
    made.fail("vim@net", "cars")
    shown = read(made.write(), "table")
    average = shown["rows"][1]["cells"][-1]
    assert average["status"] == "incomplete"
    assert average["why"] == "measured on 2 of 3 OOD sets"


@pytest.mark.parametrize("whole", [True, False])
def test_shares_at_every_threshold_are_those_of_the_scores(whole):
    rng = np.random.default_rng(1)
    cell = Cell(rng.normal(size=500).round(2), rng.normal(1.5, size=700).round(2), 0.8, 0.5, whole=whole)
    drawn = details.drawn(cell)
    assert len(drawn["thresholds"]) <= details.POINTS <= 200
    assert drawn["thresholds"] == sorted(set(drawn["thresholds"]))
    for threshold, accepted, missed in zip(drawn["thresholds"], drawn["accepted"], drawn["missed"], strict=True):
        assert accepted == (cell.ids <= threshold).sum()
        assert missed == (cell.oods <= threshold).sum()
    at95 = drawn["at95"]
    assert drawn["thresholds"][at95] == metrics.threshold_at_tpr(cell.ids)
    assert drawn["missed"][at95] / 700 == metrics.fpr_at_tpr(cell.ids, cell.oods)
    assert [sum(side) for side in drawn["histogram"]] == [500, 700]
    flagged = 1 - np.array([drawn["accepted"], drawn["missed"]]) / [[500], [700]]
    x, y = np.concatenate([[[1], [1]], flagged, [[0], [0]]], axis=1)[:, ::-1]
    assert np.trapezoid(y, x) == pytest.approx(metrics.auroc(cell.ids, cell.oods), abs=0.01)


@pytest.mark.parametrize(
    ("ids", "oods"),
    [([0.0, 0.0], [0.0]), ([1.0], [2.0]), ([-np.inf, 1, 2], [np.inf, 1]), ([np.inf], [np.inf]), ([1e300, 0], [1e-300])],
)
def test_odd_scores_are_drawn(ids, oods):
    drawn = details.drawn(Cell(np.array(ids), np.array(oods), 0.5, 1.0))
    json.dumps(drawn, allow_nan=False)
    assert [sum(side) for side in drawn["histogram"]] == [len(ids), len(oods)]


def test_without_scores_a_cell_is_drawn_from_quantiles_and_says_so(make, read):
    made = make(scores=False)
    cell = read(made.write(), "details")["cells"]["msp@net"]["birds"]["scores"]
    assert cell["whole"] is False
    assert cell["counts"] == [200, 200]
    assert cell["n"] == [200, 160]


def test_a_record_without_scores_or_quantiles_keeps_its_table(make, read):
    made = make(scores=False)
    for record in made.found:
        record.pop("quantiles")
    page = made.write()
    cell = read(page, "details")["cells"]["msp@net"]["birds"]
    assert cell["scores"] is None
    parts = read(page, "details")["parts"]
    assert parts[cell["record"]["command"]] == "run_all.py --id toy"
    assert parts[cell["record"]["hyper-parameters"]] == "k 5, of row"


def test_a_record_is_words_with_few_digits(make):
    record = make().record("msp@net", "birds") | {
        "hyperparameters": {"lr": 0.0001, "measures": ["mse", None], "of": {"power": 1 / 3}, "left": None},
        "footnotes": ["one.", "two."],
        "thresholds": {"n": 50, "accepting": {"95": {"threshold": 12.3456789012345, "id": 0.95}}},
    }
    told = details.told(record)
    assert told["hyper-parameters"] == "lr 0.0001, measures (mse; None), of (power 0.33333)"
    assert told["thresholds"] == "n 50, accepting (95 (threshold 12.346, id 0.95))"
    assert told["ID set"] == "title Toys, name toys, split test, n 200, of 200"
    assert told["notes"] == "one; two"
    assert "precision" not in told


def test_pairs_have_the_interval_that_their_test_has(make, read):
    made = make()
    shown = read(made.write(), "table")
    assert len(shown["pairs"]) == 6
    for a, b, difference, _, differs, low, high in shown["pairs"]:
        means = [
            np.mean([100 * made.record(row, name)["metrics"]["auroc"] for name, *_ in made.sets]) for row in (a, b)
        ]
        assert float(difference) == pytest.approx(means[0] - means[1], abs=0.006)
        if low:
            assert float(low) <= float(difference) <= float(high)
            assert not differs or float(low) > 0  # a corrected p is no smaller than the pair's own


def test_the_reach_of_a_difference_inverts_its_test():
    # |d| / se = 1.96 is p = .05, so that the interval ends at 0
    assert table.reach_of(2.0, 0.05) == pytest.approx(2.0)
    assert table.reach_of(3.0, 0.0026998) == pytest.approx(1.959964, rel=1e-4)  # three standard errors of 1
    assert table.reach_of(0.0, 1.0) is None


def test_bounds_of_several_seeds_hold_their_spread():
    # t(0.975, 1) = 12.7062; 2 / sqrt(2) = 1.41421: a spread of 17.969, and 3 beside it
    line = {"auroc": 80.0, "auroc_low": 77.0, "auroc_high": 82.0, "auroc_std": 2.0, "seeds": 2}
    low, high = table.bounds(line, "auroc")
    assert low == pytest.approx(80 - (9 + 17.969**2) ** 0.5, abs=1e-2)
    assert high == pytest.approx(80 + (4 + 17.969**2) ** 0.5, abs=1e-2)


def test_names_from_outside_are_words_and_nothing_else(make, read, nasty):
    rows = {f"{name}@net": 1.0 for name in nasty}
    sets = tuple((name, name, "far") for name in nasty)
    made = make(rows=rows, sets=sets, names={row: row for row in rows})
    made.fail(next(iter(rows)), nasty[0], reason=nasty[0])
    page = made.write()
    text = page.read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert [a for tag, a in parsed.tags if tag == "img"] == []
    assert all(not name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
    assert [each.get("id") for each in scripts if each] == [
        "data-start",
        "data-table",
        "data-details",
        "data-plots",
        "plotly",
    ]
    assert len([each for each in scripts if not each]) == len(report._SCRIPTS)
    assert "\u202e" not in text
    assert [row["title"] for row in read(page, "table")["rows"]][3] == f"{'x' * 300}@net"


def test_only_the_hashes_of_these_scripts_may_run(make):
    text = make().write().read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)[1].replace("&#39;", "'")
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["img-src"] == "data:"
    inline = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert set(parts["script-src"].split()) == {
        f"'sha256-{document._hash(each)}'" for each in (*inline, document.plotly())
    }


def test_json_closes_no_script():
    assert document.island({"</script>": "<!--\u202e"}) == '{"\\u003c/script>":"\\u003c!--\\\\u202e"}'
    with pytest.raises(ValueError, match="JSON"):
        document.island(float("nan"))


def test_a_run_writes_its_page_and_redraw_writes_it_anew(trial, drawn, monkeypatch, capsys):
    assert trial.run("--methods", "msp") == 0
    page = trial.results / "mini+limit=30+limit-train=60" / "report.html"
    first = page.read_text()
    page.unlink()
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert run_all.main(trial.arguments("--redraw", "--open")) == 0
    assert page.read_text() == first
    assert opened == [page.as_uri()]


def test_a_mark_and_a_flag_stay_on_one_line():
    assert document._glued("Digits, blurred †") == "Digits, blurred\u00a0†"
    said = 'run_all.py --id "a<b" --quick, x--y'
    quick, id = ('<span class="flag">--quick</span>', '<span class="flag">--id</span>')
    assert document._flagged(said) == f"run_all.py {id} &#34;a&lt;b&#34; {quick}, x--y"
