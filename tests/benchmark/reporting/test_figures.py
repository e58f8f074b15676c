import itertools
import math
import warnings

import matplotlib
import numpy as np
import pytest
from PIL import Image

from benchmark.canvas import COLOURS, WIDTH
from benchmark.metrics import auroc, fpr_at_tpr, threshold_at_tpr
from benchmark.records.scores import Cell
from benchmark.reporting import figures, speeds

SETS = ["SVHN", "CIFAR-100", "Tiny ImageNet", "LSUN (crop)", "LSUN (resize)", "iSUN", "Textures", "Places365"]
SETS += ["MNIST", "Fashion-MNIST", "KMNIST", "Omniglot", "notMNIST", "A set with a title that is quite long indeed"]


def cell(ids, oods, **more):
    ids, oods = np.asarray(ids, dtype=np.float64), np.asarray(oods, dtype=np.float64)
    return Cell(ids, oods, auroc(ids, oods), fpr_at_tpr(ids, oods), **more)


def scores(seed, shift=1.5, n=400, m=300):
    """A cell: one ID set, and an OOD set of its own."""
    rng = np.random.default_rng(seed)
    return cell(np.random.default_rng(99).normal(size=n), rng.normal(shift, 1.3, m))


def quantiles(whole):
    """A cell as a record keeps it: 200 quantiles at the levels i/199, four significant digits."""

    def kept(values):
        return [float(f"{value:.4g}") for value in np.quantile(values, np.arange(200) / 199)]

    return Cell(np.array(kept(whole.ids)), np.array(kept(whole.oods)), whole.auroc, whole.fpr95, whole=False)


def one(kept):
    (figure,) = kept
    return figure


def densities(axes):
    """Of the ID and of the OOD set: the share that the bars add up to, and their edges."""
    from matplotlib.patches import StepPatch

    data = [patch.get_data() for patch in axes.patches if isinstance(patch, StepPatch)]
    return [float((d.values * np.diff(d.edges)).sum()) for d in data], [d.edges for d in data]


def stated(axes):
    """The shares that a panel says lie beyond its axis, by the colour of the set."""
    found = {figures.ID_COLOUR: 0, figures.OOD_COLOUR: 0}
    for text in axes.texts:
        found[text.get_color()] += int(text.get_text().strip("←→ %")) / 100
    return list(found.values())


def within(figure):
    canvas, tight = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    return canvas.x0 <= tight.x0 <= tight.x1 <= canvas.x1 and canvas.y0 <= tight.y0 <= tight.y1 <= canvas.y1


# Histograms


@pytest.mark.parametrize("n", [1, 2, 4, 14])
def test_a_panel_for_each_set(tmp_path, written, n):
    ood = {name: scores(i, i / 4) for i, name in enumerate(SETS[:n])}
    groups = {name: "near" if i % 2 else "far" for i, name in enumerate(ood)}
    path = tmp_path / "new" / "row.png"
    figures.histograms("KNN, ResNet-18", ood, path, id_title="CIFAR-10", groups=groups)
    figure = one(written)
    assert len(figure.axes) == n
    for axes, (name, values) in zip(figure.axes, ood.items(), strict=True):
        title = " ".join(axes.get_title().split())
        ids, oods = values.ids, values.oods
        figured = f"AUROC {100 * auroc(ids, oods):.1f}, FPR95 {100 * fpr_at_tpr(ids, oods):.1f}"
        assert title == f"{name} ({groups[name]}) {figured}"
        (line,) = axes.lines
        assert line.get_xdata()[0] == threshold_at_tpr(ids)
        assert line.get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["CIFAR-10", "OOD"]
    assert figure.get_suptitle() == "KNN, ResNet-18"
    assert figure.get_layout_engine() is None
    assert figure.get_figwidth() <= WIDTH + 0.1
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == tuple(int(150 * inches) for inches in figure.get_size_inches())
        assert len(image.convert("RGB").getcolors(10**6)) > 50  # not blank


