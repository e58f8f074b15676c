"""The table that a newcomer sees: what fits, what stands out, what is left out and where the rest is."""

import json
import re

import pytest

from benchmark import shown
from benchmark.planning.suite import UsageError
from benchmark.records.frames import lines_of
from benchmark.reporting import tables, terminal
from benchmark.reporting.terminal import Look
from tests.benchmark.reporting.test_tables import SETS, result, speed, view, whole

ROWS = ("msp", "knn", "lowlevel", "random")
RECORDS = [
    *whole("msp", 0.90, 0.70, 0.80),
    *whole("knn", 0.91, 0.75, 0.85, fpr95=0.3),
    *whole("lowlevel", 0.60, 0.50, 0.60, fpr95=0.9),
    *whole("random", 0.50, 0.50, 0.50, fpr95=0.95),
    speed("msp", 12345.6),
]


def heads(page):
    """The titles of the columns, as one text."""
    return " ".join(page.split("---")[0].split("\n\n")[1].split())


def names(page):
    return re.findall(r"^  (\w+)", page.split("---")[-1].split("\n\n")[0], re.MULTILINE)


def squeezed(page):
    return " ".join(page.split())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_column_stands_apart(width):
    page = terminal.text(RECORDS, view(ROWS), Look(width=width))
    assert max(map(len, page.splitlines())) <= width
    assert page.count("---\n") == 1  # one block


def test_what_there_is_no_room_for_is_named_and_averages_come_first():
    page = terminal.text(RECORDS, view(ROWS), Look(width=60))
    assert heads(page) == "Dolls (near) far average average"  # of one near set there is no average beside it
    left_out = "Birds, Cars, near average, ID accuracy ↑, images/s ↑"
    assert f"Not shown: {left_out}, for want of width (--columns NAME ..., or all)" in squeezed(page)
    whole_page = terminal.text(RECORDS, view(ROWS), Look(width=200))
    assert "want of width" not in whole_page
    assert "images/s" in heads(whole_page)


def test_the_accuracy_of_an_encoder_stands_beside_its_name_where_its_column_has_no_room():
    assert "ResNet-18 at 32 (ID accuracy 87.5)\n" in terminal.text(RECORDS, view(ROWS), Look(width=60))
    assert "ResNet-18 at 32\n" in terminal.text(RECORDS, view(ROWS), Look(width=200))


@pytest.mark.parametrize(
    ("columns", "shown_heads"),
    [
        (("near",), "Dolls (near) near average"),
        (("far",), "Birds Cars (far) (far) far average"),
        (("average",), "average"),
        (("BIRDS", "accuracy"), "Birds (far) ID accuracy ↑"),
        (("near", "speed"), "Dolls (near) near average images/s ↑"),
    ],
)
def test_named_columns_alone_are_shown_in_their_order(columns, shown_heads):
    terminal.check(columns, view(ROWS))
    assert heads(terminal.text(RECORDS, view(ROWS), Look(columns=columns, width=200))) == shown_heads


def test_columns_that_were_asked_for_are_all_shown_below_each_other():
    page = terminal.text(RECORDS, view(ROWS), Look(columns=("all",), width=60))
    assert max(map(len, page.splitlines())) <= 60
    assert page.count("---\n") == 3  # eight columns, three to a block
    for title in ("Dolls", "Birds", "Cars", "near average", "far average", "ID accuracy", "images/s"):
        assert title in page


def test_a_column_that_is_not_there_names_the_nearest():
    with pytest.raises(UsageError, match="--columns: no column 'brids'; did you mean 'birds'"):
        terminal.check(["brids"], view(ROWS))
    with pytest.raises(UsageError, match="no column 'near'"):
        terminal.check(["near"], view(ROWS, ood=SETS[:1]))


def test_rows_that_check_are_left_out_and_named_unless_they_are_asked_for():
    page = terminal.text(RECORDS, view(ROWS), Look())
    assert names(page) == ["MSP", "KNN"]
    assert "LOWLEVEL, RANDOM, which check harness and sets (--all-rows)." in squeezed(page)
    page = terminal.text(RECORDS, view(ROWS), Look(all_rows=True))
    assert names(page) == ["MSP", "KNN", "LOWLEVEL", "RANDOM"]
    assert "--all-rows" not in page
    only = terminal.text(whole("random", 0.5, 0.5, 0.5), view(["random"]), Look())
    assert names(only) == ["RANDOM"]  # a table has rows


