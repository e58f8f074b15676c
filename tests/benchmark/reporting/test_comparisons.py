import itertools

import pytest
from PIL import Image

from benchmark.canvas import canvas
from benchmark.reporting import comparisons

LONG = "Mahalanobis (DLSR's layers), tf_efficientnet_lite0 at 224"


def within(figure):
    """Whether nothing is clipped."""
    sheet, tight = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    return sheet.x0 <= tight.x0 <= tight.x1 <= sheet.x1 and sheet.y0 <= tight.y0 <= tight.y1 <= sheet.y1


def lines(axes, width):
    return [line.get_xydata() for line in axes.lines if line.get_linewidth() == width]


def critical(path, kept, rows, groups):
    comparisons.critical_difference(rows, groups, path)
    figure = kept[-1]
    (axes,) = figure.axes
    leaders, bars = lines(axes, 0.8), lines(axes, 3)
    return figure, axes, leaders, bars


# Critical differences


def test_a_leader_from_each_rows_mean_to_its_title(tmp_path, written):
    rows = [("a", 97.0), ("b", 96.0), ("c", 80.0), ("d", 50.0), ("e", 40.0)]
    _, axes, leaders, bars = critical(tmp_path / "new" / "a.png", written, rows, [(0, 1)])
    labels = {text.get_text().replace("\u00a0", " "): text for text in axes.texts}
    assert list(labels) == ["a  97.0", "b  96.0", "c  80.0", "e  40.0", "d  50.0"]  # right side, then left, from above
    for (words, text), leader in zip(labels.items(), leaders, strict=True):
        (x, top), (corner, y), (edge, _) = leader
        assert (x, top, corner) == (float(words.split()[1]), 0, x)
        assert text.xy == (edge, y)
        right = words[0] in "abc"
        assert edge == axes.get_xlim()[right]
        assert text.get_ha() == ("left" if right else "right")
    ((first, second),) = bars
    assert first[1] == second[1] < min(leader[1][1] for leader in leaders)
    assert first[0] < 96 < 97 < second[0]  # joins a and b, and nothing else
    assert first[0] > 95
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG"


def test_the_best_is_to_the_right_of_an_axis_that_ends_at_100(tmp_path, laid_out):
    _, axes, _, _ = critical(tmp_path / "a.png", laid_out, [("a", 100.0), ("b", 90.0)], [])
    low, high = axes.get_xlim()
    assert low < 90 < high == 100


def test_no_leaders_cross(tmp_path, laid_out):
    rows = [(f"row {place}", 99 - place**1.3) for place in range(11)]
    _, _, leaders, _ = critical(tmp_path / "a.png", laid_out, rows, [])
    for one, other in itertools.permutations(leaders, 2):
        (x, _), (_, y), (edge, _) = one
        (at, _), (_, depth), _ = other
        assert not (min(x, edge) < at < max(x, edge) and depth > y)


def test_bars_that_overlap_are_below_each_other(tmp_path, laid_out):
    rows = [(f"row {place}", 90.0 - place) for place in range(8)]
    _, _, _, bars = critical(tmp_path / "a.png", laid_out, rows, [(0, 2), (1, 3), (3, 4), (5, 7)])
    spans = [(bar[0][0], bar[1][0], bar[0][1]) for bar in bars]
    for (low, high, y), (other_low, other_high, other_y) in itertools.combinations(spans, 2):
        assert y != other_y or high < other_low or other_high < low
    assert len({y for *_, y in spans}) == 2


@pytest.mark.parametrize("n", [2, 40])
def test_long_titles_are_not_clipped(tmp_path, laid_out, n):
    rows = [(LONG if place % 2 else "MSP", 99.0 - place / 4) for place in range(n)]
    figure, axes, _, _ = critical(tmp_path / "a.png", laid_out, rows, [(place, place + 1) for place in range(n - 1)])
    assert within(figure)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_of_many_rows_the_best_are_shown_and_that_is_said(tmp_path, laid_out):
    rows = [(f"row {place}", 90.0 - place) for place in range(50)]
    groups = [(0, 3), (15, 22), (17, 30), (19, 49), (30, 49)]
    _, axes, leaders, bars = critical(tmp_path / "a.png", laid_out, rows, groups)
    assert len(leaders) == 20
    assert min(leader[0][0] for leader in leaders) == 71.0
    assert axes.get_xlabel().endswith("the best 20 of 50 rows")
    assert sorted(round(bar[0][0]) for bar in bars) == [71, 87]  # one is cut, and what it covers is gone


def test_rows_that_are_all_alike(tmp_path, laid_out):
    figure, _, leaders, bars = critical(
        tmp_path / "a.png", laid_out, [("a", 100.0), ("b", 100.0), ("c", 100.0)], [(0, 2)]
    )
    assert within(figure)
    assert len(leaders) == 3
    assert bars[0][0][0] < bars[0][1][0]


def test_one_row_is_no_comparison(tmp_path):
    with pytest.raises(ValueError, match="two rows"):
        comparisons.critical_difference([("a", 90.0)], [], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


# Resolutions


def dots(axes):
    """(x, y) of the dots at ID resolution, and of the hollow ones at native."""
    filled, hollow = (next(c for c in axes.collections if c.get_label() == label) for label in LEGEND)
    assert len(filled.get_facecolor())
    assert not len(hollow.get_facecolor())
    return filled.get_offsets().tolist(), hollow.get_offsets().tolist()


LEGEND = ["at the size of the ID images", "native"]


def test_a_panel_for_each_row_and_a_line_for_each_set(tmp_path, laid_out):
    rows = {"DLSR": {"SVHN": (99.0, 91.0), "Textures": (70.0, 71.0)}, "kNN": {"Textures": (60.0, 50.0)}}
    comparisons.resolution_difference(rows, tmp_path / "a.png")
    (figure,) = laid_out
    dlsr, knn = figure.axes
    assert [dlsr.get_title(), knn.get_title()] == ["DLSR", "kNN"]
    assert [label.get_text() for label in dlsr.get_yticklabels()] == ["SVHN", "Textures"]
    assert dots(dlsr) == ([[91, 0], [71, 1]], [[99, 0], [70, 1]])
    assert dots(knn) == ([[50, 1]], [[60, 1]])
    assert dlsr.get_ylim()[0] > dlsr.get_ylim()[1]  # the first set on top
    assert [text.get_text() for text in figure.legends[0].get_texts()] == LEGEND


@pytest.mark.parametrize(("rows", "sets"), [(1, 1), (5, 4), (8, 13)])
def test_many_panels_are_not_clipped(tmp_path, laid_out, rows, sets):
    names = [f"set {place}" for place in range(sets - 1)] + ["A stand-in with a title that is quite long indeed"]
    table = {f"{LONG} {row}": dict.fromkeys(names, (90.0, 80.0 - row)) for row in range(rows)}
    comparisons.resolution_difference(table, tmp_path / "a.png")
    (figure,) = laid_out
    assert within(figure)
    assert len(figure.axes) == rows
    labels = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(labels))
    assert sum(bool(axes.get_xlabel()) for axes in figure.axes) == min(rows, 4 if rows == 8 else 3)


def test_no_set_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no set"):
        comparisons.resolution_difference({"kNN": {}}, tmp_path / "a.png")


def test_a_figure_replaces_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "a.png").symlink_to(tmp_path / "theirs")
    with canvas(tmp_path / "a.png", (1, 1)) as figure:
        figure.text(0.5, 0.5, "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "a.png").is_symlink()