@pytest.mark.parametrize("n", [1, 2, 13])
def test_nothing_is_clipped(tmp_path, laid_out, n):
    ood = {f"{i} A set with a title far longer than any panel": scores(i, i, 5, 5) for i in range(n)}
    figures.histograms("A row with a title " * 9, ood, tmp_path / "a.png", id_title="A long ID title")
    rows = {f"a row {i} with a title that goes on and on and on, on an encoder": ood for i in range(9)}
    figures.roc_curves(rows, tmp_path / "b.png")
    figures.histograms("constant", dict.fromkeys(ood, cell([0.0] * 5, [0.0] * 5)), tmp_path / "c.png")
    assert all(map(within, laid_out))


def test_all_panels_have_one_axis_and_the_same_id_bars(tmp_path, laid_out):
    ood = {"near": scores(1, 0.5), "far": scores(2, 6.0), "beyond": scores(3, 1e6), "few": scores(4, 1, m=5)}
    figures.histograms("row", ood, tmp_path / "a.png")
    panels = one(laid_out).axes
    assert len({axes.get_xlim() for axes in panels}) == 1
    bars = [axes.patches[0].get_data() for axes in panels]
    for other in bars[1:]:
        np.testing.assert_array_equal(other.values, bars[0].values)
        np.testing.assert_array_equal(other.edges, bars[0].edges)
    # by Rice's rule the number of bins goes with the cube root of the number of images: (300 / 5) ** (1 / 3) is 3.9
    many, few = (len(densities(panels[place])[1][1]) for place in (0, 3))
    assert 3 < many / few < 5


def test_densities_and_what_is_stated_beyond_the_axis_make_one(tmp_path, laid_out):
    base = scores(0)
    oods = base.oods.copy()
    oods[:30] = 1e6
    sets = {"x": cell(base.ids, oods), "y": cell(base.ids, base.ids + 1e9), "z": cell(base.ids, base.ids - 1e9)}
    figures.histograms("row", sets, tmp_path / "a.png")
    some, above, below = one(laid_out).axes
    assert [axes.texts[0].get_text() for axes in (some, above, below)] == ["10 % →", "100 % →", "← 100 %"]
    for axes in (some, above, below):
        # below 1 % at each of two ends nothing is stated, and a stated share is rounded
        np.testing.assert_allclose(np.add(densities(axes)[0], stated(axes)), 1, atol=0.02)
        assert axes.get_xlim()[1] < 20
        assert np.ptp(np.percentile(base.ids, [0.5, 99.5])) > 0.2 * np.ptp(axes.get_xlim())
        assert axes.patches[0].get_data().values.max() > 0.2 * axes.get_ylim()[1]


def test_drawn_from_quantiles_a_histogram_has_the_shares_to_one_point(tmp_path, laid_out):
    sets = {name: scores(i, i, n=3000, m=2000) for i, name in enumerate(SETS[:3])}
    figures.histograms("row", sets, tmp_path / "a.png")
    figures.histograms("row", {name: quantiles(one) for name, one in sets.items()}, tmp_path / "b.png")
    for whole, kept, name in zip(laid_out[0].axes, laid_out[1].axes, sets, strict=True):
        assert whole.get_title() == kept.get_title()  # AUROC and FPR95 are the record's
        for number, values in enumerate((sets[name].ids, sets[name].oods)):
            data = kept.patches[number].get_data()
            shares = data.values * np.diff(data.edges)
            exact = np.histogram(values, data.edges)[0] / len(values)
            assert np.abs(np.cumsum(shares) - np.cumsum(exact)).max() < 2 / 199
    notes = ["score quantiles" in " ".join(text.get_text() for text in figure.texts) for figure in laid_out]
    assert notes == [False, True]
    curves = [np.array(figures._curve(one.ids, one.oods)) for one in (sets[SETS[1]], quantiles(sets[SETS[1]]))]
    at = np.linspace(0.005, 1, 50)
    exact, coarse = (np.interp(at, *curve) for curve in curves)
    wide = np.interp(at + 1 / 199, *curves[0]) + 1 / 199, np.interp(at - 1 / 199, *curves[0]) - 1 / 199
    assert (coarse <= wide[0] + 1e-3).all()
    assert (coarse >= wide[1] - 1e-3).all()