def test_a_control_that_is_best_of_a_shown_column_is_not_hidden():
    records = [*RECORDS, *(result("lowlevel", name, 0.99) for name in ("birds",))]
    assert names(terminal.text(records, view(ROWS), Look(width=200))) == ["MSP", "KNN", "LOWLEVEL"]
    assert names(terminal.text(records, view(ROWS), Look(columns=("near",)))) == ["MSP", "KNN"]


def test_rows_by_average_go_over_encoders_and_have_checks_and_gaps_last():
    records = [
        *whole("msp@a", 0.7, 0.7, 0.7),
        *whole("knn@b", 0.9, 0.9, 0.9),
        *whole("random@a", 1.0, 1.0, 1.0),
        result("vim@b", "birds", 0.99),
        *whole("ebo@a", 0.8, 0.8, 0.8),
    ]
    rows = [("msp@a", "MSP", "A"), ("random@a", "RANDOM", "A"), ("vim@b", "VIM", "B"), ("knn@b", "KNN", "B")]
    there = terminal.View("toy", "Toy", "Toys", [*rows, ("ebo@a", "EBO", "A")], SETS)
    page = terminal.text(records, there, Look(by_average=True, all_rows=True))
    assert names(page) == ["KNN", "EBO", "MSP", "VIM", "RANDOM"] or names(page) == [
        "KNN",
        "EBO",
        "MSP",
        "RANDOM",
        "VIM",
    ]
    assert "  KNN, B " in page
    assert names(terminal.text(records, there, Look(all_rows=True))) == ["MSP", "EBO", "RANDOM", "VIM", "KNN"]


def test_the_best_is_bold_where_a_terminal_can_show_it_and_widths_stay():
    plain, bold = (terminal.text(RECORDS, view(ROWS), Look(bold=bold)) for bold in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[1m91.0*\x1b[0m/ \x1b[1m30.0*\x1b[0m" in bold
    assert re.sub(r"\x1b\[[01]m", "", bold) == plain


def test_a_name_from_outside_cannot_write_to_the_terminal(capsys):
    hostile = view(["msp"], [("birds", "Bi\x1b[1mrds\x1b[2J", "far")])
    hostile = terminal.View("toy", "T\x1b[1m", "Toys", [("msp", "M\x1b[0mSP", "E\x1b[1m")], hostile.ood)
    page = terminal.text([result("msp", "birds")], hostile, Look(bold=True))
    assert "\x1b" not in page  # one row alone is not the best
    assert r"Bi\x1b[1mrds" in page
    with shown.printed():
        shown.show("a \x1b[1mbest\x1b[0m")
        print("b \x1b[1mother")
    assert capsys.readouterr().out == "a \x1b[1mbest\x1b[0m\nb \\x1b[1mother\n"


@pytest.mark.parametrize(
    ("tty", "more", "bold"), [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False)]
)
def test_bold_is_for_terminals_and_the_width_is_theirs(monkeypatch, tty, more, bold):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "97")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    look = terminal.fitting(columns=["near"], all_rows=False, by_average=True)
    assert look == Look(("near",), all_rows=False, by_average=True, width=97, bold=bold)


def test_what_to_open_next_is_what_is_there(tmp_path):
    assert terminal.next_to_open(tmp_path) == ""
    for name in ("table.md", "findings.md", "report.html"):
        (tmp_path / name).touch()
        assert terminal.next_to_open(tmp_path).startswith(f"open next: {tmp_path / name} (")


def test_json_is_the_lines_with_null_for_what_is_not_there():
    def refused(name):
        raise AssertionError(name)

    records = [*RECORDS, result("vim", "birds", status="skipped", reason="no head")]
    text = tables.json(records, view((*ROWS, "vim")))
    lines = json.loads(text, parse_constant=refused)  # NaN and Infinity are no JSON
    assert len(lines) == 5 * (3 + 3)
    assert {tuple(line) for line in lines} == {tuple(next(iter(lines_of(records, view(ROWS)).values())))}
    found = {(line["row"], line["ood"]): line for line in lines}
    assert found["msp", "birds"]["auroc"] == pytest.approx(90)
    assert found["msp", "birds"]["sanity"] is False
    assert found["msp", "birds"]["seeds"] == 1
    assert found["vim", "birds"]["auroc"] is None
    assert found["vim", "birds"]["reason"] == "no head"
    assert found["msp", "birds"]["auroc_std"] is None