@pytest.mark.parametrize(
    ("ids", "oods"),
    [
        ([0.0] * 50, [0.0] * 30),
        ([1e6] * 50, [1e6] * 30),
        ([3.0] * 50, [5.0] * 30),
        ([np.inf] * 50, [np.inf] * 30),
        ([-np.inf, 0, 1], [np.inf, 1, 2]),
        ([1.0], [2.0]),
        ([1 + 1e-16, 1.0], [1.0, 1 - 1e-16]),
        (np.arange(50.0), [7.0] * 30),
    ],
)
def test_odd_scores_are_drawn(tmp_path, laid_out, ids, oods):
    figures.histograms("row", {"x": cell(ids, oods)}, tmp_path / "a.png")
    (axes,) = one(laid_out).axes
    np.testing.assert_allclose(np.add(densities(axes)[0], stated(axes)), 1, atol=0.02)
    assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
    assert axes.get_ylim()[1] > 0


def test_inputs_are_not_modified(tmp_path):
    given = scores(0)
    for array in (given.ids, given.oods):
        array.setflags(write=False)
    figures.histograms("row", {"x": given}, tmp_path / "a.png")
    figures.roc_curves({"row": {"x": given}}, tmp_path / "b.png")


def test_bad_scores_are_errors(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="no OOD scores to draw for row"):
        figures.histograms("row", {}, path)
    for ids, oods, message in (([1.0], [math.nan], "OOD scores.*1 are NaN"), ([], [1.0], "ID scores to draw: 0")):
        with pytest.raises(ValueError, match=message):
            Cell(np.array(ids), np.array(oods), 0.5, 1.0)
    with pytest.raises(ValueError, match="no scores"):
        figures.roc_curves({"row": {}}, path)
    with pytest.raises(ValueError, match="no row"):
        speeds.speed([], path)
    assert not list(tmp_path.iterdir())


# ROC curves


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_a_curve_is_short_and_has_its_area(decimals):
    whole = scores(3, n=5000, m=8000)
    ids, oods = np.round(whole.ids, decimals), np.round(whole.oods, decimals)
    x, y = figures._curve(ids, oods)
    assert len(x) <= figures.CURVE_POINTS
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(auroc(ids, oods), abs=2e-3)


def test_a_curve_by_hand():
    # From the top: 3 (OOD), 2 (ID and OOD at once), 1 (ID).
    assert np.array(figures._curve([1, 2], [2, 3])).T.tolist() == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]
    assert np.array(figures._curve([1, 1], [1])).T.tolist() == [[0, 0], [1, 1]]


def test_the_best_rows_are_coloured_the_others_grey(tmp_path, laid_out):
    rows = {f"row {i}": {name: scores(0, i / 5) for name in SETS[:3]} for i in range(9)}
    rows["easy set only"] = {SETS[0]: cell([0.0, 1.0], [2.0, 3.0])}  # 100, but of one set
    rows["not measured"] = {}
    figures.roc_curves(rows, tmp_path / "roc.png")
    figure = one(laid_out)
    assert [axes.get_title() for axes in figure.axes] == SETS[:3]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.split("  ")[1] for text in legend[:6]] == [f"row {i}" for i in (8, 7, 6, 5, 4, 3)]
    values = [auroc(rows["row 8"][name].ids, rows["row 8"][name].oods) for name in SETS[:3]]
    assert legend[0].startswith(f"{100 * np.mean(values):.1f}  ")
    assert legend[6] == "4 other rows"
    assert [len(axes.lines) for axes in figure.axes] == [2 + 10, 2 + 9, 2 + 9]  # chance, the threshold, the rows
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.5]
    assert len({line.get_color() for line in lines}) == 6


def test_a_panel_shows_what_lies_below_a_tenth_and_the_aurocs(tmp_path, laid_out):
    rows = {"a": {"x": scores(0, 2), "y": scores(1, 1)}, "b": {"x": scores(2, 1), "y": scores(3, 0.5)}}
    figures.roc_curves(rows, tmp_path / "roc.png")
    for axes, name in zip(one(laid_out).axes, "xy", strict=True):
        left, tenth, right = axes.transData.transform([(0, 0), (0.1, 0), (1, 0)])[:, 0]
        assert (tenth - left) / (right - left) == pytest.approx(math.sqrt(0.1))
        shown = {text.get_color(): text.get_text() for text in axes.texts}
        pairs = {COLOURS[place]: rows[row][name] for place, row in enumerate("ab")}
        assert shown == {colour: f"{100 * auroc(one.ids, one.oods):.1f}" for colour, one in pairs.items()}


def test_a_set_on_which_all_coloured_rows_are_perfect_is_named_instead(tmp_path, laid_out):
    far = cell(np.arange(50.0), 100 + np.arange(50.0))
    rows = {f"row {i}": {"far": far, "near": scores(i)} for i in range(3)}
    figures.roc_curves(rows, tmp_path / "a.png")
    figures.roc_curves({"row": {"far": far}}, tmp_path / "b.png")
    assert [[axes.get_title() for axes in figure.axes] for figure in laid_out] == [["near"], ["far"]]
    assert "100.0 there: far." in " ".join(" ".join(text.get_text() for text in laid_out[0].texts).split())


def luminance_and_chroma(colour):
    """CIELAB of an sRGB colour (D65), as CIE 15 has it."""
    rgb = np.array(matplotlib.colors.to_rgb(colour)) if isinstance(colour, str) else colour
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado et al. 2009, severity 1
PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]


@pytest.mark.parametrize("seen", [np.eye(3), np.array(PROTAN), np.array(DEUTAN)])
def test_colours_can_be_told_apart(seen):
    rgb = [(seen @ matplotlib.colors.to_rgb(colour)).clip(0, 1) for colour in COLOURS]
    labs = [luminance_and_chroma(colour) for colour in rgb]
    for (a, one), (b, other) in itertools.combinations(enumerate(labs), 2):
        if figures._DASHES[a] == figures._DASHES[b]:
            assert np.linalg.norm(one - other) > 20, (COLOURS[a], COLOURS[b])


def test_a_figure_of_one_set_and_of_many(tmp_path, laid_out):
    for n in (1, 14):
        figures.roc_curves({"row": {name: scores(0) for name in SETS[:n]}}, tmp_path / f"{n}.png")
    assert [len(figure.axes) for figure in laid_out] == [1, 14]


# Speed


def boxes_of(axes):
    return [matplotlib.text.Text.get_window_extent(text) for text in axes.texts]  # without the leader


@pytest.mark.parametrize("clustered", [False, True])
def test_the_front_is_named_the_rest_numbered_and_nothing_collides(tmp_path, laid_out, clustered):
    rng = np.random.default_rng(4)
    encoders = ("B4", "ResNet-18", "DenseNet", "ViT-S/16", "pixels")
    rows = [
        (f"Method {i} (variant)", (96 if clustered else 60) + 3 * rng.random(), 20 * 2**e * (1 + rng.random()), name)
        for e, name in enumerate(encoders)
        for i in range(8)
    ]
    beaten = {i for i, (_, a, s, _) in enumerate(rows) if any(b > a and t > s for _, b, t, _ in rows)}
    assert set(speeds.front(rows)) == set(range(40)) - beaten
    speeds.speed(rows, tmp_path / "speed.png")
    figure = one(laid_out)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    at = {text.xy: text.get_text() for text in axes.texts}
    assert len(at) == 40
    listed = "\n".join(text.get_text() for text in figure.texts).split("\n")
    for place, (title, value, rate, encoder) in enumerate(rows):
        text = at[rate, value]
        if place in beaten:
            assert f"{text}  {title}, {encoder}  {value:.1f}" in listed
        else:
            assert " ".join(text.split()) == title
    points = axes.transData.transform([(rate, value) for _, value, rate, _ in rows])
    boxes = boxes_of(axes)
    for i, box in enumerate(boxes):
        assert not any(box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9)) for other in boxes[:i])
        assert not any(box.contains(*point) for point in points)
    assert within(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(encoders)
    offsets = np.concatenate([collection.get_offsets() for collection in axes.collections])
    assert sorted(map(tuple, offsets)) == sorted((rate, value) for _, value, rate, _ in rows)


def test_numbers_side_by_side_are_not_one(tmp_path, laid_out):
    """4 and 5 beside each other were read as 45."""
    slow = ((97, 105), (96.3, 103.9), (96.3, 105.5), (95.2, 104.5), (94, 104), (92.2, 101), (91.1, 104.5), (25, 68))
    rows = [(f"row {auroc} {rate}", auroc, rate, "e") for auroc, rate in (*slow, (83, 4500))]
    speeds.speed(rows, tmp_path / "a.png")
    boxes = boxes_of(one(laid_out).axes[0])
    for i, box in enumerate(boxes):
        wider = box.expanded(1 + 4 / box.width, 0.6)  # two pixels to each side
        assert not any(wider.overlaps(other.expanded(1, 0.6)) for other in boxes[:i])


@pytest.mark.parametrize(
    ("rates", "expected"),
    [((1.2, 4), ["1.5", "2", "3"]), ((900, 45000), ["1,000", "2,000", "5,000", "10,000"]), ((0.2, 30), ["0.5", "1"])],
)
def test_speeds_are_written_as_numbers(tmp_path, laid_out, rates, expected):
    speeds.speed([(f"row {rate}", 90.0, rate, "e") for rate in rates], tmp_path / "a.png")
    axis = one(laid_out).axes[0].xaxis
    assert set(expected) <= {label.get_text() for label in axis.get_ticklabels()}


def test_one_row_and_equal_rows(tmp_path, laid_out):
    speeds.speed([("A", 50.0, 0.25, "e")], tmp_path / "a.png")
    speeds.speed([("A", 50.0, 10.0, "e"), ("B", 50.0, 10.0, "e")], tmp_path / "b.png")
    first, second = boxes_of(laid_out[1].axes[0])
    assert not first.overlaps(second)


# Files and global state


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def fail(figure, file, **kwargs):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        speeds.speed([("A", 50.0, 1.0, "e")], path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_not_rewritten(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with path.open("rb") as reader:
        speeds.speed([("A", 50.0, 1.0, "e")], path)
        assert reader.read() == b"before"  # who reads while we write sees the old file whole
    assert path.read_bytes().startswith(b"\x89PNG")


OUTSIDE = [r"costs $5 or $\frac{6$", "数据集 данные مجموعة", "a\tb\nc\udce9\x1b[31m", "x" * 5000, "$$" * 9]


@pytest.mark.filterwarnings("error")
def test_names_from_outside_break_nothing(tmp_path, laid_out):
    """Of sets and rows all at once, then each where a figure has one name: of its row, of the ID set."""
    sets = {name: scores(number) for number, name in enumerate(OUTSIDE)}
    figures.histograms("row", sets, tmp_path / "a.png")
    figures.roc_curves(dict.fromkeys(OUTSIDE, sets), tmp_path / "b.png")
    speeds.speed([(name, 50.0 - n, 1.0 - n / 9, name) for n, name in enumerate(OUTSIDE)], tmp_path / "c.png")
    for number, name in enumerate(OUTSIDE):
        figures.histograms(name, {"b": scores(1)}, tmp_path / f"{number}.png", id_title=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # measuring, here, the boxes of a script that no font has
        assert all(map(within, laid_out))
    shown = [axes.get_title().split("\n")[0] for axes in laid_out[0].axes]
    for number, name in enumerate(OUTSIDE):
        if len(name) < 30 and name.isprintable():
            assert [laid_out[3 + number].get_suptitle(), shown[number]] == [name, name]


def test_a_pdf_has_what_the_png_has(tmp_path, written):
    for ending in ("png", "pdf"):
        speeds.speed([("A", 50.0, 1.0, "e"), ("B", 40.0, 0.5, "e")], tmp_path / f"a.{ending}")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    png, pdf = ([text.get_text() for text in figure.axes[0].texts] for figure in written)
    assert png == pdf


def test_global_state_stays(tmp_path):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums()
    figures.histograms("row", {"x": scores(1)}, tmp_path / "a.png")
    assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == before
